//! Engines that break the contract in one way each: the rules must notice.

use super::rules::Rig;
use doors::clock::boot_now;
use doors::exec::Cancel;
use engine::fake::Fake;
use engine::{Engine, Error, Facts, FreezeAnswer, FreezeOrder, Held, Place, Rung, ThawAnswer};
use protocol::BootMs;
use protocol::proof::Known;
use protocol::wire::Frozen;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    SaysFrozenWithoutFreezing,
    SaysNotFrozen,
    ThawDoesNothing,
    TrustsMemory,
    SecondThawReleased,
    TakesOverForeignFreeze,
    IgnoresTheDeadline,
    IgnoresTheCancel,
    LandsLater,
    AskingThaws,
    NeedsItsOwnMemory,
}

impl Lie {
    pub const ALL: [Self; 11] = [
        Self::SaysFrozenWithoutFreezing,
        Self::SaysNotFrozen,
        Self::ThawDoesNothing,
        Self::TrustsMemory,
        Self::SecondThawReleased,
        Self::TakesOverForeignFreeze,
        Self::IgnoresTheDeadline,
        Self::IgnoresTheCancel,
        Self::LandsLater,
        Self::AskingThaws,
        Self::NeedsItsOwnMemory,
    ];
    /// The rule that must go red.
    pub const fn breaks(self) -> &'static str {
        match self {
            Self::SaysFrozenWithoutFreezing | Self::SaysNotFrozen | Self::ThawDoesNothing => "freeze and thaw",
            Self::TrustsMemory => "another tool's thaw and freeze",
            Self::SecondThawReleased => "a second thaw",
            Self::TakesOverForeignFreeze => "another tool's freeze",
            Self::IgnoresTheDeadline => "a late freeze",
            Self::IgnoresTheCancel => "a cancelled freeze",
            Self::LandsLater => "a freeze keeps its deadline",
            Self::AskingThaws => "asking changes nothing",
            Self::NeedsItsOwnMemory => "what the freeze returned",
        }
    }
}

pub struct Liar {
    fake: Fake,
    lie: Lie,
}

impl Liar {
    pub fn new(lie: Lie) -> Self {
        Self { fake: Fake::new(), lie }
    }
    /// The honest engine's freeze without its deadline and its cancel.
    fn freeze_anyway(&self, order: &FreezeOrder) -> FreezeAnswer {
        let mut order = order.clone();
        order.by = boot_now().plus(1_000);
        self.fake.freeze(&order, &Cancel::new().unwrap())
    }
}

impl Engine for Liar {
    fn discover(&self, by: BootMs) -> Result<Facts, Error> {
        if self.lie == Lie::AskingThaws {
            self.fake.set_frozen(false);
        }
        self.fake.discover(by)
    }

    fn freeze(&self, order: &FreezeOrder, cancel: &Cancel) -> FreezeAnswer {
        match self.lie {
            Lie::SaysFrozenWithoutFreezing => {
                let answer = self.fake.freeze(order, cancel);
                self.fake.set_frozen(false);
                answer
            }
            Lie::TakesOverForeignFreeze => {
                self.fake.set_frozen(false);
                self.fake.freeze(order, cancel)
            }
            Lie::IgnoresTheDeadline => self.freeze_anyway(order),
            Lie::IgnoresTheCancel => {
                // Works on as if it had not heard.
                let until = boot_now().plus(100);
                while boot_now() < until && !cancel.thrown() {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                if cancel.thrown() {
                    std::thread::sleep(std::time::Duration::from_millis(3_200));
                }
                self.freeze_anyway(order)
            }
            Lie::LandsLater if order.by.since(boot_now()) < 1_000 => {
                let fake = self.fake.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(std::time::Duration::from_millis(30));
                    fake.set_frozen(true);
                });
                FreezeAnswer::Unknown("timed out".into())
            }
            Lie::NeedsItsOwnMemory => match self.fake.freeze(order, cancel) {
                FreezeAnswer::Frozen(mut held) => {
                    // A number that JSON cannot carry.
                    held.token = serde_json::json!(held.token.as_u64().map(|n| n as f64 * 0.1));
                    held.warnings = vec![];
                    FreezeAnswer::Frozen(held)
                }
                other => other,
            },
            _ => self.fake.freeze(order, cancel),
        }
    }

    fn is_frozen(&self, by: BootMs) -> Frozen {
        match self.lie {
            Lie::SaysNotFrozen => Frozen::No,
            _ => self.fake.is_frozen(by),
        }
    }

    fn thaw(&self, held: Option<&Held>, rung_ms: u64, say: &dyn Fn(&Rung)) -> ThawAnswer {
        if self.lie == Lie::ThawDoesNothing {
            let other = Fake::new();
            return other.thaw(held, rung_ms, say);
        }
        let mut answer = self.fake.thaw(held, rung_ms, say);
        match self.lie {
            Lie::TrustsMemory if held.is_some() => answer.proof.alone = Ok(()),
            Lie::SecondThawReleased => answer.proof.released = Known::Yes,
            _ => {}
        }
        answer
    }

    fn layout(&self, by: BootMs) -> Result<Vec<Place>, Error> {
        self.fake.layout(by)
    }
}

impl Rig for Liar {
    fn engine(&self) -> &dyn Engine {
        self
    }
    fn other_freeze(&self) {
        self.fake.set_frozen(true);
    }
    fn other_thaw(&self) {
        self.fake.set_frozen(false);
    }
    fn truth(&self) -> bool {
        self.fake.frozen()
    }
}
