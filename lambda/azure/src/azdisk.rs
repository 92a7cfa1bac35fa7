//! `snapfreeze-azdisk`: makes the snapshot calls from the host itself. The talk with the agent is `common::helper`; here are the
//! program's arguments, and who it is (the instance metadata). The machine's own identity needs the role `host` of
//! infra/azure/roles.json on its disks and on the snapshots' resource group.

use crate::client::{Arm, Settings};
use crate::disks::ManagedDisks;
use crate::id::VmId;
use common::WallClock;
use common::helper::{Given, Lines, Place, Ready, Tags, fail, talk};
use coordinator::cloud::Cloud;
use coordinator::{Target, span};
use protocol::Code;
use protocol::wire::Problem;
use serde_json::Value;
use std::time::Duration;

const IMDS: &str = "http://169.254.169.254";
const WITHIN: Duration = Duration::from_secs(5);

/// Snapshots of this machine's disks, for the agent's command snapshotter
#[derive(clap::Parser, Clone, Debug)]
#[command(
    name = "snapfreeze-azdisk",
    version,
    after_help = "Started by `snapfreeze backup --snapshotter command`, not by people. The machine's own identity needs the role `host` \
                  of infra/azure/roles.json.\n\
                  Exit codes: 0 snapshots made and the verdict written · 1 no verdict was heard, or it could not be written ·\n\
                  2 usage · 4 refused · 7 the snapshot calls failed or were not answered · 9 the cloud refused before the freeze."
)]
pub struct Args {
    /// Leave out the OS disk
    #[arg(long)]
    pub exclude_boot: bool,
    /// Leave out this disk (`lun:3`, or its resource id); may be given several times
    #[arg(long = "exclude-volume", value_name = "DISK")]
    pub exclude_volumes: Vec<String>,
    /// Where the snapshots are made; the machine's own resource group when left out
    #[arg(long, value_name = "NAME")]
    pub resource_group: Option<String>,
    /// What the snapshots may take at most; no shorter hold is accepted
    #[arg(long, value_parser = span_ms, default_value = "10s", value_name = "SPAN")]
    pub snapshot: u64,
}

fn span_ms(s: &str) -> Result<u64, String> {
    span::parse(s).ok_or_else(|| "a time such as 5s or 1500ms".into())
}

/// This machine, by its metadata: who runs this cannot name another one.
async fn identity(host: &str) -> Result<VmId, Problem> {
    let failed = |why: String| {
        Problem::new(Code::CloudRefused, format!("instance metadata: {why}"))
            .next("is this an Azure machine, and can it reach 169.254.169.254?")
    };
    let http = reqwest::Client::builder().no_proxy().timeout(WITHIN).build().map_err(|e| failed(e.to_string()))?;
    let url = format!("{}/metadata/instance/compute", host.trim_end_matches('/'));
    let asked = http.get(url).query(&[("api-version", "2021-02-01")]).header("Metadata", "true").send().await;
    let answer = asked.and_then(reqwest::Response::error_for_status).map_err(|e| failed(e.to_string()))?;
    let compute: Value = answer.json().await.map_err(|e| failed(e.to_string()))?;
    compute["resourceId"].as_str().ok_or_else(|| failed("no resourceId".into()))?.parse()
}

/// The program.
pub async fn run(args: Args, lines: &mut Lines) -> u8 {
    let get = |name: &str| std::env::var(name).ok();
    let begun = async {
        let given = Given::read(get)?;
        let host = get("AZURE_POD_IDENTITY_AUTHORITY_HOST").filter(|h| !h.is_empty()).unwrap_or_else(|| IMDS.into());
        let vm = identity(&host).await?;
        let group = args.resource_group.clone().unwrap_or_else(|| vm.group().to_owned());
        let settings =
            Settings { subscription: Some(vm.subscription().to_owned()), group: Some(group), machine: true, ..Settings::default() };
        Ok::<_, Problem>((given, vm, Arm::load(settings)?))
    };
    let (given, vm, arm) = match begun.await {
        Ok(x) => x,
        Err(p) => return fail(&p),
    };
    let clock = WallClock::start();
    let disks = ManagedDisks::new(arm, clock);
    let place = Place {
        cloud: Cloud::Azure,
        tags: Tags::new(),
        host: Target { id: vm.to_string(), name: vm.name().to_owned() },
        exclude_boot: args.exclude_boot,
        exclude_volumes: args.exclude_volumes,
        snapshot_ms: args.snapshot,
    };
    match Ready::new(&disks, &clock, place, given).await {
        Ok(ready) => talk(ready, lines).await,
        Err(p) => fail(&p),
    }
}
