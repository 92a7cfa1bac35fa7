//! `iris list`: a block per instance, `Configuration 'NAME'` and indented `key:  value` lines. The indentation differs
//! between versions, and `mirroring:` is not aligned with the rest.

use super::Listed;

pub fn parse(text: &str) -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("Configuration '").and_then(|r| r.split('\'').next()) {
            all.push(Listed { name: name.to_owned(), ..Default::default() });
        } else if let (Some(current), Some((key, value))) = (all.last_mut(), line.split_once(':')) {
            set(current, key, value.trim());
        }
    }
    all.retain(|l| !l.name.is_empty());
    all
}

fn set(l: &mut Listed, key: &str, value: &str) {
    match key {
        "directory" => l.install_dir = value.into(),
        "versionid" => l.version = value.into(),
        "datadir" => l.data_dir = value.into(),
        "conf file" => l.cpf = value.split("  (").next().unwrap_or_default().trim().into(),
        "status" => l.status = value.into(),
        "state" => l.health = value.into(),
        "product" => l.product = value.into(),
        "mirroring" => {
            for part in value.split(';') {
                match part.split_once('=').map(|(k, v)| (k.trim(), v.trim())) {
                    Some(("Member Type", v)) => l.member_type = v.into(),
                    Some(("Status", v)) => l.mirror_status = v.into(),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_indentations_and_the_mirroring_line() {
        let Some(text) = fixture("list-mirror-primary.txt") else {
            return;
        };
        let l = &parse(&text)[0];
        assert_eq!((l.name.as_str(), l.member_type.as_str(), l.mirror_status.as_str()), ("IRIS", "Failover", "Primary"));
        assert_eq!((l.cpf.as_str(), l.health.as_str(), l.product.as_str()), ("iris.cpf", "ok", "InterSystems IRISHealth"));
        let Some(text) = fixture("list-running.txt") else {
            return;
        };
        let l = &parse(&text)[0];
        assert!(l.running() && l.data() == "/intersystems" && l.version == "2023.1.0.235.1com");
    }

    #[test]
    fn a_down_instance_and_several_blocks() {
        let Some(text) = fixture("list-down.txt") else {
            return;
        };
        assert!(parse(&text)[0].down() && parse(&text)[0].health.is_empty());
        let Some(text) = fixture("list-two-instances.txt") else {
            return;
        };
        let all = parse(&text);
        assert_eq!(all.iter().map(|l| (l.name.as_str(), l.running())).collect::<Vec<_>>(), [("IRIS", true), ("IRIS2", false)]);
        assert_eq!(all[1].data(), "/intersystems2");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let _ = parse(&text);
            let _ = parse(&format!("Configuration '{text}"));
        }
    }
}
