//! Where a request goes: subscription, group, type, name. ARM compares all of it without regard to case.

/// A path below `/subscriptions/…`, in the caller's own spelling.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    pub subscription: String,
    pub group: Option<String>,
    /// Lower-cased: `snapshots`, `disks`, `virtualmachines`, `restorepointcollections`, `locations`.
    pub kind: String,
    pub name: Option<String>,
    /// Lower-cased: `runcommands`, `restorepoints`, `runcommand`, `instanceview`, `operations`, `diskoperations`.
    pub child: Option<String>,
    pub child_name: Option<String>,
    /// `…/providers/Microsoft.Resources/tags/default` of the resource.
    pub tags: bool,
}

impl Target {
    /// `None`: not a path of Microsoft.Compute that this double knows the shape of.
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let suffix = ["providers", "Microsoft.Resources", "tags", "default"];
        let tags = parts.len() > 4 && parts[parts.len() - 4..].iter().zip(suffix).all(|(p, s)| p.eq_ignore_ascii_case(s));
        parts.truncate(parts.len() - if tags { 4 } else { 0 });
        let is = |n: usize, word: &str| parts.get(n).is_some_and(|p| p.eq_ignore_ascii_case(word));
        if !is(0, "subscriptions") {
            return None;
        }
        let mut target = Self { subscription: (*parts.get(1)?).to_owned(), tags, ..Self::default() };
        let mut at = 2;
        if is(at, "resourceGroups") {
            target.group = parts.get(at + 1).map(|p| (*p).to_owned());
            at += 2;
        }
        if parts.len() <= at {
            return Some(target);
        }
        if !(is(at, "providers") && is(at + 1, "Microsoft.Compute")) {
            return None;
        }
        let text = |n: usize| parts.get(at + n).map(|p| (*p).to_owned());
        target.kind = text(2)?.to_ascii_lowercase();
        target.name = text(3);
        target.child = text(4).map(|c| c.to_ascii_lowercase());
        target.child_name = text(5);
        (parts.len() <= at + 6).then_some(target)
    }

    /// The resource's id in the usual spelling of the fixed words.
    pub fn id(&self) -> String {
        let mut id = format!("/subscriptions/{}", self.subscription);
        if let Some(group) = &self.group {
            id.push_str(&format!("/resourceGroups/{group}"));
        }
        if self.kind.is_empty() {
            return id;
        }
        id.push_str(&format!("/providers/Microsoft.Compute/{}", word(&self.kind)));
        if let Some(name) = &self.name {
            id.push_str(&format!("/{name}"));
        }
        if let (Some(child), Some(name)) = (&self.child, &self.child_name) {
            id.push_str(&format!("/{}/{name}", word(child)));
        }
        id
    }
}

fn word(lower: &str) -> &str {
    match lower {
        "virtualmachines" => "virtualMachines",
        "restorepointcollections" => "restorePointCollections",
        "restorepoints" => "restorePoints",
        "runcommands" => "runCommands",
        other => other,
    }
}

/// What ids are compared by.
pub fn key(id: &str) -> String {
    id.trim_end_matches('/').to_ascii_lowercase()
}

pub fn of(subscription: &str, group: &str, kind: &str, name: &str) -> String {
    format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/{kind}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_any_case_is_the_same_resource_and_another_provider_is_none() {
        let path = "/subscriptions/S/RESOURCEGROUPS/Rg/providers/microsoft.COMPUTE/virtualmachines/Vm/runCommands/X";
        let t = Target::parse(path).unwrap();
        assert_eq!(t.id(), "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm/runCommands/X");
        assert_eq!(key(&t.id()), key(path));
        assert_eq!(Target::parse("/subscriptions/S").unwrap().id(), "/subscriptions/S");
        for other in
            ["/tenants", "/subscriptions/S/providers/Microsoft.Storage/x", "/subscriptions/S/resourceGroups/R/x", &format!("{path}/a")]
        {
            assert_eq!(Target::parse(other), None, "{other}");
        }
    }
}
