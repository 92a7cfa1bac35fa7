//! What is known about the freeze under way beyond the machine's state: instances, marks, evidence, times.

use crate::instances::Set;
use crate::journal::Intent;
use doors::clock::{boot_now_us, wall_now};
use doors::exec::Cancel;
use engine::{FreezeAnswer, Held, ThawAnswer};
use protocol::outcome::{InstanceMarks, Part, Window, WindowState};
use protocol::wire::{FreezeReply, Frozen};
use protocol::{BackupId, BootId, BootMs, InstanceName, Proof, SCHEMA, WallMs};
use std::collections::BTreeMap;

/// Literal lines kept per window; more is for the engine's own log.
const MAX_EVIDENCE: usize = 40;

pub struct Session {
    pub id: BackupId,
    pub set: Set,
    pub by: String,
    pub cancel: Cancel,
    pub held: BTreeMap<InstanceName, Held>,
    pub proofs: BTreeMap<InstanceName, Proof>,
    /// Why a freeze failed, or what a thaw answered, for people.
    pub why: Vec<String>,
    /// How much of `why` is about the freeze; of the thaw only the last round is kept.
    of_freeze: usize,
    started_us: u64,
    freeze_us: u64,
    frozen_at: Option<WallMs>,
    thawed_at: Option<WallMs>,
    window_us: u64,
    parts: Vec<Part>,
    evidence: Vec<String>,
    warnings: Vec<String>,
}

impl Session {
    pub fn new(id: BackupId, set: Set, by: String, warnings: Vec<String>) -> std::io::Result<Self> {
        Ok(Self {
            id,
            set,
            by,
            cancel: Cancel::new()?,
            held: BTreeMap::new(),
            proofs: BTreeMap::new(),
            why: Vec::new(),
            of_freeze: 0,
            started_us: boot_now_us(),
            freeze_us: 0,
            frozen_at: None,
            thawed_at: None,
            window_us: 0,
            parts: Vec::new(),
            evidence: Vec::new(),
            warnings,
        })
    }

    /// An agent that died left only its intent: the window began when the hold did, as far as this boot knows.
    pub fn resumed(intent: &Intent, set: Set, boot: &BootId) -> std::io::Result<Self> {
        let mut s = Self::new(intent.id, set, intent.by.clone(), vec![])?;
        s.frozen_at = Some(intent.at);
        if intent.boot_id == *boot {
            s.started_us = s.started_us.min(intent.thaw_by.0.saturating_sub(intent.rules.hold.ms()) * 1000);
        }
        Ok(s)
    }

    pub fn names(&self) -> Vec<InstanceName> {
        self.set.iter().map(|i| i.name.clone()).collect()
    }

    pub fn since(&self) -> Option<WallMs> {
        self.frozen_at
    }

    /// Just before the freeze call: here the window begins.
    pub fn freeze_begins(&mut self) {
        self.started_us = boot_now_us();
        self.frozen_at = Some(wall_now());
    }

    fn at_ms(&self) -> u64 {
        boot_now_us().saturating_sub(self.started_us) / 1000
    }

    pub fn freeze_ended(&mut self, answers: Vec<(InstanceName, FreezeAnswer)>) {
        // Questions that an engine asks before it sends anything belong to no window.
        let lead_ms = answers.iter().map(|(_, a)| if let FreezeAnswer::Frozen(h) = a { h.sent_after_ms } else { 0 }).min().unwrap_or(0);
        self.started_us += lead_ms * 1000;
        self.freeze_us = boot_now_us().saturating_sub(self.started_us);
        self.parts.push(Part { name: "freeze".into(), at_ms: 0, took_ms: self.freeze_us / 1000 });
        for (name, a) in answers {
            match a {
                FreezeAnswer::Frozen(h) => {
                    self.warnings.extend(h.warnings.iter().map(|w| format!("{name}: {w}")));
                    self.see(h.evidence.clone());
                    for p in h.parts.iter().filter(|p| p.at_ms + p.took_ms > lead_ms || lead_ms == 0) {
                        self.parts.push(Part {
                            name: format!("freeze {name}: {}", p.name),
                            at_ms: p.at_ms.saturating_sub(lead_ms),
                            took_ms: p.took_ms,
                        });
                    }
                    self.held.insert(name, h);
                }
                FreezeAnswer::Failed(why) | FreezeAnswer::Unknown(why) => self.why.push(format!("{name}: {why}")),
                FreezeAnswer::NotOurs(why) => {
                    self.why.push(format!("{name}: {why}"));
                    self.set.retain(|i| i.name != name); // another tool's freeze is not thawed by us
                }
            }
        }
        self.of_freeze = self.why.len();
    }

    pub fn thaw_ended(&mut self, took_us: u64, answers: &[(InstanceName, ThawAnswer)], confirmed: bool) {
        let at_ms = self.at_ms();
        self.why.truncate(self.of_freeze);
        self.parts.push(Part { name: "thaw".into(), at_ms: at_ms.saturating_sub(took_us / 1000), took_ms: took_us / 1000 });
        for (name, a) in answers {
            for p in &a.parts {
                self.parts.push(Part { name: format!("thaw {name}: {}", p.name), ..p.clone() });
            }
            for r in &a.rungs {
                self.why.push(format!("{name}: {} -> {}", r.ran, r.said));
            }
            if let Frozen::Unknown(why) = &a.frozen {
                self.why.push(format!("{name}: {why}"));
            }
            self.see(a.evidence.clone());
        }
        self.why.truncate(MAX_EVIDENCE);
        if confirmed {
            self.thawed_at = Some(wall_now());
            self.window_us = boot_now_us().saturating_sub(self.started_us);
        }
    }

    fn see(&mut self, lines: Vec<String>) {
        let room = MAX_EVIDENCE.saturating_sub(self.evidence.len());
        self.evidence.extend(lines.into_iter().take(room));
    }

    fn marks(&self) -> Vec<InstanceMarks> {
        self.held.iter().map(|(n, h)| InstanceMarks { instance: n.clone(), marks: h.marks.clone() }).collect()
    }

    pub fn window(&self, state: WindowState) -> Window {
        Window {
            backup_id: self.id,
            state,
            frozen_at: self.frozen_at,
            thawed_at: self.thawed_at,
            window_ms: self.window_us.div_ceil(1000),
            parts: self.parts.clone(),
            marks: self.marks(),
            evidence: self.evidence.clone(),
        }
    }

    pub fn reply(&self, thaw_by: BootMs, now: BootMs) -> FreezeReply {
        FreezeReply {
            schema: SCHEMA,
            id: self.id,
            remaining_ms: thaw_by.since(now),
            frozen_at: self.frozen_at.unwrap_or(WallMs(0)),
            freeze_ms: self.freeze_us.div_ceil(1000),
            instances: self.marks(),
            warnings: self.warnings.clone(),
            by: self.by.clone(),
            sync_ms: None,
        }
    }
}
