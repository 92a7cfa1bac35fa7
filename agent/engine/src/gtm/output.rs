//! What `mupip freeze` says. GT.M's own words are the evidence: facts and wording from GT.M 7.0-005.

/// One switched journal: `%GTM-I-FILERENAME, File /j/a.mjl is renamed to /j/a.mjl_2026325020643`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// The live name; the journal that is written from now on has it again.
    pub live: String,
    /// The closed one.
    pub closed: String,
}

/// Every `FILERENAME` line, in order. The freeze writes `REGION : ` before it, the thaw does not, so the
/// region is found by its journal's name.
pub fn renamed(text: &str) -> Vec<Renamed> {
    text.lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("-FILERENAME, File ")?;
            let (live, closed) = rest.split_once(" is renamed to ")?;
            let (live, closed) = (live.trim(), closed.trim());
            (!live.is_empty() && !closed.is_empty()).then(|| Renamed { live: live.into(), closed: closed.into() })
        })
        .collect()
}

/// `%GTM-W-OFRZNOTHELD, Online Freeze had been automatically released for at least one region` (exit code 120).
pub fn was_autoreleased(text: &str) -> bool {
    text.contains("OFRZNOTHELD") || text.contains("but it was autoreleased")
}

/// The lines that a judgement rests on, at most `max`.
pub fn evidence(text: &str, max: usize) -> Vec<String> {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).take(max).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_of_the_line_are_read() {
        let text = "ACC : %GTM-I-FILERENAME, File /j/acc.mjl is renamed to /j/acc.mjl_2026329235104\n\
                    ACC : Region ACC is now FROZEN\n\
                    %GTM-I-FILERENAME, File /j/d x.mjl is renamed to /j/d x.mjl_1_0\n";
        let r = renamed(text);
        assert_eq!(r.len(), 2);
        assert_eq!((r[0].live.as_str(), r[0].closed.as_str()), ("/j/acc.mjl", "/j/acc.mjl_2026329235104"));
        assert_eq!((r[1].live.as_str(), r[1].closed.as_str()), ("/j/d x.mjl", "/j/d x.mjl_1_0"));
        assert!(!was_autoreleased(text));
    }

    #[test]
    fn an_autorelease_is_seen() {
        assert!(was_autoreleased("%GTM-W-OFRZNOTHELD, Online Freeze had been automatically released for at least one region"));
        assert!(was_autoreleased("WARNING: The region ACC had an online freeze, but it was autoreleased."));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "(\\PC|\n|%GTM-I-FILERENAME, File | is renamed to |OFRZNOTHELD){0,60}") {
            let _ = (renamed(&text), was_autoreleased(&text), evidence(&text, 3));
        }
    }
}
