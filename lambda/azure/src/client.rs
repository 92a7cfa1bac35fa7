//! Azure Resource Manager as this program uses it: one HTTP client, one token, and `azure_mgmt_compute` for the calls themselves.
//!
//! Of that crate only the models and `.send()` are used: its own waiting for long operations sends a PUT again and again
//! (azure-sdk-for-rust#1525), see `lro`. Its retries are switched off: a call is repeated here, by name, or never. The order of its
//! arguments differs from client to client, so every call is made below, from typed ids.

use crate::credential::{PUBLIC_CLOUD, Source, Tokens};
use crate::fail::{Fail, READ_ONLY};
use crate::id::{CollectionId, DiskId, SnapshotId, VmId};
use azure_core::error::{Error, ErrorKind};
use azure_core::{HttpClient, Method, Request, Response, RetryOptions, TransportOptions, Url};
use azure_mgmt_compute::package_2024_07_01 as sdk;
use futures_util::{StreamExt, TryStreamExt};
use protocol::Code;
use protocol::wire::Problem;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use sdk::models;

const CONNECT: Duration = Duration::from_secs(3);
/// ARM answers within seconds; inside a window the caller's deadline is shorter.
const ANSWER: Duration = Duration::from_secs(20);
/// A call outside a window that was throttled or lost is sent so often, by calls that may be repeated.
const TRIES: u32 = 4;

/// What the caller decides; everything else is the environment's.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `SNAPFREEZE_ARM_ENDPOINT` when left out, else the public cloud.
    pub endpoint: Option<String>,
    /// `AZURE_SUBSCRIPTION_ID` when left out.
    pub subscription: Option<String>,
    /// Only this resource group's machines and snapshots; `None`: the whole subscription's.
    pub group: Option<String>,
    /// Nothing that changes anything can be sent.
    pub read_only: bool,
    /// The machine's own identity, whatever the environment says.
    pub machine: bool,
}

/// One subscription.
#[derive(Clone)]
pub struct Arm {
    sdk: sdk::Client,
    pub(crate) http: reqwest::Client,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) endpoint: Url,
    subscription: String,
    group: Option<String>,
    read_only: bool,
}

/// Sends; and, for a client that may only read, sends nothing else.
#[derive(Debug)]
struct Transport {
    http: reqwest::Client,
    read_only: bool,
}

#[async_trait::async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        // What a coordinator asks before a freeze is a command, too; it leaves the agent's host file on the host, and changes
        // nothing else.
        let asks = || request.url().path().contains("/runCommands/snapfreeze-facts-");
        if self.read_only && !matches!(request.method(), Method::Get | Method::Head) && !(*request.method() == Method::Put && asks()) {
            return Err(Error::message(ErrorKind::MockFramework, READ_ONLY));
        }
        self.http.execute_request(request).await
    }
}

/// HTTPS by rustls; `http://` only to this machine.
fn endpoint(text: &str) -> Result<Url, Problem> {
    let bad = |why: &str| {
        Problem::new(Code::ConfigInvalid, format!("SNAPFREEZE_ARM_ENDPOINT = {text:?}: {why}"))
            .next(format!("leave it unset for {PUBLIC_CLOUD}"))
    };
    let url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => Ok(url),
        ("http", Some("127.0.0.1" | "localhost" | "[::1]")) => Ok(url),
        _ => Err(bad("it must be https://…")),
    }
}

/// For ARM and the identity endpoints. `proxy`: as the environment says; an identity endpoint is never asked through one.
fn http(proxy: bool) -> Result<reqwest::Client, Problem> {
    let b = reqwest::Client::builder().connect_timeout(CONNECT).timeout(ANSWER).redirect(reqwest::redirect::Policy::none());
    let b = if proxy { b } else { b.no_proxy() };
    b.build().map_err(|e| Problem::new(Code::Internal, format!("no HTTP client: {e}")))
}

impl Arm {
    /// `Config.Invalid` without a subscription. A token is asked for with the first call.
    pub fn load(settings: Settings) -> Result<Self, Problem> {
        let get = |name: &str| std::env::var(name).ok();
        Self::from(settings, get)
    }

