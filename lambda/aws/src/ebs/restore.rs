//! Volumes of snapshots, made and attached. What a run has made is found by its tag, so that a repetition makes nothing twice; the
//! client token holds where the tag cannot be seen yet.

use super::{Ebs, filter, list, tag_map};
use crate::fail::Fail;
use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification, Volume, VolumeAttachmentState, VolumeState as S, VolumeType};
use coordinator::Target;
use coordinator::ports::{Berth, MadeVolume, VolumeState, Volumes};
use coordinator::restore::{Kind, Plan, Planned};
use protocol::Code;
use protocol::wire::Problem;

/// Not of the catalogue's own tags: a snapshot of such a volume that copies its tags is no set.
const RUN: &str = "snapfreeze-restore";
const OF: &str = "snapfreeze-restore-of";

impl Volumes for Ebs {
    async fn berth(&self, target: &Target) -> Result<Berth, Problem> {
        let all = list::instances(&self.clients.patient, vec![filter("instance-id", [target.id.clone()])]).await?;
        let here = all.first().ok_or_else(|| {
            Problem::new(Code::CloudRefused, format!("no such instance in {}", self.clients.region())).next("correct --onto, or the region")
        })?;
        let place = here.placement().and_then(|p| p.availability_zone()).unwrap_or_default().to_owned();
        let taken = here.block_device_mappings().iter().filter_map(|m| m.device_name().map(Into::into)).collect();
        Ok(Berth { place, taken })
    }

    async fn made(&self, plan: &Plan) -> Result<Vec<MadeVolume>, Problem> {
        let all = list::volumes(&self.clients.patient, vec![filter(format!("tag:{RUN}"), [plan.run.clone()])]).await?;
        Ok(all.iter().filter_map(|v| made(v, &plan.target)).collect())
    }

    async fn make(&self, _: &Target, p: &Planned) -> Result<String, Problem> {
        let new = &p.new;
        let mut call = self
            .clients
            .patient
            .create_volume()
            .snapshot_id(&new.snapshot)
            .availability_zone(&new.place)
            .client_token(format!("sf-{}-{}", new.run, new.snapshot))
            .tag_specifications(tags(new));
        call = with_kind(call, &new.kind);
        if let Some(rate) = new.rate {
            call = call.volume_initialization_rate(i32::try_from(rate).unwrap_or(i32::MAX));
        }
        let made = call.send().await.map_err(|e| Fail::of(&e).problem("ec2:CreateVolume"))?;
        made.volume_id.ok_or_else(|| Problem::new(Code::CloudRefused, "ec2:CreateVolume answered without an id"))
    }

    async fn attach(&self, target: &Target, volumes: &[(Planned, String)]) -> Result<(), Problem> {
        for (p, volume) in volumes {
            let call = self.clients.patient.attach_volume().instance_id(&target.id).volume_id(volume).device(&p.device);
            match call.send().await.map_err(|e| Fail::of(&e)) {
                Ok(_) => {}
                // An earlier try whose answer was lost; where it is, the next look says.
                Err(f) if f.is("VolumeInUse") => {}
                Err(f) => return Err(f.problem("ec2:AttachVolume")),
            }
        }
        Ok(())
    }

    fn key(&self, _: &Planned, volume: &str) -> String {
        volume.to_owned()
    }
}

fn tags(new: &coordinator::ports::NewVolume) -> TagSpecification {
    let tag = |k: &str, v: &str| Tag::builder().key(k).value(v.chars().take(256).collect::<String>()).build();
    TagSpecification::builder()
        .resource_type(ResourceType::Volume)
        .tags(tag(RUN, &new.run))
        .tags(tag(OF, &new.snapshot))
        .tags(tag("Name", &format!("restored {}", new.of)))
        .build()
}

type Call = aws_sdk_ec2::operation::create_volume::builders::CreateVolumeFluentBuilder;

/// EC2 API reference, CreateVolume: IOPS for gp3, io1 and io2 alone, throughput for gp3 alone.
fn with_kind(mut call: Call, kind: &Kind) -> Call {
    if kind.name.is_empty() {
        return call;
    }
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    if ["gp3", "io1", "io2"].contains(&kind.name.as_str())
        && let Some(n) = kind.iops
    {
        call = call.iops(number(n));
    }
    if let (Some(n), "gp3") = (kind.throughput, kind.name.as_str()) {
        call = call.throughput(number(n));
    }
    call.volume_type(VolumeType::from(kind.name.as_str()))
}

fn made(v: &Volume, target: &Target) -> Option<MadeVolume> {
    let attachment = v.attachments().first();
    let state = match (v.state(), attachment) {
        (Some(S::Creating), _) => VolumeState::Making,
        (Some(S::Available), _) => VolumeState::Ready,
        (Some(S::InUse), Some(a)) if a.instance_id() != Some(target.id.as_str()) => {
            VolumeState::Elsewhere(a.instance_id().unwrap_or_default().into())
        }
        (Some(S::InUse), Some(a)) if a.state() == Some(&VolumeAttachmentState::Attached) => VolumeState::Attached,
        (Some(S::InUse), _) => VolumeState::Attaching,
        (Some(S::Deleting | S::Deleted), _) => return None,
        (Some(other), _) => VolumeState::Failed(other.as_str().into()),
        (None, _) => VolumeState::Making,
    };
    Some(MadeVolume {
        volume: v.volume_id()?.into(),
        snapshot: tag_map(v.tags()).remove(OF)?,
        state,
        device: attachment.and_then(|a| a.device()).map(Into::into),
    })
}
