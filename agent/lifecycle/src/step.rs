//! The whole behaviour: one function per state, every event decided in each.

use crate::{
    AGAIN_MS, ARM_MS, Budget, Cause, Dog, Effect, Event, FreezeCall, FreezeOutcome, GuardStep, KILL_MS, Machine, News, Order, Past,
    REARM_MS, State, Stored, ThawOutcome, ThawStep, judge,
};
use protocol::outcome::{BrokenReason, WindowState};
use protocol::{BackupId, BootMs, Code, Known};

impl Machine {
    /// Takes one event at `now`. `Arm`, `Rearm`, `Record`, `Tombstone` and `Disarm` are carried out by one worker in
    /// their order (a late `Arm` must not end a newer watchdog); all others at once, without waiting for any.
    pub fn step(&mut self, event: Event, now: BootMs) -> Vec<Effect> {
        let mut out = Vec::new();
        match self.state.clone() {
            State::Idle => self.idle(event, now, &mut out),
            State::Arming { order, since, thaw_by } => self.arming(order, since, thaw_by, event, now, &mut out),
            State::Freezing { order, since, thaw_by, give_up, dog } => {
                if now >= give_up && !matches!(event, Event::FreezeAnswered(..)) {
                    // The hold or the command's own time is over: whatever the event was, the thaw comes first.
                    self.kill_then_thaw(order, since, give_up, Cause::FreezeFault(Code::FreezeTimedOut), now, &mut out);
                    self.after_expiry(event, now, &mut out);
                } else {
                    self.freezing(order, since, thaw_by, give_up, dog, event, now, &mut out);
                }
            }
            State::Frozen { order, since, thaw_by, dog } => {
                if now >= thaw_by {
                    self.thaw(order, since, Cause::HoldExpired, FreezeCall::Over, now, &mut out);
                    self.after_expiry(event, now, &mut out);
                } else {
                    self.frozen(order, since, thaw_by, dog, event, now, &mut out);
                }
            }
            State::Thawing { .. } | State::Recording { .. } | State::Guarding { .. } => self.thawing_or_later(event, now, &mut out),
        }
        out
    }

    fn idle(&mut self, event: Event, now: BootMs, out: &mut Vec<Effect>) {
        match event {
            Event::FreezeAsked(order) => {
                if let Some(code) = self.refusal(&order.id) {
                    out.push(tell(order.id, News::Refused(code)));
                    return;
                }
                let thaw_by = now.plus(order.rules.hold.ms());
                let freeze_by = now.plus(ARM_MS + order.rules.margins.freeze_ms);
                self.state = State::Arming { order, since: now, thaw_by };
                out.push(Effect::Arm { order, thaw_by, freeze_by });
            }
            Event::ThawAsked(id) => self.thaw_of_the_past(id, out),
            // Arming was given up before this answer came.
            Event::Armed(id) => out.push(Effect::Disarm { id }),
            Event::Stop => {
                self.stopping = true;
                out.push(Effect::Exit);
            }
            Event::ThawAllAsked
            | Event::ArmFailed(_)
            | Event::FreezeAnswered(..)
            | Event::ThawAnswered(..)
            | Event::GuardAnswered(..)
            | Event::Recorded(..)
            | Event::WatchdogLost(_)
            | Event::Tick => {}
        }
    }

