//! Makes the snapshots from the host itself, so that no hop lies inside the window: `snapfreeze-ebs`, `snapfreeze-azdisk`. The
//! agent's command snapshotter runs them; `storage::snapshot::command` describes their talk. Generic over the coordinator's ports.
//!
//! Before READY everything that can fail has been tried: identity, credentials, TLS, permission. After GO the snapshots are asked
//! for once: [`Ready`] is used up by it. After DONE only tags are left, the verdict last. What it
//! does not hear a verdict about is broken.

mod ready;
mod settle;

pub use ready::{Given, INSTANCE_ID, Place, Ready};

use coordinator::ports::{Clock, Disks};
use protocol::code::exit;
use protocol::tags::from_tags;
use protocol::wire::Problem;
use protocol::{BackupId, Code};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::Duration;
use tokio::sync::mpsc;

/// A dead agent closes our standard input; one that is only slow (thaw ladder, record) is waited for.
const VERDICT_WITHIN: Duration = Duration::from_secs(600);
/// From READY to GO lie admission, arming and the freeze itself.
const GO_WITHIN: Duration = Duration::from_secs(600);

pub type Tags = BTreeMap<String, String>;

/// What the agent says, line by line.
pub struct Lines(mpsc::UnboundedReceiver<String>);

impl Lines {
    /// Standard input, read by a thread of its own: nothing waits for it at the end.
    pub fn of_stdin() -> Self {
        let (said, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                if line.is_ok_and(|l| said.send(l).is_ok()) {
                    continue;
                }
                return;
            }
        });
        Self(lines)
    }

    /// `None`: the agent is gone, or says nothing.
    async fn next(&mut self, within: Duration) -> Option<String> {
        tokio::time::timeout(within, self.0.recv()).await.ok().flatten()
    }
}

/// From READY on. The exit code.
pub async fn talk<D: Disks, C: Clock>(ready: Ready<'_, D, C>, lines: &mut Lines) -> u8 {
    say(&format!("READY ms={} verdict=yes", ready.ms));
    let id = ready.given.id;
    let Some(line) = lines.next(GO_WITHIN).await else {
        return fail(&Problem::new(Code::Internal, "the agent did not say GO; no snapshot was made"));
    };
    let tags = match go(&line, id) {
        Ok(tags) => tags,
        Err(p) => return fail(&p),
    };
    let taken = match ready.take(tags).await {
        Ok(taken) => taken,
        Err(p) => return fail(&p),
    };
    for m in &taken.made {
        say(&format!("snapshot={} volume={}", m.snapshot, m.volume));
    }
    say("DONE");
    let verdict = lines.next(VERDICT_WITHIN).await.and_then(|l| verdict(&l));
    taken.settle(verdict).await
}

/// `GO {tags}` of this very backup.
fn go(line: &str, id: BackupId) -> Result<Tags, Problem> {
    let bad = |why: String| Problem::new(Code::UsageInvalid, format!("{why}; no snapshot was made"));
    let json = line.strip_prefix("GO ").ok_or_else(|| bad("the agent said something else than GO".into()))?;
    let tags: Tags = serde_json::from_str(json).map_err(|e| bad(format!("GO: {e}")))?;
    match from_tags(&tags) {
        Ok(t) if t.backup_id == id => Ok(tags),
        Ok(t) => Err(bad(format!("GO is for backup {}, SNAPFREEZE_ID is {id}", t.backup_id))),
        Err(e) => Err(bad(format!("GO: {e}"))),
    }
}

/// `VERDICT {tags}`; anything else counts as no verdict.
fn verdict(line: &str) -> Option<Tags> {
    let tags: Tags = serde_json::from_str(line.strip_prefix("VERDICT ")?).ok()?;
    let word = tags.get(&settle::tag(protocol::tags::name::VERDICT))?;
    matches!(word.as_str(), "held" | "broken").then_some(tags)
}

/// To the agent. When it is gone, our standard input ends as well, which is where that is noticed.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// One line for people, in the agent's log; the code's exit.
pub fn fail(p: &Problem) -> u8 {
    let line = format!("{}: {}", p.code, p.detail).replace('\n', " ");
    let next = if p.next.is_empty() { String::new() } else { format!("; next: {}", p.next) };
    let _ = writeln!(std::io::stderr(), "{line}{next}");
    match p.code.exit() {
        exit::DONE => exit::OTHER,
        code => code,
    }
}

#[cfg(test)]
mod tests;
