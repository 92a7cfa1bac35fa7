//! The last stdout line of a verb run over SSM or Run Command, and how it is read. Only that line is trusted: whatever an
//! engine, a login banner or a shell printed before it is noise.
//!
//! ```text
//! {"schema":1,"type":"freeze",…}                                         the whole answer, as --json prints it
//! SNAPFREEZE {"schema":1,"type":"freeze","id":"…",…,"body":"9f86d081…"}  under 1 KiB; body: SHA-256 of the line before
//! ```
//!
//! An answer that does not fit into the last line is found in the line before it, and only if its digest agrees: cut output
//! (SSM keeps 24,000 characters, Run Command 4 KiB) is missing output, never a shorter answer. With `--packed` that line is
//! `Z` and the base64 of its deflated bytes, which is what fits through Run Command.

use crate::wire::{MARKER, MARKER_MAX};
use crate::{BackupId, Code};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD as BASE64, BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// What the last line said.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// `freeze`, `window`, `backup`, `facts`, `status` or `problem`.
    pub kind: String,
    pub id: Option<BackupId>,
    /// Of `problem` and of failed backups.
    pub code: Option<Code>,
    /// The last line's own object.
    pub line: serde_json::Value,
    /// The line before it, when its digest agrees.
    pub body: Option<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    #[error("the output has no last line that begins with SNAPFREEZE")]
    NoMarker,
    #[error("the last line is longer than {MARKER_MAX} bytes")]
    TooLong,
    #[error("the last line is damaged: {0}")]
    Damaged(String),
    #[error("the answer is about {got:?}, asked was {asked}")]
    OtherId { asked: BackupId, got: Option<BackupId> },
    #[error("the answer was cut: the line before the last one is not the one whose digest it states")]
    Cut,
    #[error("a {got} was answered where a {wanted} was expected")]
    Kind { wanted: &'static str, got: String },
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    id: Option<BackupId>,
    /// A name that a newer agent may know and this side does not.
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    body: Option<String>,
}

/// Reads stdout; with `asked`, an answer about another backup is refused.
pub fn read(stdout: &str, asked: Option<BackupId>) -> Result<Answer, BadAnswer> {
    let mut lines = stdout.lines().rev().skip_while(|l| l.trim().is_empty());
    let last = lines.next().ok_or(BadAnswer::NoMarker)?.trim_end();
    let json = last.strip_prefix(MARKER).ok_or(BadAnswer::NoMarker)?;
    if last.len() > MARKER_MAX {
        return Err(BadAnswer::TooLong);
    }
    let line: serde_json::Value = serde_json::from_str(json).map_err(|e| BadAnswer::Damaged(e.to_string()))?;
    let head = Head::deserialize(&line).map_err(|e| BadAnswer::Damaged(e.to_string()))?;
    if let Some(asked) = asked
        && head.id != Some(asked)
    {
        return Err(BadAnswer::OtherId { asked, got: head.id });
    }
    let body = match head.body {
        None => None,
        Some(digest) => {
            let text = lines.next().filter(|l| digest_of(l) == digest).ok_or(BadAnswer::Cut)?;
            let text = unpacked(text)?;
            Some(serde_json::from_str(&text).map_err(|e| BadAnswer::Damaged(e.to_string()))?)
        }
    };
    let code = head.code.map(|c| c.parse().unwrap_or(Code::Internal));
    Ok(Answer { kind: head.kind, id: head.id, code, line, body })
}

impl Answer {
    /// The whole answer of this kind: from the line before when there is one, else from the last line.
    pub fn whole<T: DeserializeOwned>(&self, wanted: &'static str) -> Result<T, BadAnswer> {
        if self.kind != wanted {
            return Err(BadAnswer::Kind { wanted, got: self.kind.clone() });
        }
        T::deserialize(self.body.as_ref().unwrap_or(&self.line)).map_err(|e| BadAnswer::Damaged(e.to_string()))
    }

    /// What a `problem` says, for people.
    pub fn detail(&self) -> String {
        self.body.as_ref().unwrap_or(&self.line).get("detail").and_then(|d| d.as_str()).unwrap_or_default().to_owned()
    }
}

/// What a packed line begins with; no JSON does.
const PACKED: char = 'Z';
/// A packed answer is never more than this, unpacked: 4 KiB deflate to a thousand times as much.
const UNPACKED_MAX: usize = 256 * 1024;

/// A line as `--packed` prints it.
pub fn pack(line: &str) -> String {
    format!("{PACKED}{}", BASE64.encode(miniz_oxide::deflate::compress_to_vec(line.as_bytes(), 9)))
}

/// Begins a word: no option does.
const WORD: char = 'w';

/// A text as one word of letters, digits, `-` and `_`, such as an argument that crosses a cloud.
pub fn to_word(text: &str) -> String {
    format!("{WORD}{}", URL_SAFE_NO_PAD.encode(miniz_oxide::deflate::compress_to_vec(text.as_bytes(), 9)))
}

