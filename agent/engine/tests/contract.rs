//! One contract for every engine (`trait Engine`). The rules are in `contract/rules.rs`; an engine is a row of the table
//! below and a `Rig` that says how another tool freezes and thaws it and what the truth is. Negative controls: engines
//! that lie break the rules by name.

#[path = "contract/liars.rs"]
mod liars;
#[path = "contract/rigs.rs"]
mod rigs;
#[path = "contract/rules.rs"]
mod rules;

use rules::{Rig, broken_rules};

/// A row per engine: the test's name and what makes its rig (`None`: not on this machine, said by the rig).
macro_rules! engines {
    ($($name:ident => $rig:expr;)*) => {
        $(#[test]
        fn $name() {
            let rig: Option<Box<dyn Rig>> = $rig;
            let Some(rig) = rig else { return };
            let broken = broken_rules(&*rig);
            assert!(broken.is_empty(), "{} breaks the contract:\n{}", stringify!($name), broken.join("\n"));
        })*
    };
}

engines! {
    fake => rigs::fake();
    faulty_without_faults => rigs::faulty();
    command => rigs::command();
    gtm => rigs::gtm("contract: gtm");
}

#[test]
fn every_lie_is_caught() {
    let mut caught = 0;
    for lie in liars::Lie::ALL {
        let broken = broken_rules(&liars::Liar::new(lie));
        let rule = lie.breaks();
        assert!(broken.iter().any(|b| b.starts_with(rule)), "{lie:?} should break {rule:?}, broke {broken:?}");
        caught += 1;
    }
    assert!(caught >= 8);
}
