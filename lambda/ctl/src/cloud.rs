//! The cloud that the verbs run on. AWS today; another one is another function here.

use crate::cli::Common;
use aws::{Clients, Ebs, Settings, Ssm};
use common::{Limiter, WallClock};
use protocol::wire::Problem;
use std::sync::Arc;

pub struct Cloud {
    pub hosts: Ssm,
    /// Snapshots, the fleet, the catalogue.
    pub disks: Ebs,
    pub clock: WallClock,
}

/// What a verb may do to the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// The clients refuse to send a call that changes anything.
    Read,
    Change,
}

impl Cloud {
    pub async fn aws(common: &Common, may: May) -> Result<Self, Problem> {
        let settings =
            Settings { region: common.region.clone(), profile: common.profile.clone(), read_only: may == May::Read, ..Settings::default() };
        let clients = Clients::load(settings).await?;
        let clock = WallClock::start();
        let hosts = Ssm::new(clients.clone(), clock, Arc::new(Limiter::default()), common.documents.clone());
        Ok(Self { hosts, disks: Ebs::new(clients, clock), clock })
    }
}
