//! The instance's own history of backups: what it counts before it purges journals (`BackupsBeforePurge`).

use super::Iris;
use super::quote::literal;
use super::script::{Reply, Script, nonce};
use crate::restore::Failed;
use doors::clock::boot_now;
use protocol::BackupId;

const CALL_MS: u64 = 60_000;

impl Iris {
    /// `ExternalSetHistory(LogFile, Description)`: "always returns OK" (class reference), so an answer is all that there is to see.
    pub fn count_as_backup(&self, id: BackupId) -> Result<(), Failed> {
        let quoted = |t: &str| literal(t).map_err(|e| Failed::new(e.to_string()));
        let log = quoted(&self.log_path(id, "history").to_string_lossy())?;
        let text = quoted(&format!("snapfreeze {id}"))?;
        let nonce = nonce().map_err(|e| Failed::new(e.to_string()))?;
        let mut s = Script::new(&nonce);
        s.ask("HISTORY", &format!("##class(Backup.General).ExternalSetHistory({log},{text})"));
        let output = self.runner.session(&s.end("5"), boot_now().plus(CALL_MS), None).map_err(Failed::from)?;
        let reply = Reply::parse(&output.out(), &nonce).filter(|r| r.complete && r.get("HISTORY") == "1");
        reply
            .map(|_| ())
            .ok_or_else(|| Failed::new(format!("the backup could not be entered into the history: {}", self.runner.said(&output))))
    }
}