/// The other way round.
pub fn from_word(word: &str) -> Result<String, BadAnswer> {
    let damaged = |why: String| BadAnswer::Damaged(format!("no such word: {why}"));
    let word = word.trim().strip_prefix(WORD).ok_or_else(|| damaged(format!("it does not begin with {WORD}")))?;
    let bytes = URL_SAFE_NO_PAD.decode(word).map_err(|e| damaged(e.to_string()))?;
    let plain = miniz_oxide::inflate::decompress_to_vec_with_limit(&bytes, UNPACKED_MAX).map_err(|e| damaged(e.to_string()))?;
    String::from_utf8(plain).map_err(|e| damaged(e.to_string()))
}

fn unpacked(line: &str) -> Result<std::borrow::Cow<'_, str>, BadAnswer> {
    let Some(text) = line.strip_prefix(PACKED) else { return Ok(line.into()) };
    let damaged = |why: String| BadAnswer::Damaged(format!("packed: {why}"));
    let bytes = BASE64.decode(text.trim_end()).map_err(|e| damaged(e.to_string()))?;
    let plain = miniz_oxide::inflate::decompress_to_vec_with_limit(&bytes, UNPACKED_MAX).map_err(|e| damaged(e.to_string()))?;
    String::from_utf8(plain).map(Into::into).map_err(|e| damaged(e.to_string()))
}

/// Lower-case hexadecimal SHA-256 of a line without its end.
pub fn digest_of(line: &str) -> String {
    Sha256::digest(line.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e";
    fn id() -> BackupId {
        ID.parse().unwrap()
    }
    fn two(body: &str) -> String {
        format!("{body}\n{MARKER}{}\n", json!({ "schema": 1, "type": "freeze", "id": ID, "body": digest_of(body) }))
    }

    #[test]
    fn only_the_last_line_counts_and_only_with_its_own_id() {
        let noise = format!("{MARKER}{}\nLast login: today\n", json!({ "type": "window", "id": ID }));
        assert_eq!(read(&noise, Some(id())), Err(BadAnswer::NoMarker), "a marker that something else printed before");
        assert_eq!(read("", None), Err(BadAnswer::NoMarker));
        let other = format!("{MARKER}{}", json!({ "type": "window", "id": "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6f" }));
        assert!(matches!(read(&other, Some(id())), Err(BadAnswer::OtherId { .. })));
        assert!(read(&other, None).is_ok());
        let none = format!("{MARKER}{}", json!({ "type": "window" }));
        assert!(matches!(read(&none, Some(id())), Err(BadAnswer::OtherId { got: None, .. })));
    }

    #[test]
    fn a_body_counts_only_whole() {
        let body = json!({ "schema": 1, "type": "freeze", "x": 3 }).to_string();
        let a = read(&two(&body), Some(id())).unwrap();
        assert_eq!(a.whole::<serde_json::Value>("freeze").unwrap()["x"], 3);
        assert!(matches!(a.whole::<serde_json::Value>("window"), Err(BadAnswer::Kind { .. })));
        let cut = two(&body).replace("\"x\":3", "\"x\":4");
        assert_eq!(read(&cut, Some(id())), Err(BadAnswer::Cut));
    }

    #[test]
    fn a_word_is_its_text_again_and_nonsense_is_an_error() {
        for text in ["", "{\"a\": \"ü\"}", &"x".repeat(5_000)] {
            let word = to_word(text);
            assert!(word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{word}");
            assert_eq!(from_word(&word).unwrap(), text);
        }
        assert!(
            from_word("!").is_err()
                && from_word("AAAA").is_err()
                && from_word("wAAAA").is_err()
                && from_word(&to_word(&"0".repeat(300_000))).is_err()
        );
    }

    #[test]
    fn a_packed_body_is_the_body_and_a_damaged_one_is_none() {
        let marks: Vec<_> =
            (0..40).map(|n| json!({ "region": "", "switched": format!("/iris/journal/2026112{n}.001"), "offset": n })).collect();
        let body = json!({ "schema": 1, "type": "freeze", "instances": [{ "instance": "IRIS", "marks": marks }] }).to_string();
        let packed = pack(&body);
        assert!(body.len() > 2_500 && packed.len() < 1_000, "{} to {}", body.len(), packed.len());
        assert_eq!(
            read(&two(&packed), Some(id())).unwrap(),
            read(&two(&body), Some(id())).map(|a| Answer { line: read(&two(&packed), None).unwrap().line, ..a }).unwrap()
        );
        // The digest is of the line as it was printed; one that agrees does not make nonsense an answer.
        assert_eq!(read(&two(&packed).replacen('Z', "Zx", 1), Some(id())), Err(BadAnswer::Cut));
        for nonsense in ["Z", "Z!!!", &packed[..packed.len() / 2]] {
            assert!(matches!(read(&two(nonsense), Some(id())), Err(BadAnswer::Damaged(_))), "{nonsense}");
        }
        let bomb = pack(&format!("\"{}\"", "0".repeat(300_000)));
        assert!(bomb.len() < 1_000 && matches!(read(&two(&bomb), Some(id())), Err(BadAnswer::Damaged(_))));
    }

    #[test]
    fn an_unknown_code_of_a_newer_agent_is_still_a_problem() {
        let p = format!("{MARKER}{}", json!({ "type": "problem", "id": ID, "code": "Freeze.Refused.Moon", "detail": "full" }));
        let a = read(&p, Some(id())).unwrap();
        assert_eq!((a.code, a.detail().as_str()), (Some(Code::Internal), "full"));
    }
}
