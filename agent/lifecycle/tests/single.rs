//! Single steps whose wrong turn lies beyond the budgets of the exploration.

use lifecycle::{Effect, Event, GuardStep, Machine, Order, State};
use protocol::window::{HoldMs, Margins, OnOverrun};
use protocol::{BackupId, BootMs, Known, WindowRules};
use std::collections::BTreeMap;

const NOW: BootMs = BootMs(100_000);

fn order() -> Order {
    let rules = WindowRules::new(HoldMs::new(30_000).unwrap(), OnOverrun::FailBackup, None, None, Margins::default()).unwrap();
    Order { id: BackupId::from_uuid(uuid::Uuid::from_u128(1)), rules }
}

#[test]
fn a_guard_ends_on_a_plain_no_alone() {
    for (answer, ends) in [(Known::No, true), (Known::Unknown, false), (Known::Yes, false)] {
        let mut m = Machine {
            state: State::Guarding { order: order(), until: NOW, step: GuardStep::Asking },
            past: BTreeMap::new(),
            stopping: false,
        };
        let effects = m.step(Event::GuardAnswered(order().id, answer), NOW.plus(1));
        assert_eq!(m.state == State::Idle, ends, "{answer:?}: {:?}", m.state);
        assert_eq!(effects.contains(&Effect::Disarm { id: order().id }), ends, "{answer:?}: {effects:?}");
    }
}
