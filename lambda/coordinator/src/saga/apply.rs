//! What each outcome does to the saga. Every doubt leads to `Phase::Thaw`.

use super::*;
use crate::marks;
use protocol::WindowState;
use protocol::code::exit;
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
            Outcome::Froze(all) => self.froze(all, now),
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
            Outcome::Lost => self.lost(now),
        }
    }

    /// Ends a backup that must not begin: nothing was sent yet. Later than that it changes nothing.
    pub fn refuse(&mut self, problem: Problem) {
        if self.phase == Phase::Inspect || (self.phase == Phase::Freeze && self.frozen_from.is_none()) {
            self.resume_at = None;
            self.end(problem);
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

    fn froze(&mut self, all: Vec<FreezeAnswer>, now: WallMs) {
        let sent = self.frozen_from.unwrap_or(self.order.made_at);
        let (id, owner, hold) = (self.order.id, self.order.owner.clone(), self.order.policy.hold.ms());
        self.frozen_by = Some(now);
        let mut all = all.into_iter();
        for m in &mut self.members {
            m.freeze = match all.next() {
                Some(FreezeAnswer::Frozen(reply)) if reply.id != id => {
                    Freeze::Doubtful { problem: doubt("the answer is of another backup") }
                }
                // A snapshot of a disk would miss what is still in the host's memory.
                Some(FreezeAnswer::Frozen(reply)) if reply.by == owner && reply.sync_ms.is_none() => {
                    Freeze::Doubtful { problem: doubt("the agent did not write the page cache to disk") }
                }
                // The host had `remaining` left when it answered, which was after the order was sent. Its own time for the freeze
                // is not added: a repeated order is answered by a freeze that was carried out before it.
                Some(FreezeAnswer::Frozen(reply)) if reply.by == owner => {
                    let ends = plus(sent, hold.min(reply.remaining_ms));
                    Freeze::Frozen { reply: Box::new(reply), ends }
                }
                Some(FreezeAnswer::Frozen(reply)) if !reply.by.is_empty() => Freeze::NotOurs { owner: reply.by },
                Some(FreezeAnswer::Frozen(_)) => {
                    Freeze::Doubtful { problem: doubt("the agent did not say whose window it is: it is too old") }
                }
                Some(FreezeAnswer::Refused(problem)) => refused(problem),
                Some(FreezeAnswer::Failed(problem)) => Freeze::Doubtful { problem },
                Some(FreezeAnswer::Unknown(why)) => Freeze::Doubtful { problem: doubt(&why) },
                None => Freeze::Doubtful { problem: doubt("no answer was handed over") },
            };
        }
        let problem = self.freeze_problem();
        let no_room = |p: Problem| Problem { code: Code::SnapshotFailed, ..p };
        let problem = problem.or_else(|| marks::too_many(self).err().map(no_room));
        self.enter(if problem.is_none() { Phase::Snapshot } else { Phase::Thaw });
        self.problem = problem;
        self.after_thaw_if_none_is_needed();
    }

    /// The host did it all; what is missing is asked for like any lost answer.
    fn backed_up(&mut self, all: Vec<BackupAnswer>, now: WallMs) {
        let id = self.order.id;
        let mut all = all.into_iter();
        let mut may_run = false;
        for m in &mut self.members {
            match all.next() {
                Some(BackupAnswer::Done { verdict, window, snapshots }) if window.backup_id == id => {
                    m.freeze = Freeze::HeldByHost;
                    m.thaw = Thaw::Confirmed { window: Some(window) };
                    m.snapshot = match &verdict {
                        Verdict::Held if !snapshots.is_empty() => Snap::Accepted { made: snapshots },
                        Verdict::Broken(BrokenReason::SnapshotFailed(why)) if snapshots.is_empty() => {
                            Snap::Failed { problem: Problem::new(Code::SnapshotFailed, why.clone()) }
                        }
                        // What is there belongs to the set, and never makes it held.
                        Verdict::Broken(_) if !snapshots.is_empty() => Snap::Found { made: snapshots },
                        Verdict::Held | Verdict::Pending | Verdict::Broken(_) => Snap::Lost,
                    };
                    if let Verdict::Broken(why) = verdict {
                        m.host_says = Some(why);
                    }
                }
                Some(BackupAnswer::Refused(problem)) => {
                    m.freeze = refused(problem);
                    if matches!(m.freeze, Freeze::Doubtful { .. }) {
                        m.snapshot = Snap::Lost;
                    }
                }
                Some(BackupAnswer::Failed(problem)) => {
                    m.freeze = Freeze::Doubtful { problem };
                    m.snapshot = Snap::Lost;
                }
                Some(BackupAnswer::Done { .. }) => {
                    m.freeze = Freeze::Doubtful { problem: doubt("the answer is of another backup") };
                    (m.snapshot, may_run) = (Snap::Lost, true);
                }
                Some(BackupAnswer::Unknown(why)) => {
                    m.freeze = Freeze::Doubtful { problem: doubt(&why) };
                    (m.snapshot, may_run) = (Snap::Lost, true);
                }
                None => {
                    m.freeze = Freeze::Doubtful { problem: doubt("no answer was handed over") };
                    (m.snapshot, may_run) = (Snap::Lost, true);
                }
            }
        }
        self.problem = self.freeze_problem();
        self.enter(Phase::Thaw);
        if may_run {
            self.resume_at = Some(self.host_is_done_at(now));
        }
        if self.to_thaw().is_empty() {
            self.thawed(Vec::new(), now);
        }
    }

    /// A host-held window that may still run is not ours to cut short: a thaw before the host's own snapshot would leave it a
    /// window that ended too early. The host thaws by itself by then, and the thaw that follows confirms it.
    fn host_is_done_at(&self, now: WallMs) -> WallMs {
        let p = &self.order.policy;
        plus(self.frozen_from.unwrap_or(now), p.late_ms + p.hold.ms() + SELF_THAW_MS)
    }

    /// The one that comes first in the table of exit codes (contract §4): doubt before a refusal.
    fn freeze_problem(&self) -> Option<Problem> {
        let all = self.members.iter().filter_map(|m| freeze_problem(m).map(|p| of_host(&m.target, p)));
        all.min_by_key(|p| rank(p.code))
    }

    fn snapped(&mut self, all: Vec<SnapshotAnswer>) {
        let mut all = all.into_iter();
        for m in &mut self.members {
            m.snapshot = match all.next() {
                Some(SnapshotAnswer::Accepted(made)) => Snap::Accepted { made },
                Some(SnapshotAnswer::Failed(problem)) => Snap::Failed { problem },
                Some(SnapshotAnswer::Unknown(why)) => {
                    self.notes.push(format!("{}: {why}", m.target.id));
                    Snap::Lost
                }
                None => Snap::Lost,
            };
        }
        self.enter(Phase::Thaw);
    }

    /// The snapshot step was not begun because too little of the hold was left.
    pub fn skip_snapshot(&mut self) {
        if self.phase == Phase::Snapshot {
            let p =
                Problem::new(Code::SnapshotFailed, "less of the hold was left than the snapshot call may take; thawed without a snapshot")
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
        let (id, silent, certain) = (self.order.id, self.call_a_person_at(), self.two_tries_after(now));
        let missing = || ThawAnswer::Unknown("no answer was handed over".into());
        let mut all = all.into_iter();
        for i in self.to_thaw() {
            let m = &mut self.members[i];
            let tries = if let Thaw::NotConfirmed { tries } = m.thaw { tries.saturating_add(1) } else { 1 };
            let unconfirmed = |problem: Problem, at: WallMs| {
                if now >= at { Thaw::LeftFrozen { problem } } else { Thaw::NotConfirmed { tries } }
            };
            m.thaw = match all.next().unwrap_or_else(missing) {
                ThawAnswer::Thawed(w) if w.backup_id == id => Thaw::Confirmed { window: Some(Box::new(w)) },
                ThawAnswer::Thawed(_) => unconfirmed(Problem::new(Code::LeftFrozen, "the answer is of another backup"), silent),
                ThawAnswer::NeverFrozen if matches!(m.freeze, Freeze::Frozen { .. }) => {
                    let why = "the agent confirmed the freeze and knows nothing of it now: its records are gone";
                    unconfirmed(Problem::new(Code::LeftFrozen, why), silent)
                }
                ThawAnswer::NeverFrozen => Thaw::Confirmed { window: None },
                ThawAnswer::NotOurs if matches!(m.freeze, Freeze::Frozen { .. } | Freeze::HeldByHost) => {
                    unconfirmed(Problem::new(Code::LeftFrozen, "the window that we opened is now said to be another one's"), silent)
                }
                ThawAnswer::NotOurs => {
                    m.freeze = Freeze::NotOurs { owner: String::new() };
                    Thaw::NotNeeded
                }
                // The host itself says so: nobody gains by waiting for its timer.
                ThawAnswer::StillFrozen(p) => unconfirmed(p, certain),
                ThawAnswer::Unknown(why) => unconfirmed(Problem::new(Code::LeftFrozen, why), silent),
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
            if let Some(why) = &m.host_says {
                return Verdict::Broken(why.clone());
            }
            let fate = match &m.snapshot {
                Snap::Accepted { made } => match self.not_what_was_planned(m, made) {
                    None => SnapshotFate::AcceptedBeforeThaw,
                    Some(why) => SnapshotFate::Failed(why),
                },
                Snap::Failed { problem } => SnapshotFate::Failed(problem.detail.clone()),
                Snap::NotSent => SnapshotFate::Failed(format!("{}: no snapshot was asked for", m.target.id)),
                Snap::Lost | Snap::Found { .. } => SnapshotFate::ReplyLost,
            };
            let window = if let Thaw::Confirmed { window: Some(w) } = &m.thaw { Some(w) } else { None };
            match judge(window.map(|w| &w.state), &fate) {
                Verdict::Held => window.and_then(|w| self.too_short(m, w.window_ms)).map_or(Verdict::Held, Verdict::Broken),
                other => other,
            }
        };
        self.members.iter().map(one).find(|v| *v != Verdict::Held).unwrap_or(Verdict::Held)
    }

    /// The call takes the volumes that are attached at its moment, the tags and the coverage are those of the inspection.
    fn not_what_was_planned(&self, m: &Member, made: &[Made]) -> Option<String> {
        let plan = m.plan.as_ref()?;
        let count = |volume: &str| made.iter().filter(|s| s.volume == volume).count();
        let made_of = |key: &str| plan.look.volumes.iter().any(|v| v.key == key && count(&v.volume) > 0);
        if let Some(v) = plan.facts.volumes.iter().find(|v| !made_of(&v.volume)) {
            return Some(format!("{}: {} carries the databases and was not snapshotted", m.target.id, v.volume));
        }
        if self.order.policy.held_by == HeldBy::Host {
            return None;
        }
        let planned: Vec<&str> = crate::admit::taken(&self.order, plan).map(|v| v.volume.as_str()).collect();
        let same = planned.len() == made.len() && planned.iter().all(|v| count(v) == 1);
        (!same).then(|| {
            format!("{}: {} volumes were planned, {} snapshots were made: volumes changed", m.target.id, planned.len(), made.len())
        })
    }

    /// The window must reach from the freeze reply to our own first thaw. One that is shorter was ended by somebody else, also
    /// if the host took that thaw for ours.
    fn too_short(&self, m: &Member, window_ms: u64) -> Option<BrokenReason> {
        let (Freeze::Frozen { reply, .. }, Some(from), Some(to)) = (&m.freeze, self.frozen_by, self.thaw_from) else { return None };
        let seen = u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0).saturating_add(reply.freeze_ms);
        let short = window_ms.saturating_add(CLOCKS_AGREE_MS) < seen;
        short.then(|| BrokenReason::OtherTool(format!("the window lasted {window_ms} ms, but our thaw was sent after {seen} ms at least")))
    }

    fn found(&mut self, found: Result<Vec<Snapshot>, Problem>, now: WallMs) {
        let host_held = self.order.policy.held_by == HeldBy::Host;
        // A helper on the host may still write its verdict; where the cloud made the set there is none.
        let helper = host_held && self.order.policy.snapshotter.is_disks();
        let over = now >= plus(self.since.unwrap_or(now), if helper { HOST_TAIL_MS } else { FIND_FOR_MS });
        let found = match found {
            Ok(f) => f,
            Err(p) => {
                self.note_once(format!("looking for the set: {}", p.detail));
                Vec::new()
            }
        };
        // A host-held set carries the host's own verdict: it judged the window and the answer to its own call.
        let told = if host_held { marks::verdict_on(&found) } else { None };
        let planned =
            self.members.iter().filter_map(|m| m.plan.as_ref()).map(|p| crate::admit::taken(&self.order, p).count()).sum::<usize>();
        let whole = if host_held { told.is_some() } else { found.len() >= planned.max(1) };
        if !whole && !over {
            self.resume_at = Some(plus(now, AGAIN_MS));
            return;
        }
        if let Some(v) = told {
            self.take_from_host(v, &found);
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
        if self.verdict == Some(Verdict::Held) {
            let left_out = self.members.iter().find_map(|m| self.not_what_was_planned(m, &self.made()));
            self.verdict = Some(left_out.map_or(Verdict::Held, |why| Verdict::Broken(BrokenReason::SnapshotFailed(why))));
        }
        self.enter(if self.made().is_empty() { Phase::Done } else { Phase::Mark });
        if self.phase == Phase::Done {
            self.problem.get_or_insert(doubt("the snapshot's answer was lost and no snapshot was found; `reap` looks again"));
        }
    }

    /// The answer was lost, the verdict was not. A window that is known to be broken stays so.
    fn take_from_host(&mut self, told: Verdict, found: &[Snapshot]) {
        let known_broken = self.members.iter().find_map(|m| match &m.thaw {
            Thaw::Confirmed { window: Some(w) } => match &w.state {
                WindowState::Broken(why) => Some(why.clone()),
                WindowState::Unbroken => None,
            },
            Thaw::NotConfirmed { .. } | Thaw::Confirmed { window: None } | Thaw::NotNeeded | Thaw::LeftFrozen { .. } => None,
        });
        let left = self.left_frozen().next().is_some();
        match (told, known_broken) {
            (Verdict::Held, None) if !left => {
                if let Some(p) = self.problem.take() {
                    self.note_once(format!("{}; the host's own verdict stands on its {} snapshots", p.detail, found.len()));
                }
                self.verdict = Some(Verdict::Held);
            }
            (Verdict::Held, Some(why)) => self.verdict = Some(Verdict::Broken(why)),
            (Verdict::Broken(why), _) => self.verdict = Some(Verdict::Broken(why)),
            (Verdict::Held | Verdict::Pending, _) => {}
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
                if self.verdict == Some(Verdict::Held) {
                    self.verdict = Some(Verdict::Broken(BrokenReason::VerdictLost));
                }
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
                if let Some(more) = all.iter().find(|s| !made.iter().any(|m| m.snapshot == s.snapshot)) {
                    Some(format!(
                        "{} of {} carries this backup's id and was not asked for: a call was carried out twice",
                        more.snapshot, more.volume
                    ))
                } else if let Some(bad) = made.iter().find(|m| of(m) == Some(State::Failed)) {
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
    fn lost(&mut self, now: WallMs) {
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
                if host_held {
                    self.resume_at = Some(self.host_is_done_at(now));
                }
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
        latest.max(self.two_tries_after(sent))
    }

    fn two_tries_after(&self, now: WallMs) -> WallMs {
        plus(self.thaw_from.unwrap_or(now), 2 * THAW_TRY_MS)
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

/// Certain only with a code of which the contract says that nothing was frozen; any other is doubt.
fn refused(problem: Problem) -> Freeze {
    match problem.code.exit() {
        exit::REFUSED | exit::CLOUD_REFUSED | exit::UNREACHABLE | exit::USAGE => Freeze::Refused { problem },
        _ => Freeze::Doubtful { problem },
    }
}

/// Contract §4: "the first that applies, from top to bottom".
fn rank(code: Code) -> usize {
    let order = [
        exit::LEFT_FROZEN,
        exit::INTERRUPTED,
        exit::FREEZE_FAILED,
        exit::SNAPSHOT_FAILED,
        exit::BROKEN,
        exit::REFUSED,
        exit::CLOUD_REFUSED,
        exit::UNREACHABLE,
        exit::USAGE,
    ];
    order.iter().position(|e| *e == code.exit()).unwrap_or(order.len())
}

fn doubt(why: &str) -> Problem {
    Problem::new(Code::FreezeTimedOut, why)
}

fn of_host(target: &Target, p: Problem) -> Problem {
    Problem { detail: format!("{}: {}", target.id, p.detail), ..p }
}