    /// From a given environment (tests).
    pub fn from(settings: Settings, get: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let set = |name: &str| get(name).filter(|v| !v.is_empty());
        let endpoint = endpoint(&settings.endpoint.or_else(|| set("SNAPFREEZE_ARM_ENDPOINT")).unwrap_or_else(|| PUBLIC_CLOUD.into()))?;
        let subscription = settings.subscription.or_else(|| set("AZURE_SUBSCRIPTION_ID")).ok_or_else(|| {
            Problem::new(Code::ConfigInvalid, "no Azure subscription is configured").next("set AZURE_SUBSCRIPTION_ID, or --subscription")
        })?;
        // It stands in paths.
        if subscription.is_empty() || !subscription.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(
                Problem::new(Code::ConfigInvalid, format!("{subscription:?} is no subscription id")).next("az account show --query id")
            );
        }
        let source = if settings.machine { Source::machine(&get) } else { Source::of(&get)? };
        let local = endpoint.scheme() == "http";
        let audience = if local { PUBLIC_CLOUD } else { endpoint.as_str() };
        let tokens = Arc::new(Tokens::new(source, audience, http(false)?));
        let http = http(!local)?;
        let transport = Transport { http: http.clone(), read_only: settings.read_only };
        let sdk = sdk::Client::builder(tokens.clone())
            .endpoint(endpoint.clone())
            .retry(RetryOptions::none())
            .transport(TransportOptions::new(Arc::new(transport)))
            .build()
            .map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
        Ok(Self { sdk, http, tokens, endpoint, subscription, group: settings.group, read_only: settings.read_only })
    }

    pub fn subscription(&self) -> &str {
        &self.subscription
    }
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }
    pub const fn read_only(&self) -> bool {
        self.read_only
    }

    /// Pays for the token, before a window.
    pub async fn warm(&self) -> Result<(), Problem> {
        self.tokens.token().await.map(|_| ())
    }

    pub async fn vm(&self, id: &VmId) -> Result<models::VirtualMachine, Fail> {
        again(|| async {
            let call = self.sdk.virtual_machines_client().get(id.group(), id.name(), id.subscription()).expand("instanceView");
            call.send().await?.into_body().await
        })
        .await
    }

    /// Every machine of the group, or of the subscription.
    pub async fn vms(&self) -> Result<Vec<models::VirtualMachine>, Fail> {
        let client = self.sdk.virtual_machines_client();
        match &self.group {
            Some(group) => collect(|| client.list(group, &self.subscription).into_stream(), |page| page.value).await,
            None => collect(|| client.list_all(&self.subscription).into_stream(), |page| page.value).await,
        }
    }

    pub async fn disk(&self, id: &DiskId) -> Result<models::Disk, Fail> {
        again(|| async { self.sdk.disks_client().get(id.subscription(), id.group(), id.name()).send().await?.into_body().await }).await
    }

    /// May be repeated: the same disk again is there already.
    pub async fn put_disk(&self, id: &DiskId, disk: models::Disk) -> Result<Response, Fail> {
        again(|| async {
            let call = self.sdk.disks_client().create_or_update(id.subscription(), id.group(), id.name(), disk.clone());
            call.send().await.map(Into::into)
        })
        .await
    }

    /// Touches the named disks alone. May be repeated.
    pub async fn attach_disks(&self, vm: &VmId, request: models::AttachDetachDataDisksRequest) -> Result<Response, Fail> {
        again(|| async {
            let client = self.sdk.virtual_machines_client();
            client.attach_detach_data_disks(vm.group(), vm.name(), request.clone(), vm.subscription()).send().await.map(Into::into)
        })
        .await
    }

    /// Every snapshot of the group, or of the subscription.
    pub async fn snapshots(&self, group: Option<&str>) -> Result<Vec<models::Snapshot>, Fail> {
        let client = self.sdk.snapshots_client();
        match group {
            Some(group) => collect(|| client.list_by_resource_group(&self.subscription, group).into_stream(), |page| page.value).await,
            None => collect(|| client.list(&self.subscription).into_stream(), |page| page.value).await,
        }
    }

    pub async fn snapshot(&self, id: &SnapshotId) -> Result<models::Snapshot, Fail> {
        again(|| async { self.sdk.snapshots_client().get(id.subscription(), id.group(), id.name()).send().await?.into_body().await }).await
    }

    /// Sent once; the answer to it, which is not yet the snapshot: `lro`.
    pub async fn put_snapshot(&self, id: &SnapshotId, snapshot: models::Snapshot) -> Result<Response, Fail> {
        let call = self.sdk.snapshots_client().create_or_update(id.subscription(), id.group(), id.name(), snapshot);
        call.send().await.map(Into::into).map_err(|e| Fail::of(&e))
    }

    /// May be repeated: the same tags again change nothing.
    pub async fn patch_snapshot(&self, id: &SnapshotId, update: models::SnapshotUpdate) -> Result<Response, Fail> {
        again(|| async {
            let call = self.sdk.snapshots_client().update(id.subscription(), id.group(), id.name(), update.clone());
            call.send().await.map(Into::into)
        })
        .await
    }

    pub async fn delete_snapshot(&self, id: &SnapshotId) -> Result<Response, Fail> {
        again(|| async { self.sdk.snapshots_client().delete(id.subscription(), id.group(), id.name()).send().await.map(Into::into) }).await
    }

    /// A managed Run Command, sent once.
    pub async fn put_command(&self, vm: &VmId, name: &str, command: models::VirtualMachineRunCommand) -> Result<Response, Fail> {
        let client = self.sdk.virtual_machine_run_commands_client();
        let call = client.create_or_update(vm.group(), vm.name(), name, command, vm.subscription());
        call.send().await.map(Into::into).map_err(|e| Fail::of(&e))
    }

    /// With what it printed. Asked once: whoever polls asks again.
    pub async fn command(&self, vm: &VmId, name: &str) -> Result<models::VirtualMachineRunCommand, Fail> {
        let client = self.sdk.virtual_machine_run_commands_client();
        let call = client.get_by_virtual_machine(vm.group(), vm.name(), name, vm.subscription()).expand("instanceView");
        async { call.send().await?.into_body().await }.await.map_err(|e| Fail::of(&e))
    }

    pub async fn commands(&self, vm: &VmId) -> Result<Vec<models::VirtualMachineRunCommand>, Fail> {
        let client = self.sdk.virtual_machine_run_commands_client();
        collect(|| client.list_by_virtual_machine(vm.group(), vm.name(), vm.subscription()).into_stream(), |page| page.value).await
    }

    pub async fn delete_command(&self, vm: &VmId, name: &str) -> Result<Response, Fail> {
        let client = self.sdk.virtual_machine_run_commands_client();
        again(|| async { client.delete(vm.group(), vm.name(), name, vm.subscription()).send().await.map(Into::into) }).await
    }

    /// The action Run Command, sent once.
    pub async fn run(&self, vm: &VmId, input: models::RunCommandInput) -> Result<Response, Fail> {
        let call = self.sdk.virtual_machines_client().run_command(vm.group(), vm.name(), input, vm.subscription());
        call.send().await.map(Into::into).map_err(|e| Fail::of(&e))
    }

    /// Every collection of restore points in the group, or in the subscription, without its points.
    pub async fn collections(&self, group: Option<&str>) -> Result<Vec<models::RestorePointCollection>, Fail> {
        let client = self.sdk.restore_point_collections_client();
        match group {
            Some(group) => collect(|| client.list(&self.subscription, group).into_stream(), |page| page.value).await,
            None => collect(|| client.list_all(&self.subscription).into_stream(), |page| page.value).await,
        }
    }

    /// With its points.
    pub async fn collection(&self, id: &CollectionId) -> Result<models::RestorePointCollection, Fail> {
        again(|| async {
            let call = self.sdk.restore_point_collections_client().get(id.subscription(), id.group(), id.name());
            call.expand("restorePoints").send().await?.into_body().await
        })
        .await
    }

    /// May be repeated: the same tags again change nothing.
    pub async fn patch_collection(&self, id: &CollectionId, update: models::RestorePointCollectionUpdate) -> Result<(), Fail> {
        again(|| async {
            let call = self.sdk.restore_point_collections_client().update(id.subscription(), id.group(), id.name(), update.clone());
            call.send().await.map(drop)
        })
        .await
    }

    /// With all its points.
    pub async fn delete_collection(&self, id: &CollectionId) -> Result<Response, Fail> {
        let client = self.sdk.restore_point_collections_client();
        again(|| async { client.delete(id.subscription(), id.group(), id.name()).send().await.map(Into::into) }).await
    }

    /// A restore point, sent once; the answer to it, which is not yet the point: `lro`.
    pub async fn put_point(&self, id: &CollectionId, name: &str, point: models::RestorePoint) -> Result<Response, Fail> {
        let call = self.sdk.restore_points_client().create(id.subscription(), id.group(), id.name(), name, point);
        call.send().await.map(Into::into).map_err(|e| Fail::of(&e))
    }

    pub async fn put_collection(
        &self,
        id: &CollectionId,
        c: models::RestorePointCollection,
    ) -> Result<models::RestorePointCollection, Fail> {
        again(|| async {
            let client = self.sdk.restore_point_collections_client();
            client.create_or_update(id.subscription(), id.group(), id.name(), c.clone()).send().await?.into_body().await
        })
        .await
    }
}

/// A call that may be repeated: when it was throttled, or when its answer was lost.
async fn again<T, F>(call: impl Fn() -> F) -> Result<T, Fail>
where
    F: Future<Output = azure_core::Result<T>>,
{
    let mut tries = 1;
    loop {
        match call().await {
            Ok(t) => return Ok(t),
            Err(e) => {
                let fail = Fail::of(&e);
                if tries >= TRIES || !(fail.throttled() || matches!(fail, Fail::Lost(_))) {
                    return Err(fail);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(common::limiter::jittered(400 << tries))).await;
        tries += 1;
    }
}

/// All pages, from the first again when one of them was lost.
async fn collect<P, T, S>(pages: impl Fn() -> S, of: impl Fn(P) -> Vec<T> + Copy) -> Result<Vec<T>, Fail>
where
    S: futures_util::Stream<Item = azure_core::Result<P>> + Unpin,
{
    again(|| async { pages().map(|page| page.map(of)).try_concat().await }).await
}
