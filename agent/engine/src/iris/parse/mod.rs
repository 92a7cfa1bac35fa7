//! What the instance's programs print and its files say. Pure; no input makes them panic (fuzz targets).

pub mod cpf;
pub mod list;
pub mod logfile;
pub mod messages;
pub mod qlist;
pub mod startup_last;

/// One instance, from `iris qlist` or `iris list`. Empty text: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub install_dir: String,
    pub version: String,
    /// `running, since Fri May 13 22:07:02 2016`, `down, last used …`, `sign-on inhibited`, …
    pub status: String,
    /// Relative to the data directory, or absolute.
    pub cpf: String,
    /// `ok`, `warn`, `alert`, `hung`; empty on an old version.
    pub health: String,
    pub product: String,
    /// `Failover`, …
    pub member_type: String,
    /// `Primary`, …
    pub mirror_status: String,
    /// Empty: the install directory.
    pub data_dir: String,
}

impl Listed {
    pub fn running(&self) -> bool {
        self.status.starts_with("running")
    }
    pub fn down(&self) -> bool {
        self.status.starts_with("down")
    }
    /// Without a slash at its end.
    pub fn data(&self) -> &str {
        let dir = if self.data_dir.is_empty() { &self.install_dir } else { &self.data_dir };
        dir.trim_end_matches('/')
    }
}

#[cfg(test)]
pub(crate) fn fixture(name: &str) -> Option<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/iris").join(name);
    let text = std::fs::read_to_string(path).ok();
    if text.is_none() {
        eprintln!("SKIPPED: fixture {name} is not here");
    }
    text
}