    fn arming(&mut self, order: Order, since: BootMs, thaw_by: BootMs, event: Event, now: BootMs, out: &mut Vec<Effect>) {
        let late = now >= arm_by(since, thaw_by);
        match event {
            Event::Armed(id) if id == order.id && !late => {
                let give_up = now.plus(order.rules.margins.freeze_ms).min(thaw_by);
                self.state = State::Freezing { order, since: now, thaw_by, give_up, dog: Dog::Armed };
                out.push(Effect::Freeze { id, by: give_up });
            }
            Event::Armed(id) if id == order.id => self.give_up(order, Code::RefusedNotArmed, out),
            Event::ArmFailed(id) if id == order.id => self.give_up(order, Code::RefusedNotArmed, out),
            Event::Tick if late => self.give_up(order, Code::RefusedNotArmed, out),
            Event::ThawAsked(id) if id == order.id => self.give_up(order, Code::RefusedUsedId, out),
            Event::ThawAllAsked => self.give_up(order, Code::Interrupted, out),
            Event::Stop => {
                self.stopping = true;
                self.give_up(order, Code::RefusedStopping, out);
            }
            Event::Armed(id) => out.push(Effect::Disarm { id }),
            Event::ThawAsked(id) => self.thaw_of_the_past(id, out),
            // The same order again: its answer comes when the first one's does.
            Event::FreezeAsked(o) => self.refuse_other(order, o, out),
            Event::ArmFailed(_)
            | Event::FreezeAnswered(..)
            | Event::ThawAnswered(..)
            | Event::GuardAnswered(..)
            | Event::Recorded(..)
            | Event::WatchdogLost(_)
            | Event::Tick => {}
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the state, taken apart once")]
    fn freezing(
        &mut self,
        order: Order,
        since: BootMs,
        thaw_by: BootMs,
        give_up: BootMs,
        dog: Dog,
        event: Event,
        now: BootMs,
        out: &mut Vec<Effect>,
    ) {
        let with_dog = |dog| State::Freezing { order, since, thaw_by, give_up, dog };
        match event {
            Event::FreezeAnswered(id, outcome) if id == order.id => match outcome {
                FreezeOutcome::Frozen if now < thaw_by => {
                    self.state = State::Frozen { order, since, thaw_by, dog };
                    out.push(tell(id, News::Frozen));
                }
                FreezeOutcome::Frozen => self.thaw(order, since, Cause::HoldExpired, FreezeCall::Over, now, out),
                FreezeOutcome::NotOurs => self.give_up(order, Code::RefusedAlreadyFrozen, out),
                // It "failed": it may have frozen all the same. Doubt goes to the thaw.
                FreezeOutcome::Failed => self.thaw(order, since, Cause::FreezeFault(Code::FreezeFailed), FreezeCall::Over, now, out),
                FreezeOutcome::Unknown => {
                    let code = if now >= give_up { Code::FreezeTimedOut } else { Code::FreezeFailed };
                    self.thaw(order, since, Cause::FreezeFault(code), doubtful(&order, give_up), now, out);
                }
            },
            Event::ThawAsked(id) if id == order.id => {
                self.kill_then_thaw(order, since, give_up, Cause::FreezeFault(Code::FreezeFailed), now, out);
            }
            Event::ThawAllAsked => self.kill_then_thaw(order, since, give_up, Cause::Person, now, out),
            Event::Stop => {
                self.stopping = true;
                self.kill_then_thaw(order, since, give_up, Cause::Stopping, now, out);
            }
            Event::WatchdogLost(id) if id == order.id => {
                self.state = with_dog(Dog::Rearming { by: now.plus(REARM_MS) });
                out.push(Effect::Rearm { id });
            }
            Event::Armed(id) if id == order.id => self.state = with_dog(Dog::Armed),
            Event::ArmFailed(id) if id == order.id => self.kill_then_thaw(order, since, give_up, Cause::WatchdogLost, now, out),
            Event::Tick if rearm_is_late(dog, now) => self.kill_then_thaw(order, since, give_up, Cause::WatchdogLost, now, out),
            Event::Armed(id) => out.push(Effect::Disarm { id }),
            Event::ThawAsked(id) => self.thaw_of_the_past(id, out),
            Event::FreezeAsked(o) => self.refuse_other(order, o, out),
            Event::FreezeAnswered(..)
            | Event::ArmFailed(_)
            | Event::WatchdogLost(_)
            | Event::ThawAnswered(..)
            | Event::GuardAnswered(..)
            | Event::Recorded(..)
            | Event::Tick => {}
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the state, taken apart once")]
    fn frozen(&mut self, order: Order, since: BootMs, thaw_by: BootMs, dog: Dog, event: Event, now: BootMs, out: &mut Vec<Effect>) {
        let with_dog = |dog| State::Frozen { order, since, thaw_by, dog };
        match event {
            Event::ThawAsked(id) if id == order.id => self.thaw(order, since, Cause::Asked, FreezeCall::Over, now, out),
            Event::ThawAllAsked => self.thaw(order, since, Cause::Person, FreezeCall::Over, now, out),
            Event::Stop => {
                self.stopping = true;
                self.thaw(order, since, Cause::Stopping, FreezeCall::Over, now, out);
            }
            Event::WatchdogLost(id) if id == order.id => {
                self.state = with_dog(Dog::Rearming { by: now.plus(REARM_MS) });
                out.push(Effect::Rearm { id });
            }
            Event::Armed(id) if id == order.id => self.state = with_dog(Dog::Armed),
            Event::ArmFailed(id) if id == order.id => self.thaw(order, since, Cause::WatchdogLost, FreezeCall::Over, now, out),
            Event::Tick if rearm_is_late(dog, now) => self.thaw(order, since, Cause::WatchdogLost, FreezeCall::Over, now, out),
            // The answer was lost: the same again.
            Event::FreezeAsked(o) if o.id == order.id => out.push(tell(o.id, News::Frozen)),
            Event::FreezeAsked(o) => self.refuse_other(order, o, out),
            Event::Armed(id) => out.push(Effect::Disarm { id }),
            Event::ThawAsked(id) => self.thaw_of_the_past(id, out),
            Event::ArmFailed(_)
            | Event::FreezeAnswered(..)
            | Event::WatchdogLost(_)
            | Event::ThawAnswered(..)
            | Event::GuardAnswered(..)
            | Event::Recorded(..)
            | Event::Tick => {}
        }
    }

    /// The event that came when the hold was over: asks are still heard, but no answer can belong to the thaw just begun.
    fn after_expiry(&mut self, event: Event, now: BootMs, out: &mut Vec<Effect>) {
        match event {
            Event::FreezeAsked(_) | Event::ThawAsked(_) | Event::ThawAllAsked | Event::Armed(_) | Event::WatchdogLost(_) | Event::Stop => {
                self.thawing_or_later(event, now, out);
            }
            Event::ArmFailed(_)
            | Event::FreezeAnswered(..)
            | Event::ThawAnswered(..)
            | Event::GuardAnswered(..)
            | Event::Recorded(..)
            | Event::Tick => {}
        }
    }

    /// The states from which no window comes back: `Thawing`, `Recording`, `Guarding`.
    fn thawing_or_later(&mut self, event: Event, now: BootMs, out: &mut Vec<Effect>) {
        match event {
            Event::Stop => {
                self.stopping = true;
                if matches!(self.state, State::Guarding { .. }) {
                    out.push(Effect::Exit); // the watchdog guards on; the next start takes it up from the entry
                }
                return;
            }
            Event::ThawAsked(id) if self.state.order().is_none_or(|o| o.id != id) => return self.thaw_of_the_past(id, out),
            Event::Armed(id) if self.state.order().is_none_or(|o| o.id != id) => return out.push(Effect::Disarm { id }),
            Event::FreezeAsked(o) => return self.freeze_asked_late(o, out),
            Event::ThawAsked(_)
            | Event::ThawAllAsked
            | Event::Armed(_)
            | Event::ArmFailed(_)
            | Event::FreezeAnswered(..)
            | Event::ThawAnswered(..)
            | Event::GuardAnswered(..)
            | Event::Recorded(..)
            | Event::WatchdogLost(_)
            | Event::Tick => {}
        }
        match self.state.clone() {
            State::Thawing { order, since, cause, freeze, budget, step } => {
                self.thawing(order, since, cause, freeze, budget, step, event, now, out)
            }
            State::Recording { order, window, fault, freeze } => self.recording(order, window, fault, freeze, event, now, out),
            State::Guarding { order, until, step } => self.guarding(order, until, step, event, now, out),
            State::Idle | State::Arming { .. } | State::Freezing { .. } | State::Frozen { .. } => {}
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the state, taken apart once")]
    fn thawing(
        &mut self,
        order: Order,
        since: BootMs,
        cause: Cause,
        mut freeze: FreezeCall,
        mut budget: Budget,
        mut step: ThawStep,
        event: Event,
        now: BootMs,
        out: &mut Vec<Effect>,
    ) {
        let id = order.id;
        match (event, step) {
            (Event::FreezeAnswered(of, outcome), ThawStep::Killing { .. }) if of == id => {
                if matches!(outcome, FreezeOutcome::Frozen | FreezeOutcome::Failed | FreezeOutcome::NotOurs) {
                    freeze = FreezeCall::Over; // it had ended by itself before the kill
                }
                step = ThawStep::Round;
                out.push(Effect::Thaw { id });
            }
            (Event::Tick, ThawStep::Killing { until }) if now >= until => {
                step = ThawStep::Round; // it hangs in the kernel; `freeze` stays doubtful
                out.push(Effect::Thaw { id });
            }
            (Event::Tick, ThawStep::Waiting { at }) if now >= at => {
                step = ThawStep::Round;
                out.push(Effect::Thaw { id });
            }
            (Event::ThawAnswered(of, ThawOutcome::NotFrozen(proof)), ThawStep::Round) if of == id => {
                if cause == Cause::Zombie {
                    let FreezeCall::Doubtful { until } = freeze else { return self.rest(out) };
                    self.state = State::Guarding { order, until, step: GuardStep::Waiting { at: now.plus(AGAIN_MS) } };
                    return;
                }
                let window = judge(cause, &proof, now.since(since), &order.rules);
                let fault = match cause {
                    Cause::FreezeFault(code) => Some(code),
                    Cause::Asked
                    | Cause::HoldExpired
                    | Cause::Person
                    | Cause::WatchdogLost
                    | Cause::Stopping
                    | Cause::AgentLost
                    | Cause::JournalLost
                    | Cause::Zombie => None,
                };
                let guard = match freeze {
                    FreezeCall::Doubtful { until } => Some(until),
                    FreezeCall::Over => None,
                };
                self.state = State::Recording { order, window: window.clone(), fault, freeze };
                out.push(Effect::Record { id, window, fault, guard });
                return;
            }
            (Event::ThawAnswered(of, ThawOutcome::StillFrozen | ThawOutcome::Unknown), ThawStep::Round) if of == id => {
                step = ThawStep::Waiting { at: now.plus(AGAIN_MS) };
            }
            // A watchdog is wanted until the end; the agent itself goes on thawing either way.
            (Event::WatchdogLost(of), _) if of == id => out.push(Effect::Rearm { id }),
            (Event::ThawAsked(_), _) if budget == Budget::Told => out.push(tell(id, News::LeftFrozen)),
            _ => {} // late answers of earlier steps, and asks that wait for the end
        }
        if let Budget::Until(t) = budget
            && now >= t
        {
            budget = Budget::Told;
            out.push(tell(id, News::LeftFrozen));
        }
        self.state = State::Thawing { order, since, cause, freeze, budget, step };
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the state, taken apart once")]
    fn recording(
        &mut self,
        order: Order,
        window: WindowState,
        fault: Option<Code>,
        freeze: FreezeCall,
        event: Event,
        now: BootMs,
        out: &mut Vec<Effect>,
    ) {
        let Event::Recorded(id, stored) = event else { return };
        if id != order.id {
            return;
        }
        let window = match stored {
            Stored::Durable => window,
            Stored::Lost => WindowState::Broken(BrokenReason::VerdictLost),
        };
        self.past.insert(id, Past::Ended { window: window.clone(), fault });
        out.push(tell(id, News::Thawed { window, fault }));
        match freeze {
            FreezeCall::Doubtful { until } if now < until => {
                self.state = State::Guarding { order, until, step: GuardStep::Asking };
                out.push(Effect::Ask { id });
                if self.stopping {
                    out.push(Effect::Exit);
                }
            }
            FreezeCall::Doubtful { .. } | FreezeCall::Over => {
                out.push(Effect::Disarm { id });
                self.rest(out);
            }
        }
    }

    fn guarding(&mut self, order: Order, until: BootMs, step: GuardStep, event: Event, now: BootMs, out: &mut Vec<Effect>) {
        let id = order.id;
        match (event, step) {
            (Event::Tick, GuardStep::Waiting { at }) if now >= at => {
                self.state = State::Guarding { order, until, step: GuardStep::Asking };
                out.push(Effect::Ask { id });
            }
            (Event::GuardAnswered(of, frozen), GuardStep::Asking) if of == id => match frozen {
                Known::Yes => self.thaw(order, now, Cause::Zombie, FreezeCall::Doubtful { until }, now, out),
                Known::No if now >= until => {
                    out.push(Effect::Disarm { id });
                    self.rest(out);
                }
                // No answer is no end: it is asked again, beyond `until` if need be.
                Known::No | Known::Unknown => {
                    self.state = State::Guarding { order, until, step: GuardStep::Waiting { at: now.plus(AGAIN_MS) } };
                }
            },
            (Event::ThawAsked(_), _) => self.thaw_of_the_past(id, out),
            (Event::WatchdogLost(of), _) if of == id => out.push(Effect::Rearm { id }),
            _ => {} // late answers of earlier steps
        }
    }

    /// A freeze order while we thaw or guard. The same id may be frozen at this moment, so it is never told
    /// "nothing frozen": it gets the answer of its first asking.
    fn freeze_asked_late(&mut self, asked: Order, out: &mut Vec<Effect>) {
        let id = asked.id;
        match (&self.state, self.past.get(&id)) {
            (State::Thawing { order, budget: Budget::Told, .. }, None) if order.id == id => out.push(tell(id, News::LeftFrozen)),
            (State::Thawing { order, .. } | State::Recording { order, .. }, None) if order.id == id => {}
            (_, Some(Past::Ended { window, fault })) if self.state.order().is_some_and(|o| o.id == id) => {
                out.push(tell(id, News::Thawed { window: window.clone(), fault: *fault }));
            }
            (State::Guarding { .. } | State::Thawing { cause: Cause::Zombie, .. }, None) => {
                out.push(tell(id, News::Refused(self.refusal(&id).unwrap_or(Code::RefusedGuarding))));
            }
            _ => out.push(tell(id, News::Refused(self.refusal(&id).unwrap_or(Code::RefusedBusy)))),
        }
    }

    fn rest(&mut self, out: &mut Vec<Effect>) {
        self.state = State::Idle;
        if self.stopping {
            out.push(Effect::Exit);
        }
    }

    fn thaw(&mut self, order: Order, since: BootMs, cause: Cause, freeze: FreezeCall, now: BootMs, out: &mut Vec<Effect>) {
        let budget = Budget::Until(now.plus(order.rules.margins.thaw_budget_ms));
        self.state = State::Thawing { order, since, cause, freeze, budget, step: ThawStep::Round };
        out.push(Effect::Thaw { id: order.id });
    }

    /// Zombie freeze: a freeze command that outlives our thaw would freeze with nobody watching.
    fn kill_then_thaw(&mut self, order: Order, since: BootMs, give_up: BootMs, cause: Cause, now: BootMs, out: &mut Vec<Effect>) {
        let budget = Budget::Until(now.plus(order.rules.margins.thaw_budget_ms));
        let step = ThawStep::Killing { until: now.plus(KILL_MS) };
        self.state = State::Thawing { order, since, cause, freeze: doubtful(&order, give_up), budget, step };
        out.push(Effect::KillFreeze { id: order.id });
    }

    /// Nothing was sent to the engine.
    fn give_up(&mut self, order: Order, code: Code, out: &mut Vec<Effect>) {
        self.past.insert(order.id, Past::Tombstone);
        out.push(Effect::Disarm { id: order.id });
        out.push(tell(order.id, News::Refused(code)));
        self.rest(out);
    }

    /// Ids that must not freeze (again), and times when none may.
    fn refusal(&self, id: &BackupId) -> Option<Code> {
        if self.past.contains_key(id) {
            Some(Code::RefusedUsedId)
        } else if self.stopping {
            Some(Code::RefusedStopping)
        } else {
            None
        }
    }

    /// A freeze while another is open. The same id gets no second answer here: it waits for the first one's.
    fn refuse_other(&self, open: Order, asked: Order, out: &mut Vec<Effect>) {
        if asked.id != open.id {
            out.push(tell(asked.id, News::Refused(self.refusal(&asked.id).unwrap_or(Code::RefusedBusy))));
        }
    }

    /// A thaw for an id that is not open: the same result again, or a tombstone that keeps a late freeze out.
    fn thaw_of_the_past(&mut self, id: BackupId, out: &mut Vec<Effect>) {
        let news = match self.past.get(&id) {
            Some(Past::Ended { window, fault }) => News::Thawed { window: window.clone(), fault: *fault },
            Some(Past::Tombstone) => News::Refused(Code::ThawUnknownId),
            None => {
                self.past.insert(id, Past::Tombstone);
                out.push(Effect::Tombstone { id });
                News::Refused(Code::ThawUnknownId)
            }
        };
        out.push(tell(id, news));
    }
}

fn tell(id: BackupId, news: News) -> Effect {
    Effect::Tell { id, news }
}

/// Arming may not eat the hold: what is armed after `thaw_by` is not frozen at all.
pub(crate) fn arm_by(since: BootMs, thaw_by: BootMs) -> BootMs {
    since.plus(ARM_MS).min(thaw_by)
}

fn doubtful(order: &Order, give_up: BootMs) -> FreezeCall {
    FreezeCall::Doubtful { until: give_up.plus(order.rules.margins.guard_ms) }
}

fn rearm_is_late(dog: Dog, now: BootMs) -> bool {
    match dog {
        Dog::Armed => false,
        Dog::Rearming { by } => now >= by,
    }
}
