//! deb and rpm made from the program under test, in versions that can be told apart, and how a host handles each.

use std::path::{Path, PathBuf};
use std::process::Command;
use suite::host::snapfreeze;
use suite::house::rules::root;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Deb,
    Rpm,
}

pub use Kind::{Deb, Rpm};

impl Kind {
    pub fn file(self, name: &str, version: &str) -> String {
        match self {
            Deb => format!("{name}_{version}_amd64.deb"),
            Rpm => format!("{name}-{version}-1.x86_64.rpm"),
        }
    }

    /// A first installation, or an upgrade. An rpm database of a Debian host knows no C library.
    pub fn install(self, version: &str) -> String {
        let file = self.file("snapfreeze", version);
        match self {
            Deb => format!("dpkg --no-triggers -i /packages/{file}"),
            Rpm => format!("rpm --force-debian --nodeps -U /packages/{file}"),
        }
    }

    pub fn remove(self) -> &'static str {
        match self {
            Deb => "dpkg --no-triggers -r snapfreeze",
            Rpm => "rpm --force-debian -e snapfreeze",
        }
    }
}

const TOOLS: [&str; 8] = ["make", "strip", "dpkg-deb", "dpkg", "rpmbuild", "rpm", "unshare", "deb-systemd-helper"];

/// Which program is missing that the tests of packages need.
pub fn missing_tool() -> Option<&'static str> {
    let there = |t: &&&str| ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"].iter().any(|d| Path::new(d).join(t).is_file());
    TOOLS.iter().find(|t| !there(t)).copied()
}

/// What ends the file of the program of this version; a program runs with it.
pub fn mark(version: &str) -> String {
    format!("\nprogram of {version}\n")
}

pub struct Packages {
    pub dir: tempfile::TempDir,
}

/// Programs that link a cloud's SDK, each in a package of its own.
pub const HELPERS: [&str; 2] = ["snapfreeze-ebs", "snapfreeze-azdisk"];

impl Packages {
    pub const OLD: &str = "0.1.0";
    pub const NEW: &str = "0.2.0";

    /// Both kinds in both versions; `steps` may spoil the maintainer scripts' common part. With `helpers`, their packages too.
    pub fn make(steps: impl Fn(String) -> String, helpers: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("infra")).expect("a directory");
        let copied = Command::new("cp").args(["-a", "Cargo.toml", "Makefile", "LICENSE", "docs"]).arg(&tree).current_dir(root()).status();
        assert!(copied.expect("cp").success());
        let copied = Command::new("cp").args(["-a", "infra/host", "infra/azure"]).arg(tree.join("infra")).current_dir(root()).status();
        assert!(copied.expect("cp").success());
        let file = tree.join("infra/host/packages/steps.sh");
        let spoilt = steps(std::fs::read_to_string(&file).expect("steps.sh"));
        std::fs::write(file, spoilt).expect("written");
        for version in [Self::OLD, Self::NEW] {
            let bin = dir.path().join(version);
            std::fs::create_dir(&bin).expect("a directory");
            let program = bin.join("snapfreeze");
            let stripped = Command::new("strip").arg("-o").arg(&program).arg(snapfreeze()).status();
            assert!(stripped.expect("strip").success());
            let mut bytes = std::fs::read(&program).expect("a program");
            bytes.extend(mark(version).bytes());
            std::fs::write(&program, bytes).expect("written");
            for helper in HELPERS.iter().filter(|_| helpers) {
                std::fs::copy(&program, bin.join(helper)).expect("copied");
            }
            let built = Command::new(tree.join("infra/host/packages/build"))
                .args([&bin, &dir.path().join("out")])
                .arg(version)
                .env_remove("MAKEFLAGS")
                .env("LEVEL", "1")
                .output()
                .expect("build starts");
            let said = String::from_utf8_lossy(&built.stdout).into_owned() + &String::from_utf8_lossy(&built.stderr);
            assert!(built.status.success(), "{said}");
            assert!(HELPERS.iter().all(|h| said.contains(&format!("no {h}")) != helpers), "{said}");
        }
        Self { dir }
    }

    pub fn file(&self, kind: Kind, name: &str, version: &str) -> PathBuf {
        self.dir.path().join("out").join(kind.file(name, version))
    }
}
