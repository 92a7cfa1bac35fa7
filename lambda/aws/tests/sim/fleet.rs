//! Which hosts a policy selects, and the client that cannot change anything.

use crate::support::*;
use aws::fail::Fail;
use cloud_sim::Instance;
use coordinator::policy::Select;
use coordinator::ports::{Disks, Fleet, FreezeAnswer, Hosts, Shelf, SnapshotAnswer, ThawAnswer};
use protocol::{Code, HoldMs};
use std::collections::BTreeMap;

fn by(ids: &[&str], tags: &[(&str, &str)]) -> Select {
    let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Select { ids: ids.iter().map(|i| (*i).to_owned()).collect(), tags, group_by: None, mirror_by: None }
}

#[tokio::test]
async fn hosts_are_selected_by_id_or_by_all_of_the_tags_stopped_ones_too() {
    let cloud = Cloud::start();
    cloud.sim.add_instance(Instance::new("i-stopped").tag("snapfreeze", "nightly").tag("tier", "gold").state("stopped"));
    cloud.sim.add_instance(Instance::new("i-gone").tag("snapfreeze", "nightly").state("terminated"));
    cloud.sim.add_instance(Instance::new("i-other").tag("snapfreeze", "weekly"));
    cloud.sim.add_instance(Instance::new("i-star").tag("snapfreeze", "*"));
    let select = async |s: Select| -> Vec<String> { cloud.ebs().select(&s).await.unwrap().into_iter().map(|c| c.target.id).collect() };
    assert_eq!(select(by(&[], &[("snapfreeze", "nightly")])).await, [HOST, "i-stopped"]);
    assert_eq!(select(by(&[], &[("snapfreeze", "nightly"), ("tier", "gold")])).await, ["i-stopped"]);
    assert_eq!(select(by(&["i-other"], &[("tier", "gold")])).await, ["i-other", "i-stopped"]);
    assert_eq!(select(by(&[], &[("snapfreeze", "*")])).await, ["i-star"], "a value is no pattern");
    assert_eq!(select(by(&[], &[("snapfreeze", "hourly")])).await, Vec::<String>::new());
    let one = &cloud.ebs().select(&by(&[HOST], &[])).await.unwrap()[0];
    assert_eq!((one.target.name.as_str(), one.volumes.len()), ("db-a", 3));

    let p = cloud.ebs().select(&by(&[HOST, "i-nowhere", "i-gone"], &[])).await.unwrap_err();
    assert_eq!((p.code, p.detail.as_str()), (Code::CloudRefused, "no such instance in us-east-1: i-nowhere, i-gone"));
}

#[tokio::test]
async fn a_large_fleet_is_read_page_by_page() {
    let cloud = Cloud::start();
    for n in 0..1200 {
        cloud.sim.add_instance(Instance::new(&format!("i-{n:017x}")).tag("fleet", "big"));
    }
    assert_eq!(cloud.ebs().select(&by(&[], &[("fleet", "big")])).await.unwrap().len(), 1200);
    let ids: Vec<String> = (0..450).map(|n| format!("i-{n:017x}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(cloud.ebs().select(&by(&ids, &[])).await.unwrap().len(), 450);
}

#[tokio::test]
async fn a_read_only_client_sends_nothing_that_changes_anything() {
    let cloud = Cloud::start();
    let clients = cloud.clients_in(REGION, true);
    let ebs = aws::Ebs::new(clients.clone(), common::WallClock::start());
    let ssm = aws::Ssm::new(clients.clone(), common::WallClock::start(), Default::default(), aws::ssm::DOCUMENTS);

    let looked = ebs.look(&target(HOST), &snapshot_call(new_id())).await.unwrap();
    assert_eq!((looked.problem, looked.volumes.len()), (None, 3), "reading and the rehearsal pass");
    assert_eq!(ebs.all().await.unwrap(), []);

    let answer = ebs.snapshot(&target(HOST), &snapshot_call(new_id())).await;
    assert!(matches!(&answer, SnapshotAnswer::Failed(p) if p.detail.contains("dry run")), "{answer:?}");
    assert!(ebs.tag(&["snap-1".into()], &BTreeMap::from([("k".into(), "v".into())])).await.is_err());
    assert!(ebs.delete("snap-1").await.is_err());
    let FreezeAnswer::Refused(p) = ssm.freeze(&target(HOST), &freeze_call(new_id(), 5_000)).await else { panic!("sent") };
    assert!(p.detail.contains("SendCommand would change something"), "{}", p.detail);
    let ThawAnswer::Unknown(why) = ssm.thaw(&target(HOST), new_id(), "test", in_ms(5_000)).await else { panic!("sent") };
    assert!(why.contains("SendCommand would change something"), "{why}");
    ssm.facts(&target(HOST), new_id(), HoldMs::new(60_000).unwrap(), in_ms(20_000)).await.expect("asking is no change");
    assert!(clients.ssm_patient.cancel_command().command_id("x").send().await.is_err());
    let e = clients.elsewhere("eu-west-1").copy_snapshot().source_snapshot_id("s").source_region("r").send().await.unwrap_err();
    assert!(matches!(Fail::of(&e), Fail::Refused { code, .. } if code == "NotSent"));

    let changing = |a: &str| !["Describe", "Get", "List"].iter().any(|v| a.starts_with(v));
    let sent: Vec<_> = cloud.sim.calls().into_iter().filter(|c| changing(&c.action)).collect();
    assert!(sent.iter().all(|c| c.params["DryRun"] == "true" || c.document.as_deref() == Some("snapfreeze-facts")), "{sent:?}");
    assert_eq!(sent.len(), 2, "rehearsal and facts: the record does see such calls");
    cloud.ebs().delete("snap-1").await.unwrap();
    assert_eq!(cloud.count("DeleteSnapshot"), 1, "the control: the other client does send it");
}
