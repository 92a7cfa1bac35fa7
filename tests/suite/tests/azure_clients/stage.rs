//! A double with TLS and one VM with two data disks of real bytes.

use cloud_sim::arm::{ArmConfig, ArmDisk, ArmHost, ArmSim, Vm};
use std::path::PathBuf;

pub const SUB: &str = "11111111-2222-3333-4444-555555555555";
pub const COMPUTE: &str = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg1/providers/Microsoft.Compute";
pub const VM: &str =
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg1/providers/Microsoft.Compute/virtualMachines/vm1";

pub struct Stage {
    pub sim: ArmSim,
    pub dir: tempfile::TempDir,
}

impl Stage {
    /// `Retry-After: 1`, as from Azure: with 0 these clients wait their own 30 seconds.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sim = ArmSim::start(ArmConfig { tls: true, retry_after_s: 1, ..ArmConfig::quick(dir.path().join("arm")) }).unwrap();
        for name in ["data0", "wij"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("file"), name).unwrap();
        }
        let disk = |name: &str| ArmDisk::new(name).dir(dir.path().join(name));
        sim.add_vm(Vm::new(SUB, "rg1", "vm1").tag("snapfreeze", "yes").data_disk(0, disk("data0").size(8)).data_disk(1, disk("wij")));
        sim.add_host(ArmHost::new(VM));
        Self { sim, dir }
    }

    /// The bytes of the snapshot of this name.
    pub fn bytes(&self, name: &str) -> String {
        let all = self.sim.snapshots();
        let dir: PathBuf = all.iter().find(|s| s.name == name).and_then(|s| s.dir.clone()).expect("a snapshot with bytes");
        std::fs::read_to_string(dir.join("file")).unwrap()
    }

    pub fn ops(&self) -> Vec<String> {
        self.sim.calls().into_iter().map(|c| c.op).collect()
    }
}
