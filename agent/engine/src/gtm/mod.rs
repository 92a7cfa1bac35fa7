//! FIS GT.M and YottaDB: `mupip freeze -on -online -noautorelease` and `-off`, every region of one global directory
//! as one database. Facts: GT.M 7.0-005, tried on the real engine (`tests/gtm.rs`).
//!
//! What this engine has and has not:
//! - **No time limit of its own.** Autorelease is no timer (it comes with the need to write) and we switch it off. So the
//!   third line of defence is the service manager, and a freeze call must not land late: at its deadline it has a short
//!   time to end by itself (killing it is dangerous, see `process.rs`), and then its process group is killed and reaped.
//!   Behind an `exec_prefix`, where our signals do not reach, `timeout` beside the engine bounds it.
//! - **A stuck freeze latch** (somebody killed a `mupip freeze`): it can be asked, but not thawed. We say who held it.
//! - **A killed freeze may have frozen some regions.** The answer is then `Unknown`, "any region frozen" is
//!   `Frozen::Yes`, and the thaw releases whatever part is frozen.
//! - **Proof by journal generations.** Freeze and thaw each switch every region's journal, so the inode of the live
//!   journal names the stretch between two switches: the file that our thaw closes must be the file that our freeze
//!   opened. Another tool's thaw, or its thaw and freeze, or an ordinary switch inside the window, leaves another.
//!   A region without journaling cannot give this proof.
//! - **REQRECOV** (after a reboot in a window): nobody can open the region until an operator has recovered it. We say
//!   so and do not recover; see `ask.rs`.

pub mod ask;
pub(crate) mod call;
mod config;
mod discover;
mod freeze;
pub mod output;
mod process;
mod restore;
mod thaw;

pub use config::{GtmConfig, find_dist};

use crate::{Engine, Error, Facts, FreezeAnswer, FreezeOrder, Held, Place, Rung, ThawAnswer};
use call::Caller;
use doors::exec::Cancel;
use protocol::BootMs;
use protocol::wire::Frozen;
use serde::{Deserialize, Serialize};

/// One global directory.
#[derive(Clone)]
pub struct Gtm {
    caller: Caller,
}

impl Gtm {
    pub fn new(config: GtmConfig) -> Result<Self, Error> {
        Ok(Self { caller: Caller::new(config)? })
    }
}

impl Engine for Gtm {
    fn discover(&self, by: BootMs) -> Result<Facts, Error> {
        self.caller.discover(by)
    }
    fn freeze(&self, order: &FreezeOrder, cancel: &Cancel) -> FreezeAnswer {
        self.caller.freeze(order, cancel)
    }
    fn is_frozen(&self, by: BootMs) -> Frozen {
        match self.caller.ask(by, None) {
            Ok(seen) => seen.frozen(),
            Err(why) => Frozen::Unknown(why),
        }
    }
    fn thaw(&self, held: Option<&Held>, rung_ms: u64, say: &dyn Fn(&Rung)) -> ThawAnswer {
        self.caller.thaw(held, rung_ms, say)
    }
    fn layout(&self, by: BootMs) -> Result<Vec<Place>, Error> {
        self.caller.layout(by)
    }
}

/// [`Held::token`]: the frozen database as it was right after the freeze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    regions: Vec<TokenRegion>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TokenRegion {
    name: String,
    file: String,
    /// The shared memory segment: another one means that the database was closed by all or recovered in between.
    shmid: Option<i64>,
    /// The live journal's name, empty without journaling, and its inode: the generation that the freeze opened.
    journal: String,
    inode: u64,
}
