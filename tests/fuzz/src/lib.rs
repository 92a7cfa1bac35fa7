//! What several targets need. A target asserts what its parser promises, not only that it returns.

use arbitrary::{Arbitrary, Result, Unstructured};
use protocol::outcome::InstanceMarks;
use protocol::window::{HoldMs, Margins, OnOverrun, SuspendLimit};
use protocol::{BackupId, BrokenReason, InstanceName, JournalMark, WallMs, WindowRules};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// As the agent reads what a program printed.
pub fn text(data: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// The input in pieces, cut at lines that hold only `====`: seeds stay readable.
pub fn pieces(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for line in text.lines() {
        match all.last_mut() {
            Some(last) if line != "====" => {
                last.push_str(line);
                last.push('\n');
            }
            _ => all.push(String::new()),
        }
    }
    all
}

/// What is written is read back, and written the same again.
pub fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let json = serde_json::to_vec(value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&json).expect("what was written can be read");
    assert_eq!(&again, value);
    assert_eq!(serde_json::to_vec(&again).ok(), Some(json));
}

pub fn id(u: &mut Unstructured) -> Result<BackupId> {
    Ok(BackupId::from_uuid(uuid::Uuid::from_bytes(u.arbitrary()?)))
}

pub fn moment(u: &mut Unstructured) -> Result<Option<WallMs>> {
    Ok(Option::<i64>::arbitrary(u)?.map(WallMs))
}

/// Any valid instance name.
pub fn name(u: &mut Unstructured) -> Result<InstanceName> {
    const FIRST: &[u8] = b"ABCdef019_";
    const MORE: &[u8] = b"ABCdef019_-.";
    let mut s = String::from(*u.choose(FIRST)? as char);
    for _ in 0..u.int_in_range(0..=63)? {
        s.push(*u.choose(MORE)? as char);
    }
    Ok(s.parse().expect("made of what a name may have"))
}

/// The instances of a set, no name twice.
pub fn marks(u: &mut Unstructured) -> Result<Vec<InstanceMarks>> {
    let mut all: Vec<InstanceMarks> = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let instance = name(u)?;
        let marks = (0..u.int_in_range(0..=3)?).map(|_| mark(u)).collect::<Result<_>>()?;
        if all.iter().all(|i| i.instance != instance) {
            all.push(InstanceMarks { instance, marks });
        }
    }
    Ok(all)
}

fn mark(u: &mut Unstructured) -> Result<JournalMark> {
    Ok(JournalMark { region: u.arbitrary()?, switched: u.arbitrary()?, required: u.arbitrary()?, offset: u.arbitrary()? })
}

pub fn reason(u: &mut Unstructured) -> Result<BrokenReason> {
    use BrokenReason as R;
    let why: String = u.arbitrary()?;
    Ok(match u.int_in_range(0..=15)? {
        0 => R::FreezeUnconfirmed,
        1 => R::HoldExpired,
        2 => R::NotFrozenBeforeThaw,
        3 => R::StateUnknownBeforeThaw,
        4 => R::ThawReleasedNothing,
        5 => R::OtherTool(why),
        6 => R::EvidenceUnreadable(why),
        7 => R::LastResort,
        8 => R::InstanceChanged(why),
        9 => R::EngineLog(why),
        10 => R::OverLimit,
        11 => R::AgentLost,
        12 => R::VerdictLost,
        13 => R::SnapshotFailed(why),
        14 => R::SnapshotLate,
        _ => R::Interrupted,
    })
}

/// Any rules that can exist.
pub fn rules(u: &mut Unstructured) -> Result<WindowRules> {
    let hold = HoldMs::new(u.int_in_range(HoldMs::MIN..=HoldMs::MAX)?).expect("in its range");
    let over = if u.arbitrary()? { OnOverrun::FailBackup } else { OnOverrun::BlockUsers };
    let limit = if u.arbitrary()? { Some(SuspendLimit::Secs(u.int_in_range(1..=1200)?)) } else { None };
    WindowRules::new(hold, over, None, limit, Margins::default()).map_err(|_| arbitrary::Error::IncorrectFormat)
}
