//! What is read: VMs, disks, groups; lists in pages; the buckets of requests.

use crate::stage::{COMPUTE, SUB, Stage, VM, snapshot_of};
use cloud_sim::arm::Vm;
use serde_json::{Value, json};

/// All pages of a list: names, and how many pages there were.
fn all(stage: &Stage, path: &str) -> (Vec<String>, usize) {
    let (mut names, mut pages, mut got) = (Vec::new(), 1, stage.get(path));
    loop {
        assert_eq!(got.status, 200, "{got:?}");
        names.extend(got.body["value"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap().to_owned()));
        let Some(next) = got.body.get("nextLink").and_then(Value::as_str) else { return (names, pages) };
        (got, pages) = (stage.follow(next), pages + 1);
    }
}

#[test]
fn lists_come_in_pages_by_group_and_by_subscription() {
    let stage = Stage::with(|c| c.page_size = 2);
    stage.sim.add_group(SUB, "rg2");
    for n in 0..4 {
        stage.sim.add_vm(Vm::new(SUB, if n < 2 { "rg1" } else { "RG2" }, &format!("more{n}")).tag("n", &n.to_string()));
    }
    let whole = format!("/subscriptions/{SUB}/providers/Microsoft.Compute/virtualMachines");
    assert_eq!(all(&stage, &whole), (vec!["more0".into(), "more1".into(), "vm1".into(), "more2".into(), "more3".into()], 3));
    assert_eq!(all(&stage, &format!("{COMPUTE}/virtualMachines")).0, ["more0", "more1", "vm1"]);
    assert_eq!(all(&stage, &format!("{COMPUTE}/virtualMachines").replace("rg1", "rg2")), (vec!["more2".into(), "more3".into()], 1));
    for n in 0..3 {
        stage.done("PUT", &format!("{COMPUTE}/snapshots/s{n}"), snapshot_of("data0"));
    }
    stage.done("PUT", &format!("{COMPUTE}/snapshots/far").replace("rg1", "rg2"), snapshot_of("data0"));
    assert_eq!(all(&stage, &format!("{COMPUTE}/snapshots")), (vec!["s0".into(), "s1".into(), "s2".into()], 2));
    assert_eq!(all(&stage, &format!("/subscriptions/{SUB}/providers/Microsoft.Compute/snapshots")).0.len(), 4);
    assert_eq!(all(&stage, &format!("{COMPUTE}/disks")).0.len(), 3 + 2);
    let groups = stage.get(&format!("/subscriptions/{SUB}/resourcegroups")).body;
    assert_eq!(groups["value"].as_array().unwrap().len(), 2);
    assert_eq!(stage.get("/subscriptions").body["value"][0]["subscriptionId"], SUB);
}

#[test]
fn a_vm_has_its_disks_by_lun_and_its_power_in_the_instance_view() {
    let stage = Stage::quick();
    let vm = stage.get(VM).body;
    assert!(vm["properties"].get("instanceView").is_none());
    let disks = &vm["properties"]["storageProfile"]["dataDisks"];
    assert_eq!(
        (&disks[0]["lun"], &disks[0]["caching"], &disks[0]["managedDisk"]["id"]),
        (&json!(1), &json!("None"), &json!(format!("{COMPUTE}/disks/wij")))
    );
    assert_eq!(vm["properties"]["storageProfile"]["osDisk"]["managedDisk"]["id"], format!("{COMPUTE}/disks/vm1-os"));
    stage.sim.set_power(VM, "deallocated");
    let views = [
        stage.get(&format!("{VM}?$expand=instanceView")).body["properties"]["instanceView"].clone(),
        stage.get(&format!("{VM}/instanceView")).body,
        stage.get(&format!("{COMPUTE}/virtualMachines?statusOnly=true")).body["value"][0]["properties"]["instanceView"].clone(),
    ];
    assert!(views.iter().all(|v| v["statuses"][1]["code"] == "PowerState/deallocated"), "{views:?}");
    assert_eq!(views[0]["vmAgent"]["statuses"][0]["displayStatus"], "Ready");
    let disk = stage.get(&format!("{COMPUTE}/disks/WIJ")).body;
    let p = &disk["properties"];
    assert_eq!((&disk["sku"]["name"], &p["diskIOPSReadWrite"], &disk["managedBy"]), (&json!("PremiumV2_LRS"), &json!(5000), &json!(VM)));
    stage.sim.remove_vm(VM);
    assert_eq!(stage.get(VM).refused(), (404, "ResourceNotFound"));
    assert_eq!(stage.get(&format!("{COMPUTE}/disks/wij")).status, 200, "its disks stay");
    let foreign = stage.get("/subscriptions/other/providers/Microsoft.Compute/snapshots");
    assert_eq!(foreign.refused(), (404, "SubscriptionNotFound"));
}

#[test]
fn the_buckets_say_what_is_left_and_refuse_when_nothing_is() {
    let stage = Stage::with(|c| c.buckets = true);
    let first = stage.snapshot("s1", "data0");
    assert_eq!(first.headers["x-ms-ratelimit-remaining-subscription-writes"], "199");
    assert_eq!(stage.get(VM).headers["x-ms-ratelimit-remaining-subscription-reads"], "249");
    stage.sim.set_tokens("writes", -30.0);
    let refused = stage.snapshot("s2", "data0");
    assert_eq!(refused.refused(), (429, "SubscriptionRequestsThrottled"));
    assert!(["1", "2", "3", "4"].contains(&refused.headers["retry-after"].as_str()), "{refused:?}");
    assert_eq!(stage.get(VM).status, 200, "reads have a bucket of their own");
    stage.sim.set_tokens("writes", 1.0);
    assert_eq!(stage.snapshot("s2", "data0").status, 202);
}

#[test]
fn tags_of_any_resource_are_merged_replaced_and_deleted() {
    let stage = Stage::quick();
    let of = |id: &str| format!("{id}/providers/Microsoft.Resources/tags/default");
    let ask = |operation: &str, tags: Value| {
        let body = json!({ "operation": operation, "properties": { "tags": tags } });
        stage.ask("PATCH", &of(VM), body).body["properties"]["tags"].clone()
    };
    assert_eq!(ask("Merge", json!({ "a": "1" })), json!({ "a": "1", "snapfreeze": "yes" }));
    assert_eq!(ask("Delete", json!({ "snapfreeze": "yes" })), json!({ "a": "1" }));
    assert_eq!(ask("Replace", json!({ "b": "2" })), json!({ "b": "2" }));
    assert_eq!(stage.get(VM).body["tags"], json!({ "b": "2" }));
    let disk = format!("{COMPUTE}/disks/data0");
    assert_eq!(stage.get(&of(&disk)).body["properties"]["tags"], json!({ "of": "data0" }));
    assert_eq!(stage.ask("PUT", &of(&disk), json!({ "properties": { "tags": {} } })).status, 200);
    assert_eq!(stage.get(&disk).body["tags"], json!({}));
    assert_eq!(stage.ask("PATCH", &of(VM), json!({ "operation": "x" })).status, 400);
    assert_eq!(stage.ask("PUT", &of(VM), json!({ "properties": { "tags": { "a/b": "" } } })).refused(), (400, "InvalidTagNameCharacters"));
    assert_eq!(stage.get(&of(&format!("{COMPUTE}/snapshots/none"))).refused(), (404, "ResourceNotFound"));
}
