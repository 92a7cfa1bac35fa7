//! The clouds that the verbs run on: which one, and its ports.

use crate::cli::Common;
use aws::{Clients, Ebs, Ssm};
use azure::id::VmId;
use azure::{Arm, ManagedDisks, Mode, RunCommand};
use common::{Limiter, WallClock};
use protocol::Code;
use protocol::wire::Problem;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The ports of one cloud.
pub struct Cloud<H, D> {
    pub kind: Kind,
    pub hosts: H,
    /// Snapshots, the fleet, the catalogue.
    pub disks: D,
    pub clock: WallClock,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    Aws,
    Azure,
}

/// What a verb may do to the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// The clients refuse to send a call that changes anything.
    Read,
    Change,
}

/// As it is said, else as what is named tells: Azure's ids begin with `/subscriptions/`.
pub fn kind<'a>(common: &Common, mut ids: impl Iterator<Item = &'a String>) -> Kind {
    let azure = common.subscription.is_some() || common.resource_group.is_some() || ids.any(|i| i.starts_with("/subscriptions/"));
    common.cloud.unwrap_or(if azure { Kind::Azure } else { Kind::Aws })
}

/// The whole resource id of a machine that was given by its name.
pub fn machine(common: &Common, name: &str) -> Result<String, Problem> {
    if name.starts_with('/') {
        return Ok(name.parse::<VmId>()?.to_string());
    }
    match (&common.subscription, &common.resource_group) {
        (Some(s), Some(g)) => Ok(VmId::new(s, g, name)?.to_string()),
        _ => Err(Problem::new(Code::UsageInvalid, format!("{name}: a machine's name needs --subscription and --resource-group"))
            .next("or give its whole resource id: az vm show --query id")),
    }
}

impl Cloud<Ssm, Ebs> {
    pub async fn aws(common: &Common, may: May) -> Result<Self, Problem> {
        let read_only = may == May::Read;
        let settings =
            aws::Settings { region: common.region.clone(), profile: common.profile.clone(), read_only, ..aws::Settings::default() };
        let clients = Clients::load(settings).await?;
        let clock = WallClock::start();
        let hosts = Ssm::new(clients.clone(), clock, Arc::new(Limiter::default()), common.documents.clone());
        Ok(Self { kind: Kind::Aws, hosts, disks: Ebs::new(clients, clock), clock })
    }
}

impl Cloud<RunCommand, ManagedDisks> {
    pub fn azure(common: &Common, may: May) -> Result<Self, Problem> {
        let arm = Arm::load(azure::Settings {
            subscription: common.subscription.clone(),
            group: common.resource_group.clone(),
            read_only: may == May::Read,
            ..azure::Settings::default()
        })?;
        let clock = WallClock::start();
        let disks = ManagedDisks::new(arm.clone(), clock);
        let hosts = RunCommand::new(arm, clock, Arc::new(Limiter::default()), Mode::Auto).with(&disks);
        Ok(Self { kind: Kind::Azure, hosts, disks, clock })
    }
}

impl From<Kind> for coordinator::Cloud {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Aws => Self::Ebs,
            Kind::Azure => Self::Azure,
        }
    }
}
