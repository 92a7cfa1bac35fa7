//! What each outcome does to the saga. Every doubt leads to `Phase::Thaw`.

use super::*;
use crate::marks;
use protocol::outcome::{SnapshotFate, judge};

impl Saga {
    /// Takes what became of the step that `next` named. An outcome of another phase changes nothing: it is a repetition.
    pub fn apply(&mut self, outcome: Outcome, now: WallMs) {
        if !outcome.belongs_to(self.phase) {
            return;
        }
        self.resume_at = None;
        match outcome {
            Outcome::Inspected(all) => self.inspected(all, now),
            Outcome::Froze(all) => self.froze(all),
            Outcome::BackedUp(all) => self.backed_up(all, now),
            Outcome::Snapped(all) => self.snapped(all),
            Outcome::Thawed(all) => self.thawed(all, now),
            Outcome::Found(found) => self.found(found, now),
            Outcome::Marked(done) => self.marked_now(done, now),
            Outcome::Completion(states) => self.completion(states, now),
            Outcome::Aftered(problems) => {
                self.notes.extend(problems.iter().map(|p| format!("{}: {}", p.code, p.detail)));
                self.enter(Phase::Done);
            }
            Outcome::Lost => self.lost(),
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = None;
    }

    fn end(&mut self, problem: Problem) {
        self.problem.get_or_insert(problem);
        self.enter(Phase::Done);
    }

    fn inspected(&mut self, all: Vec<Result<Inspected, Problem>>, now: WallMs) {
        let mut refused = None;
        for (m, answer) in self.members.iter_mut().zip(all) {
            match answer {
                Ok(i) => m.plan = Some(i),
                Err(p) => refused = refused.or(Some(of_host(&m.target, p))),
            }
        }
        if self.order.policy.select.mirror_by.is_some() {
            match crate::admit::choose(&self.members, self.order.policy.member) {
                Ok(i) => {
                    self.members.swap(0, i);
                    self.members.truncate(1);
                }
                Err(p) => return self.end(refused.unwrap_or(p)),
            }
        } else if let Some(p) = refused {
            return self.end(p);
        }
        match crate::admit::admit(&self.order, &self.members, now) {
            Ok(slot) => {
                self.resume_at = Some(slot);
                self.enter(Phase::Freeze);
            }
            Err(p) => self.end(p),
        }
    }

    fn froze(&mut self, all: Vec<FreezeAnswer>) {
        let sent = self.frozen_from.unwrap_or(self.order.made_at);
        let owner = self.order.owner.clone();
        let hold = self.order.policy.hold.ms();
        for (m, answer) in self.members.iter_mut().zip(all) {
            m.freeze = match answer {
                // The host began to count after the order was sent, and had `remaining` left when it answered: both are lower bounds.
                FreezeAnswer::Frozen(reply) if reply.by == owner => {
                    let ends = plus(sent, hold.min(reply.remaining_ms.saturating_add(reply.freeze_ms)));
                    Freeze::Frozen { reply: Box::new(reply), ends }
                }
                FreezeAnswer::Frozen(reply) if !reply.by.is_empty() => Freeze::NotOurs { owner: reply.by },
                FreezeAnswer::Frozen(_) => Freeze::Doubtful { problem: doubt("the agent did not say whose window it is: it is too old") },
                FreezeAnswer::Refused(problem) => Freeze::Refused { problem },
                FreezeAnswer::Failed(problem) => Freeze::Doubtful { problem },
                FreezeAnswer::Unknown(why) => Freeze::Doubtful { problem: doubt(&why) },
            };
        }
        let problem = self.members.iter().find_map(|m| freeze_problem(m).map(|p| of_host(&m.target, p)));
        let problem = problem.or_else(|| marks::too_many(self).err());
        self.enter(if problem.is_none() { Phase::Snapshot } else { Phase::Thaw });
        self.problem = problem;
        self.after_thaw_if_none_is_needed();
    }

    /// The host did it all; what is missing is asked for like any lost answer.
    fn backed_up(&mut self, all: Vec<BackupAnswer>, now: WallMs) {
        for (m, answer) in self.members.iter_mut().zip(all) {
            match answer {
                BackupAnswer::Done { verdict, window, snapshots } => {
                    m.freeze = Freeze::HeldByHost;
                    m.thaw = Thaw::Confirmed { window: Some(window) };
                    m.snapshot = match verdict {
                        Verdict::Held if !snapshots.is_empty() => Snap::Accepted { made: snapshots },
                        Verdict::Held | Verdict::Pending => Snap::Lost,
                        Verdict::Broken(BrokenReason::SnapshotFailed(why)) => {
                            Snap::Failed { problem: Problem::new(Code::SnapshotFailed, why) }
                        }
                        Verdict::Broken(_) if snapshots.is_empty() => Snap::Lost,
                        Verdict::Broken(_) => Snap::Accepted { made: snapshots },
                    };
                }
                BackupAnswer::Refused(problem) => m.freeze = Freeze::Refused { problem },
                BackupAnswer::Failed(problem) => {
                    m.freeze = Freeze::Doubtful { problem };
                    m.snapshot = Snap::Lost;
                }
                BackupAnswer::Unknown(why) => {
                    m.freeze = Freeze::Doubtful { problem: doubt(&why) };
                    m.snapshot = Snap::Lost;
                }
            }
        }
        self.problem = self.members.iter().find_map(|m| freeze_problem(m).map(|p| of_host(&m.target, p)));
        self.enter(Phase::Thaw);
        if self.to_thaw().is_empty() {
            self.thawed(Vec::new(), now);
        }
    }

    fn snapped(&mut self, all: Vec<SnapshotAnswer>) {
        for (m, answer) in self.members.iter_mut().zip(all) {
            m.snapshot = match answer {
                SnapshotAnswer::Accepted(made) => Snap::Accepted { made },
                SnapshotAnswer::Failed(problem) => Snap::Failed { problem },
                SnapshotAnswer::Unknown(why) => {
                    self.notes.push(format!("{}: {why}", m.target.id));
                    Snap::Lost
                }
            };
        }
        self.enter(Phase::Thaw);
    }

    /// The snapshot step was not begun because too little of the hold was left.
    pub fn skip_snapshot(&mut self) {
        if self.phase == Phase::Snapshot {
            let p =
                Problem::new(Code::RefusedTooSlow, "less of the hold was left than the snapshot call may take; thawed without a snapshot")
                    .next("use a longer hold");
            self.problem.get_or_insert(p);
            self.enter(Phase::Thaw);
        }
    }

    /// Whose thaw is not confirmed. A definite refusal froze nothing of ours; another owner's window is its own affair.
    pub(super) fn to_thaw(&self) -> Vec<usize> {
        let needs = |m: &Member| {
            matches!(m.thaw, Thaw::NotConfirmed { .. }) && !matches!(m.freeze, Freeze::Refused { .. } | Freeze::NotOurs { .. })
        };
        (0..self.members.len()).filter(|i| needs(&self.members[*i])).collect()
    }

    fn after_thaw_if_none_is_needed(&mut self) {
        if self.phase == Phase::Thaw && self.to_thaw().is_empty() {
            self.close_window();
        }
    }

    fn thawed(&mut self, all: Vec<ThawAnswer>, now: WallMs) {
        let give_up = self.call_a_person_at();
        for (i, answer) in self.to_thaw().into_iter().zip(all) {
            let m = &mut self.members[i];
            let tries = if let Thaw::NotConfirmed { tries } = m.thaw { tries + 1 } else { 1 };
            let unconfirmed = |problem: Problem| if now >= give_up { Thaw::LeftFrozen { problem } } else { Thaw::NotConfirmed { tries } };
            m.thaw = match answer {
                ThawAnswer::Thawed(w) => Thaw::Confirmed { window: Some(Box::new(w)) },
                ThawAnswer::NeverFrozen => Thaw::Confirmed { window: None },
                ThawAnswer::StillFrozen(p) => unconfirmed(p),
                ThawAnswer::Unknown(why) => unconfirmed(Problem::new(Code::LeftFrozen, why)),
            };
        }
        if self.to_thaw().is_empty() {
            self.close_window();
        } else {
            self.resume_at = Some(plus(now, AGAIN_MS));
        }
    }

    /// Every host is thawed, or a person is called: the verdict.
    fn close_window(&mut self) {
        for m in &mut self.members {
            if matches!(m.thaw, Thaw::NotConfirmed { .. }) {
                m.thaw = Thaw::NotNeeded;
            }
        }
        let left = self.left_frozen().next().map(|(target, problem)| {
            Problem::new(Code::LeftFrozen, format!("{}: {}", target.id, problem.detail))
                .next(format!("on {}: sudo snapfreeze thaw", target.id))
        });
        self.problem = left.or(self.problem.take());
        if self.members.iter().all(|m| matches!(m.snapshot, Snap::NotSent | Snap::Failed { .. })) {
            let failed = self.members.iter().find_map(|m| match &m.snapshot {
                Snap::Failed { problem } => Some(of_host(&m.target, Problem { code: Code::SnapshotFailed, ..problem.clone() })),
                Snap::NotSent | Snap::Accepted { .. } | Snap::Lost | Snap::Found { .. } => None,
            });
            return self.end(failed.unwrap_or_else(|| doubt("no snapshot was asked for")));
        }
        self.verdict = Some(self.judge());
        let lost = self.members.iter().any(|m| matches!(m.snapshot, Snap::Lost));
        self.enter(if lost { Phase::Find } else { Phase::Mark });
    }

    fn judge(&self) -> Verdict {
        let one = |m: &Member| {
            let fate = match &m.snapshot {
                Snap::Accepted { .. } => SnapshotFate::AcceptedBeforeThaw,
                Snap::Failed { problem } => SnapshotFate::Failed(problem.detail.clone()),
                Snap::NotSent => SnapshotFate::Failed(format!("{}: no snapshot was asked for", m.target.id)),
                Snap::Lost | Snap::Found { .. } => SnapshotFate::ReplyLost,
            };
            let window = if let Thaw::Confirmed { window: Some(w) } = &m.thaw { Some(&w.state) } else { None };
            judge(window, &fate)
        };
        self.members.iter().map(one).find(|v| *v != Verdict::Held).unwrap_or(Verdict::Held)
    }

    fn found(&mut self, found: Result<Vec<Snapshot>, Problem>, now: WallMs) {
        let since = self.since.unwrap_or(now);
        let over = now >= plus(since, FIND_FOR_MS);
        let found = match found {
            Ok(f) => f,
            Err(p) => {
                self.notes.push(format!("looking for the set: {}", p.detail));
                Vec::new()
            }
        };
        if found.is_empty() && !over {
            self.resume_at = Some(plus(now, AGAIN_MS));
            return;
        }
        // A host-held set carries the host's own verdict: it judged the window and the answer to its own call.
        if self.order.policy.held_by == HeldBy::Host
            && let Some(v) = marks::verdict_on(&found)
        {
            self.verdict = Some(v);
        }
        let known: Vec<String> = self.made().iter().map(|m| m.snapshot.clone()).collect();
        for s in found.into_iter().filter(|s| !known.contains(&s.snapshot)) {
            let made = Made { snapshot: s.snapshot, volume: s.volume };
            let at = self.members.iter().position(|m| m.has_volume(&made.volume)).unwrap_or(0);
            match &mut self.members[at].snapshot {
                Snap::Accepted { made: all } => all.push(made),
                Snap::Found { made: all } => all.push(made),
                other => *other = Snap::Found { made: vec![made] },
            }
        }
        self.enter(if self.made().is_empty() { Phase::Done } else { Phase::Mark });
        if self.phase == Phase::Done {
            self.problem.get_or_insert(doubt("the snapshot's answer was lost and no snapshot was found; `reap` looks again"));
        }
    }

    fn marked_now(&mut self, done: Result<(), Problem>, now: WallMs) {
        match done {
            Ok(()) => {
                self.marked.clone_from(&self.verdict);
                let held = self.verdict == Some(Verdict::Held);
                self.enter(if held { Phase::Complete } else { Phase::Done });
            }
            Err(p) if now < plus(self.since.unwrap_or(now), MARK_FOR_MS) => {
                self.resume_at = Some(plus(now, AGAIN_MS));
                self.note_once(format!("tags could not be written yet: {}", p.detail));
            }
            Err(p) => {
                // Untagged it stays pending, which is never offered for a restore; say so rather than claim.
                self.verdict = Some(Verdict::Broken(BrokenReason::VerdictLost));
                self.end(Problem::new(Code::WindowBroken, format!("the verdict could not be written on the snapshots: {}", p.detail)));
            }
        }
    }

    fn completion(&mut self, states: Result<Vec<Snapshot>, Problem>, now: WallMs) {
        let made = self.made();
        let over = now >= plus(self.since.unwrap_or(now), self.order.policy.complete_ms);
        let why = match states {
            Ok(all) => {
                let of = |m: &Made| all.iter().find(|s| s.snapshot == m.snapshot).map(|s| s.state);
                if let Some(bad) = made.iter().find(|m| of(m) == Some(State::Failed)) {
                    Some(format!("{} of {} ended in error", bad.snapshot, bad.volume))
                } else if made.iter().all(|m| of(m) == Some(State::Completed)) {
                    let p = &self.order.policy;
                    let more = !p.copy_to.is_empty() || p.lock.is_some() || !p.fast_restore.is_empty();
                    return self.enter(if more { Phase::After } else { Phase::Done });
                } else {
                    over.then(|| format!("not complete after {}", crate::span::say(self.order.policy.complete_ms)))
                }
            }
            Err(p) => over.then(|| format!("whether it is complete could not be asked: {}", p.detail)),
        };
        match why {
            None => self.resume_at = Some(plus(now, COMPLETE_EVERY_MS)),
            Some(why) => {
                self.verdict = Some(Verdict::Broken(BrokenReason::SnapshotFailed(why)));
                self.enter(Phase::Mark);
            }
        }
    }

    /// The process that carried out the running step is gone. What it may have done counts as done.
    fn lost(&mut self) {
        let gone = "whoever carried out this step is gone";
        match self.phase {
            Phase::Inspect => self.end(Problem::new(Code::Internal, "lost before the freeze; nothing was frozen")),
            Phase::Freeze => {
                let host_held = self.order.policy.held_by == HeldBy::Host;
                for m in &mut self.members {
                    m.freeze = Freeze::Doubtful { problem: doubt(gone) };
                    if host_held {
                        m.snapshot = Snap::Lost;
                    }
                }
                self.problem = Some(doubt(gone));
                self.enter(Phase::Thaw);
            }
            Phase::Snapshot => {
                for m in &mut self.members {
                    m.snapshot = Snap::Lost;
                }
                self.notes.push(gone.into());
                self.enter(Phase::Thaw);
            }
            // These are asked again as often as it takes.
            Phase::Thaw | Phase::Find | Phase::Mark | Phase::Complete | Phase::After | Phase::Done => {}
        }
    }

    /// When every host must have thawed by itself and still none says so.
    fn call_a_person_at(&self) -> WallMs {
        let policy = &self.order.policy;
        let sent = self.frozen_from.or(self.thaw_from).unwrap_or(self.order.made_at);
        let latest = plus(sent, policy.late_ms + FREEZE_ANSWER_MS + policy.hold.ms() + SELF_THAW_MS);
        latest.max(plus(self.thaw_from.unwrap_or(sent), 2 * THAW_TRY_MS))
    }

    fn note_once(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

impl Member {
    fn has_volume(&self, volume: &str) -> bool {
        self.plan.as_ref().is_some_and(|p| p.look.volumes.iter().any(|v| v.volume == volume))
    }
}

impl Outcome {
    const fn belongs_to(&self, phase: Phase) -> bool {
        match self {
            Self::Inspected(_) => matches!(phase, Phase::Inspect),
            Self::Froze(_) | Self::BackedUp(_) => matches!(phase, Phase::Freeze),
            Self::Snapped(_) => matches!(phase, Phase::Snapshot),
            Self::Thawed(_) => matches!(phase, Phase::Thaw),
            Self::Found(_) => matches!(phase, Phase::Find),
            Self::Marked(_) => matches!(phase, Phase::Mark),
            Self::Completion(_) => matches!(phase, Phase::Complete),
            Self::Aftered(_) => matches!(phase, Phase::After),
            Self::Lost => true,
        }
    }
}

fn freeze_problem(m: &Member) -> Option<Problem> {
    match &m.freeze {
        Freeze::Frozen { .. } | Freeze::HeldByHost => None,
        Freeze::NotSent => Some(doubt("no freeze was sent")),
        Freeze::Refused { problem } | Freeze::Doubtful { problem } => Some(problem.clone()),
        Freeze::NotOurs { owner } => {
            Some(Problem::new(Code::RefusedUsedId, format!("this backup is already being made by {owner:?}; left alone")))
        }
    }
}

fn doubt(why: &str) -> Problem {
    Problem::new(Code::FreezeTimedOut, why)
}

fn of_host(target: &Target, p: Problem) -> Problem {
    Problem { detail: format!("{}: {}", target.id, p.detail), ..p }
}
