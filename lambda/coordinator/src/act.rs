//! One saga in several hands: what each action of the Lambda does with a saga, also with one that another process left behind.
//!
//! Step Functions hands on the saga as it was *before* a task that died. So a later action that is given an earlier phase knows
//! that whoever was to carry that phase out is gone, and that it may have been carried out: `Outcome::Lost`.

use crate::saga::{Outcome, Phase, Saga};
use protocol::WallMs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Admit,
    Freeze,
    Snapshot,
    Thaw,
    Settle,
    /// From the order to the verdict in one process.
    Backup,
}

impl Action {
    pub const ALL: [Self; 6] = [Self::Admit, Self::Freeze, Self::Snapshot, Self::Thaw, Self::Settle, Self::Backup];

    /// The phases that it carries out; `drive::Until::phases`.
    pub const fn phases(self) -> &'static [Phase] {
        match self {
            Self::Admit => &[Phase::Inspect],
            Self::Freeze => &[Phase::Freeze],
            Self::Snapshot => &[Phase::Snapshot],
            Self::Thaw => &[Phase::Thaw],
            // A thaw that was interrupted is gone on with, whoever asks.
            Self::Settle => &[Phase::Thaw, Phase::Find, Phase::Mark, Phase::Complete, Phase::After],
            Self::Backup => &[],
        }
    }

    /// To be called before the first step. `Thaw` and `Settle` go on from a freeze or a snapshot that somebody else began;
    /// nobody else does: a saga at another phase is left as it is.
    pub fn take_up(self, saga: &mut Saga, now: WallMs) {
        let behind = matches!(saga.phase, Phase::Freeze | Phase::Snapshot);
        match self {
            Self::Thaw | Self::Settle if behind => saga.apply(Outcome::Lost, now),
            Self::Admit | Self::Freeze | Self::Snapshot | Self::Thaw | Self::Settle | Self::Backup => {}
        }
    }
}

/// For a state machine's choice: `freeze`, `snapshot`, `thaw`, `settle`, `done`; before the freeze, `admit`.
pub const fn stage(phase: Phase) -> &'static str {
    match phase {
        Phase::Inspect => "admit",
        Phase::Freeze => "freeze",
        Phase::Snapshot => "snapshot",
        Phase::Thaw => "thaw",
        Phase::Find | Phase::Mark | Phase::Complete | Phase::After => "settle",
        Phase::Done => "done",
    }
}
