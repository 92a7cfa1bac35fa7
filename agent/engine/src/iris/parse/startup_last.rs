//! `mgr/startup.last`: the directory of the WIJ that the last start used, in its line `wijlast=` ("Data Integrity
//! Guide", Starting without the WIJ). Null means the manager's directory.

use std::path::PathBuf;

/// `None`: null or not said.
pub fn parse(text: &str) -> Option<PathBuf> {
    text.lines().filter_map(|l| l.trim().strip_prefix("wijlast=")).map(str::trim).find(|v| v.starts_with('/')).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_wij_directory() {
        assert_eq!(parse("x=1\nwijlast=/iris/wij/\n"), Some("/iris/wij/".into()));
        assert_eq!(parse("wijlast=\n"), None);
        assert_eq!(parse(""), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
