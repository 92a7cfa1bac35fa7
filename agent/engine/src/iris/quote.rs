//! The only way from a value to ObjectScript text. Nothing of a user is written into a script by other means.

/// A control character in a value: a line end would start a new command in a script on standard input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} holds a control character (U+{code:04X}), which cannot be part of an ObjectScript string")]
pub struct ControlCharacter {
    pub value: String,
    pub code: u32,
}

/// True when `value` can become a literal.
pub fn check(value: &str) -> Result<(), ControlCharacter> {
    match value.chars().find(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        Some(c) => Err(ControlCharacter { value: value.into(), code: c.into() }),
        None => Ok(()),
    }
}

/// `value` as an ObjectScript string literal: in double quotes, each double quote inside doubled
/// ("Using ObjectScript", String Literals). There is no other escape in that language.
pub fn literal(value: &str) -> Result<String, ControlCharacter> {
    check(value)?;
    Ok(format!("\"{}\"", value.replace('"', "\"\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads one literal from the front of ObjectScript text, as the engine does: (value, rest).
    fn read_back(text: &str) -> Option<(String, &str)> {
        let mut value = String::new();
        let mut rest = text.strip_prefix('"')?;
        loop {
            let at = rest.find('"')?;
            value.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            match rest.strip_prefix('"') {
                Some(r) => {
                    value.push('"');
                    rest = r;
                }
                None => return Some((value, rest)),
            }
        }
    }

    #[test]
    fn what_would_leave_the_literal_stays_inside() {
        assert_eq!(literal(r#"x") do ##class(A).B() //"#).unwrap(), r#""x"") do ##class(A).B() //""#);
        assert!(literal("a\nhalt").is_err() && literal("a\rb").is_err() && literal("\u{85}").is_err());
        assert_eq!(literal("").unwrap(), r#""""#);
    }

    proptest! {
        #[test]
        fn every_literal_reads_back_as_its_value_and_ends_where_it_ends(value in any::<String>(), after in "[^\"]*") {
            match literal(&value) {
                Ok(l) => {
                    prop_assert!(!l.contains(['\n', '\r', '\0']));
                    let text = format!("{l}{after}");
                    prop_assert_eq!(read_back(&text), Some((value, after.as_str())));
                }
                Err(e) => prop_assert_eq!(e.value, value),
            }
        }

        #[test]
        fn quotes_alone_cannot_break_out(value in "[\" ,)(x]{0,40}") {
            let l = literal(&value).unwrap();
            prop_assert_eq!(read_back(&l), Some((value, "")));
        }
    }
}
