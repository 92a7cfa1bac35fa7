//! `snapfreeze-ebs`: makes the snapshot call from the host itself. The talk with the agent is `common::helper`; here are the
//! program's arguments, and who it is (the instance metadata).

use aws_config::imds::Client as Imds;
use aws_config::provider_config::ProviderConfig;
use common::WallClock;
use common::helper::{Given, INSTANCE_ID, Lines, Place, Ready, Tags, fail, talk};
use coordinator::cloud::Cloud;
use coordinator::{Target, span};
use protocol::Code;
use protocol::tags::PREFIX;
use protocol::wire::Problem;

/// Snapshots of this host's volumes in one CreateSnapshots call, for the agent's command snapshotter
#[derive(clap::Parser, Clone, Debug)]
#[command(
    name = "snapfreeze-ebs",
    version,
    after_help = "Started by `snapfreeze backup --snapshotter command`, not by people. The instance's own role needs \
                  infra/aws/instance.yaml.\n\
                  Exit codes: 0 snapshots made and the verdict written · 1 no verdict was heard, or it could not be written ·\n\
                  2 usage · 4 refused · 7 the snapshot call failed or was not answered · 9 the cloud refused before the freeze."
)]
pub struct Args {
    /// Leave out the root volume
    #[arg(long)]
    pub exclude_boot: bool,
    /// Leave out this volume; may be given several times
    #[arg(long = "exclude-volume", value_name = "VOLUME")]
    pub exclude_volumes: Vec<String>,
    /// As the instance metadata say when left out
    #[arg(long)]
    pub region: Option<String>,
    /// What the snapshot call may take at most; no shorter hold is accepted
    #[arg(long, value_parser = span_ms, default_value = "5s", value_name = "SPAN")]
    pub snapshot: u64,
}

fn span_ms(s: &str) -> Result<u64, String> {
    span::parse(s).ok_or_else(|| "a time such as 5s or 1500ms".into())
}

/// Instance and region, by IMDSv2: who runs this cannot name another instance.
pub async fn identity() -> Result<(String, String), Problem> {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let imds = Imds::builder().configure(&ProviderConfig::without_region().with_http_client(http)).build();
    let get = async |path: &str| {
        let failed = |e| {
            let why = aws_smithy_types::error::display::DisplayErrorContext(e).to_string();
            Problem::new(Code::CloudRefused, format!("instance metadata (IMDSv2), {path}: {why}"))
                .next("is this an EC2 instance, and are its metadata switched on?")
        };
        imds.get(path).await.map(|v| v.as_ref().trim().to_owned()).map_err(failed)
    };
    Ok((get("/latest/meta-data/instance-id").await?, get("/latest/meta-data/placement/region").await?))
}

/// The program.
pub async fn run(args: Args, lines: &mut Lines) -> u8 {
    let begun = async {
        let given = Given::read(|name| std::env::var(name).ok())?;
        let (instance, region) = identity().await?;
        let region = Some(args.region.clone().unwrap_or(region));
        let clients = crate::Clients::load(crate::Settings { region, ..Default::default() }).await?;
        Ok::<_, Problem>((given, instance, clients))
    };
    let (given, instance, clients) = match begun.await {
        Ok(x) => x,
        Err(p) => return fail(&p),
    };
    let clock = WallClock::start();
    let ebs = crate::Ebs::new(clients, clock);
    let place = Place {
        cloud: Cloud::Ebs,
        tags: Tags::from([(format!("{PREFIX}{INSTANCE_ID}"), instance.clone())]),
        host: Target { id: instance, name: String::new() },
        exclude_boot: args.exclude_boot,
        exclude_volumes: args.exclude_volumes,
        snapshot_ms: args.snapshot,
    };
    match Ready::new(&ebs, &clock, place, given).await {
        Ok(ready) => talk(ready, lines).await,
        Err(p) => fail(&p),
    }
}
