//! Names of Azure resources. Resource ids are case-insensitive ("Resource naming restrictions", Azure Resource Manager): two ids are
//! equal when they differ in case only, and each is shown as it was written.

use protocol::Code;
use protocol::wire::Problem;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// `/subscriptions/S/resourceGroups/RG/providers/Microsoft.Compute/TYPE/NAME`.
#[derive(Clone, Debug)]
struct Resource {
    subscription: String,
    group: String,
    name: String,
}

impl Resource {
    fn parse(id: &str, kind: &str) -> Result<Self, Problem> {
        let bad = || {
            let detail = format!("{id:?} is no resource id of Microsoft.Compute/{kind}");
            let form = format!("/subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.Compute/{kind}/NAME");
            Problem::new(Code::UsageInvalid, detail).next(format!("write it as {form}"))
        };
        let parts: Vec<&str> = id.strip_prefix('/').ok_or_else(bad)?.split('/').collect();
        let [a, subscription, b, group, c, provider, k, name] = parts.as_slice() else { return Err(bad()) };
        let words = [(a, "subscriptions"), (b, "resourceGroups"), (c, "providers"), (provider, "Microsoft.Compute"), (k, kind)];
        let plain = |s: &str| !s.is_empty() && s.len() <= 90 && s.chars().all(|c| c.is_alphanumeric() || "-_.()".contains(c));
        if words.iter().any(|(is, wanted)| !is.eq_ignore_ascii_case(wanted)) || ![subscription, group, name].iter().all(|s| plain(s)) {
            return Err(bad());
        }
        Ok(Self { subscription: (*subscription).into(), group: (*group).into(), name: (*name).into() })
    }

    fn lower(&self) -> [String; 3] {
        [self.subscription.to_lowercase(), self.group.to_lowercase(), self.name.to_lowercase()]
    }
}

macro_rules! resource {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $type(Resource);

        impl $type {
            pub fn new(subscription: &str, group: &str, name: &str) -> Result<Self, Problem> {
                format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/{}/{name}", $kind).parse()
            }
            pub fn subscription(&self) -> &str {
                &self.0.subscription
            }
            pub fn group(&self) -> &str {
                &self.0.group
            }
            pub fn name(&self) -> &str {
                &self.0.name
            }
        }

        impl FromStr for $type {
            type Err = Problem;
            fn from_str(id: &str) -> Result<Self, Problem> {
                Resource::parse(id, $kind).map(Self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Resource { subscription, group, name } = &self.0;
                write!(f, "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/{}/{name}", $kind)
            }
        }

        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.0.lower() == other.0.lower()
            }
        }
        impl Eq for $type {}
        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $type {
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.lower().cmp(&other.0.lower())
            }
        }
        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.lower().hash(state);
            }
        }
    };
}

resource!(
    /// A virtual machine.
    VmId,
    "virtualMachines"
);
resource!(
    /// A managed disk.
    DiskId,
    "disks"
);
resource!(
    /// A snapshot of a managed disk.
    SnapshotId,
    "snapshots"
);
resource!(
    /// A collection of restore points.
    CollectionId,
    "restorePointCollections"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter_and_is_kept() {
        let id = "/subscriptions/Ab/resourcegroups/RG-1/providers/microsoft.compute/virtualmachines/Vm_1";
        let vm: VmId = id.parse().unwrap();
        assert_eq!(vm, VmId::new("aB", "rg-1", "vm_1").unwrap());
        assert_eq!(vm.to_string(), "/subscriptions/Ab/resourceGroups/RG-1/providers/Microsoft.Compute/virtualMachines/Vm_1");
        assert_ne!(vm, VmId::new("Ab", "RG-1", "Vm-1").unwrap());
    }

    #[test]
    fn what_is_no_such_id_is_refused_with_its_form() {
        let good = VmId::new("s", "g", "n").unwrap().to_string();
        for bad in ["", "vm1", "/subscriptions/s", &good[1..], &format!("{good}/x"), &good.replace("/n", "/"), &good.replace("/n", "/a b")]
        {
            let p = bad.parse::<VmId>().unwrap_err();
            assert!(p.code == Code::UsageInvalid && p.next.contains("/virtualMachines/NAME"), "{bad}: {p:?}");
        }
        assert!(good.parse::<DiskId>().is_err(), "a machine is no disk");
        assert!(VmId::new("s", "g/../x", "n").is_err());
    }
}
