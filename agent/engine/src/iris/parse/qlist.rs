//! `iris qlist` (Caché: `ccontrol qlist`): one instance a line, fields between carets; 8, 10, 13 or 14 of them
//! ("System Administration Guide", Controlling InterSystems IRIS instances).

use super::Listed;

/// Lines that are no instance (no name or fewer than 4 fields) are left out.
pub fn parse(text: &str) -> Vec<Listed> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Listed> {
    let f: Vec<&str> = line.trim_end_matches('\r').split('^').map(str::trim).collect();
    let at = |i: usize| f.get(i).copied().unwrap_or_default().to_owned();
    (f.len() >= 4 && !f[0].is_empty()).then(|| Listed {
        name: at(0),
        install_dir: at(1),
        version: at(2),
        status: at(3),
        cpf: at(4),
        health: at(8),
        product: at(9),
        member_type: at(10),
        mirror_status: at(11),
        data_dir: at(12),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_lines() {
        let Some(text) = fixture("iris-qlist.txt") else {
            return;
        };
        let all = parse(&text);
        assert_eq!(all.len(), 8);
        assert_eq!((all[0].health.as_str(), all[0].product.as_str(), all[0].data()), ("ok", "", "/ensemble/instances/insttest"));
        assert_eq!((all[1].data(), all[2].product.as_str()), ("/mgr/config", "Ensemble"));
        assert!(all[4].down() && !all[4].running() && all[4].health.is_empty());
        assert_eq!((all[5].member_type.as_str(), all[5].mirror_status.as_str()), ("Failover", "Primary"));
        assert_eq!((all[6].health.as_str(), all[7].name.as_str(), all[7].cpf.as_str()), ("warn", "DOCKER", "iris.cpf"));
    }

    #[test]
    fn eight_fields_and_fourteen() {
        let all = parse(
            "A^/a^1^down, last used x^iris.cpf^1^2^3\nB^/b/^2^running, since y^iris.cpf^1^2^3^hung^IRIS^Async^Connected^/d/^1972,1973\n\nno carets here\n",
        );
        assert_eq!(all.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!((all[1].health.as_str(), all[1].data(), all[0].data()), ("hung", "/d", "/a"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let _ = parse(&text);
        }
        #[test]
        fn a_line_reads_back(fields in prop::collection::vec("[ -\\]_-~]{1,20}", 4..15)) {
            let l = parse(&fields.join("^"));
            prop_assert_eq!(l.len(), usize::from(!fields[0].trim().is_empty()));
            if let Some(l) = l.first() {
                prop_assert_eq!(&l.status, fields[3].trim());
            }
        }
    }
}
