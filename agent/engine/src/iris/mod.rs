//! InterSystems IRIS and Caché, through the programs that every installation has. Read `freeze`, then `thaw`.
//!
//! Invariants:
//! * a user's value reaches ObjectScript through `quote::literal` only, and a shell never;
//! * a freeze that lands after its deadline freezes nothing (`freeze`);
//! * "not frozen" is only ever the engine's own answer (`ask`);
//! * whether a thaw was ours, and the only one, is read from the engine's logs (`judge`), not remembered.
//!
//! Nothing here was run on a real IRIS yet; what rests on the class reference and the manuals says so.

pub mod ask;
pub mod config;
mod facts;
pub mod files;
pub mod find;
mod freeze;
mod freeze_script;
mod history;
pub mod judge;
mod ladder;
mod layout;
pub mod mark;
pub mod parse;
mod prove;
pub mod quote;
pub mod restore;
mod run;
pub mod script;
mod setup;
mod thaw;
mod token;

pub use find::discover_instances;
pub use setup::setup_steps;

use crate::{Engine, Error, Facts, FreezeAnswer, FreezeOrder, Held, Place, Rung, ThawAnswer};
use config::IrisConfig;
use doors::exec::Cancel;
use protocol::BootMs;
use protocol::wire::Frozen;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The same engine under two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Iris,
    Cache,
}

impl Product {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Iris => "iris",
            Self::Cache => "cache",
        }
    }
    const fn program(self) -> &'static str {
        match self {
            Self::Iris => "iris",
            Self::Cache => "ccontrol",
        }
    }
    /// "always created" (Installation Guide).
    const fn registry(self) -> &'static str {
        match self {
            Self::Iris => "/usr/local/etc/irissys",
            Self::Cache => "/usr/local/etc/cachesys",
        }
    }
    const fn console(self) -> &'static str {
        match self {
            Self::Iris => "messages.log",
            Self::Cache => "cconsole.log",
        }
    }
    const fn wij(self) -> &'static str {
        match self {
            Self::Iris => "IRIS.WIJ",
            Self::Cache => "CACHE.WIJ",
        }
    }
    const fn lock(self) -> &'static str {
        match self {
            Self::Iris => "iris.lck",
            Self::Cache => "cache.lck",
        }
    }
}

/// One instance, opened: programs found, credentials loaded.
pub struct Iris {
    config: IrisConfig,
    product: Product,
    runner: Arc<run::Runner>,
    thaw_login: Option<run::Credentials>,
    /// Where the instance's files lie, from the last `discover`: the freeze has no time to look it up.
    located: Mutex<Option<find::Located>>,
}

impl Iris {
    /// Finds programs, users and credentials; runs nothing of the instance.
    pub fn open(config: &IrisConfig, product: Product) -> Result<Self, Error> {
        let invalid = |why: String| Error::Config { instance: config.name.to_string(), why };
        config.check().map_err(|e| invalid(e.to_string()))?;
        let mut runner = run::Runner::open(config, product)?;
        let thaw_login = config.thaw_credentials_file.as_deref().map(run::Credentials::load).transpose().map_err(invalid)?;
        runner.hide(thaw_login.as_ref());
        let this = Self { config: config.clone(), product, runner: Arc::new(runner), thaw_login, located: Mutex::new(None) };
        this.prepare_log_dir();
        Ok(this)
    }

    /// The LogFile of one call, as the instance sees it.
    fn log_path(&self, id: protocol::BackupId, call: &str) -> PathBuf {
        self.config.log_dir.join(format!("{id}-{call}.log"))
    }

    /// The default directory lies on tmpfs and is gone after a reboot; the instance's user writes into it. A failure
    /// shows in `check` (`log-dir`), and the freeze then says it itself.
    fn prepare_log_dir(&self) {
        use std::os::unix::fs::DirBuilderExt;
        if self.runner.in_container() || self.config.log_dir.exists() {
            return;
        }
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.config.log_dir);
        if made.is_ok()
            && let Some(Ok((uid, gid))) = self.config.run_as.as_deref().map(run::ids_of)
        {
            let _ = std::os::unix::fs::chown(&self.config.log_dir, Some(uid), Some(gid));
        }
    }
}

impl Engine for Iris {
    fn discover(&self, by: BootMs) -> Result<Facts, Error> {
        self.discover_facts(by)
    }
    fn freeze(&self, order: &FreezeOrder, cancel: &Cancel) -> FreezeAnswer {
        self.freeze_once(order, cancel)
    }
    fn is_frozen(&self, by: BootMs) -> Frozen {
        ask::is_frozen(&self.runner, by)
    }
    fn thaw(&self, held: Option<&Held>, rung_ms: u64, say: &dyn Fn(&Rung)) -> ThawAnswer {
        self.thaw_by_ladder(held, rung_ms, say)
    }
    fn layout(&self, by: BootMs) -> Result<Vec<Place>, Error> {
        self.places(by)
    }
}
