//! EC2: Query protocol in, XML out, version 2016-11-15.

mod copying;
mod describe;
mod filter;
pub mod query;
mod snapshots;
mod tags;
mod upstream;
mod volumes;
pub mod xml;

use crate::clock::boot_us;
use crate::faults::Fault;
use crate::sim::Sim;
use crate::wire::{Fail, Reply, Wire};
use query::Query;
use std::sync::Arc;
use xml::Xml;

const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// One call and what it needs: who asks for what, in which region.
pub struct Ask<'a> {
    pub sim: &'a Arc<Sim>,
    pub wire: &'a Wire,
    pub query: Query,
    pub region: String,
    pub faults: &'a [(u64, Fault)],
}

impl Ask<'_> {
    pub fn need(&self, key: &str) -> Result<&str, Fail> {
        let missing = || Fail::new("MissingParameter", format!("The request must contain the parameter {key}"));
        self.query.get(key).filter(|v| !v.is_empty()).ok_or_else(missing)
    }

    /// Instances and volumes are in the configured region only.
    pub fn at_home(&self) -> bool {
        self.region == self.sim.config.region
    }

    /// After everything that would refuse the real call.
    pub fn dry_run(&self) -> Result<(), Fail> {
        let fail = Fail::new("DryRunOperation", "Request would have succeeded, but DryRun flag is set.").status(412);
        if self.query.flag("DryRun") { Err(fail) } else { Ok(()) }
    }
}

pub fn throttled() -> Fail {
    Fail::new("RequestLimitExceeded", "Request limit exceeded.").status(503)
}

pub async fn answer(sim: &Arc<Sim>, wire: &Wire, faults: &[(u64, Fault)]) -> Result<Reply, Fail> {
    let region = wire.region.clone().unwrap_or_else(|| sim.config.region.clone());
    let ask = Ask { sim, wire, query: wire.query(), region, faults };
    if sim.config.ec2.buckets {
        let narrow = ["MaxResults", "Filter.1.Name"].iter().any(|k| ask.query.get(k).is_some())
            || ["SnapshotId", "InstanceId", "VolumeId"].iter().any(|k| !ask.query.list(k).is_empty());
        if !sim.world().buckets.take(&wire.action, narrow, boot_us()) {
            return Err(throttled());
        }
    }
    if let Some(to) = sim.upstream() {
        return upstream::answer(&ask, &to).await;
    }
    let mut x = Xml::default();
    match wire.action.as_str() {
        "DescribeInstances" => describe::instances(&ask, &mut x)?,
        "DescribeInstanceAttribute" => describe::attribute(&ask, &mut x)?,
        "DescribeVolumes" => describe::volumes(&ask, &mut x)?,
        "DescribeSnapshots" => snapshots::describe(&ask, &mut x)?,
        "CreateSnapshots" => snapshots::create_set(&ask, &mut x).await?,
        "CreateSnapshot" => snapshots::create_one(&ask, &mut x).await?,
        "CreateVolume" => volumes::create(&ask, &mut x)?,
        "AttachVolume" => volumes::attach(&ask, &mut x).await?,
        "CopySnapshot" => copying::copy(&ask, &mut x)?,
        "DeleteSnapshot" => copying::delete(&ask, &mut x)?,
        "ModifySnapshotAttribute" => copying::share(&ask, &mut x)?,
        "LockSnapshot" => copying::lock(&ask, &mut x)?,
        "EnableFastSnapshotRestores" => copying::fast_restore(&ask, &mut x)?,
        "CreateTags" | "DeleteTags" => {
            ask.dry_run()?;
            let mut world = sim.world();
            if wire.action == "CreateTags" {
                tags::create(&mut world, &ask.query)?
            } else {
                tags::delete(&mut world, &ask.query)?
            }
            x.text("return", true);
        }
        other => return Err(Fail::new("InvalidAction", format!("The action {other} is not valid for this web service."))),
    }
    Ok(response(&wire.action, NAMESPACE, x))
}

fn response(action: &str, namespace: &str, inner: Xml) -> Reply {
    let id = uuid::Uuid::new_v4();
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response xmlns=\"{namespace}\"><requestId>{id}</requestId>{}</{action}Response>",
        inner.finish()
    );
    Reply::new(200, "text/xml;charset=UTF-8", body)
}

pub fn failure(fail: &Fail) -> Reply {
    let mut x = Xml::default();
    x.node("Response", |x| {
        x.node("Errors", |x| {
            x.node("Error", |x| {
                x.text("Code", &fail.code).text("Message", &fail.message);
            });
        });
        x.text("RequestID", uuid::Uuid::new_v4());
    });
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", x.finish());
    Reply::new(fail.status, "text/xml;charset=UTF-8", body).failed(&fail.code)
}

/// STS, the one question that command lines ask first.
pub fn caller_identity(sim: &Sim, wire: &Wire) -> Reply {
    let who = wire.principal.clone().unwrap_or_default();
    let arn = if who.starts_with("arn:") { who.clone() } else { format!("arn:aws:iam::{}:user/{who}", sim.config.account) };
    let mut x = Xml::default();
    x.node("GetCallerIdentityResult", |x| {
        x.text("Arn", arn).text("UserId", who).text("Account", &sim.config.account);
    });
    response("GetCallerIdentity", "https://sts.amazonaws.com/doc/2011-06-15/", x)
}
