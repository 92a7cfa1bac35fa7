//! The journal mark: with which journal a restore of the set starts.

use serde::{Deserialize, Serialize};

/// What one freeze did to one journal. IRIS has one mark per instance, GT.M one per region.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JournalMark {
    /// GT.M region; empty for engines with a single journal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// The file switched to at the freeze (IRIS), or closed by it (GT.M: the live file keeps its name). `None`: no switch.
    pub switched: Option<String>,
    /// Oldest file needed to roll back transactions that were open at the freeze (IRIS argument 11, `RequiredFile`).
    pub required: Option<String>,
    /// Byte offset of the marker in `switched`; for GT.M the region's transaction number.
    pub offset: Option<u64>,
}

impl JournalMark {
    /// The older of the two, with which a restore starts: an engine names `required` only when it is not newer than `switched`.
    pub fn restore_from(&self) -> Option<&str> {
        self.required.as_deref().filter(|r| !r.is_empty()).or(self.switched.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_goes_before_switched() {
        let mut m = JournalMark { switched: Some("/j/20240425.003".into()), ..Default::default() };
        assert_eq!(m.restore_from(), Some("/j/20240425.003"));
        m.required = Some("/j/20240425.002".into());
        assert_eq!(m.restore_from(), Some("/j/20240425.002"));
        m.required = Some(String::new());
        assert_eq!(m.restore_from(), Some("/j/20240425.003"));
    }
}
