//! Who asks and what they may: bearers, managed identities, roles, the metadata service.

use crate::stage::{COMPUTE, SUB, Stage, VM, http, snapshot_of};
use cloud_sim::arm::{ArmDisk, ArmFault, ArmHost, ArmMatch, ArmPrincipal, ArmRule, Vm, of_vm};
use serde_json::{Value, json};

const VERSION: &str = "api-version=2024-03-02";

fn plain(stage: &Stage, endpoint: &str, path: &str, headers: &[&str]) -> (u16, Value) {
    let _ = stage;
    let got = http("GET", endpoint, path, headers, &Value::Null).unwrap();
    (got.status, got.body)
}

#[test]
fn without_a_bearer_or_with_a_bad_one_nothing_is_told() {
    let stage = Stage::with(|c| c.any_token = false);
    let path = format!("{COMPUTE}/disks/data0?{VERSION}");
    let ask = |headers: &[&str]| {
        let got = http("GET", &stage.sim.endpoint(), &path, headers, &Value::Null).unwrap();
        (got.status, got.code().to_owned())
    };
    assert_eq!(ask(&[]), (401, "AuthenticationFailed".into()));
    assert_eq!(ask(&["authorization: Bearer nonsense"]), (401, "InvalidAuthenticationToken".into()));
    assert_eq!(ask(&[&format!("authorization: Bearer {}", stage.token)]).0, 200);
    let unknown = http("GET", &stage.sim.endpoint(), "/nothing", &[], &Value::Null).unwrap();
    assert_eq!(unknown.status, 401);
    assert_eq!(stage.ask("GET", "/nothing", Value::Null).refused(), (404, "ResourceNotFound"));
    let none = format!("{COMPUTE}/disks/data0");
    let got = http("GET", &stage.sim.endpoint(), &none, &[&format!("authorization: Bearer {}", stage.token)], &Value::Null).unwrap();
    assert_eq!(got.refused(), (400, "MissingApiVersionParameter"));
    let old = Stage::with(|c| c.token_lifetime_s = 0);
    assert_eq!(old.get(&format!("{COMPUTE}/disks/data0")).refused(), (401, "ExpiredAuthenticationToken"));
}

#[test]
fn the_identity_endpoint_gives_tokens_to_who_has_the_header() {
    let stage = Stage::quick();
    stage.sim.add_principal(ArmPrincipal::new("coordinator").client_id("c0ffee00-0000-0000-0000-000000000000").actions(&["*/read"]));
    let env: std::collections::BTreeMap<String, String> = stage.sim.identity_env().into_iter().collect();
    let at = env["IDENTITY_ENDPOINT"].strip_prefix(&stage.sim.endpoint()).unwrap().to_owned();
    let header = format!("x-identity-header: {}", env["IDENTITY_HEADER"]);
    let ask = |query: &str, headers: &[&str]| plain(&stage, &stage.sim.endpoint(), &format!("{at}?{query}"), headers);
    let good = "resource=https://management.azure.com/&api-version=2019-08-01";
    assert_eq!(ask(good, &[]).0, 401);
    assert_eq!(ask(good, &["x-identity-header: x"]).0, 401);
    assert_eq!(ask("api-version=2019-08-01", &[&header]).0, 400);
    assert_eq!(ask(&format!("{good}&client_id=other"), &[&header]).0, 400);
    let (status, system) = ask(good, &[&header]);
    assert_eq!((status, &system["token_type"]), (200, &json!("Bearer")));
    let (_, user) = ask(&format!("{good}&client_id=c0ffee00-0000-0000-0000-000000000000"), &[&header]);
    let (_, elsewhere) = ask(&good.replace("management.azure.com", "vault.azure.net"), &[&header]);
    let with = |token: &Value| {
        let bearer = format!("authorization: Bearer {}", token["access_token"].as_str().unwrap());
        http("DELETE", &stage.sim.endpoint(), &format!("{COMPUTE}/snapshots/s?{VERSION}"), &[&bearer], &Value::Null).unwrap()
    };
    assert_eq!(with(&system).status, 204);
    assert_eq!(with(&user).refused(), (403, "AuthorizationFailed"));
    assert_eq!(with(&elsewhere).refused(), (401, "InvalidAuthenticationTokenAudience"));
    let calls = stage.sim.calls_of("snapshots.delete");
    assert_eq!(
        (calls[1].principal.as_deref(), calls[1].status, calls[1].action.as_str()),
        (Some("coordinator"), Some(403), "Microsoft.Compute/snapshots/delete")
    );
    stage.sim.fault(ArmRule::new(ArmMatch::op("token"), ArmFault::Status { status: 500, code: "ServerError".into(), retry_after_s: None }));
    assert_eq!((ask(good, &[&header]).0, ask(good, &[&header]).0), (500, 200));
}

#[test]
fn a_federated_assertion_becomes_a_token() {
    let stage = Stage::quick();
    stage.sim.add_principal(ArmPrincipal::new("workload").client_id("abc"));
    let form = |client: &str, assertion: &str| {
        let body = format!(
            "grant_type=client_credentials&client_id={client}&scope=https%3A%2F%2Fmanagement.azure.com%2F.default&client_assertion={assertion}\
             &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
        );
        let kind = "content-type: application/x-www-form-urlencoded";
        http("POST", &stage.sim.endpoint(), "/tenant/oauth2/v2.0/token", &[kind], &Value::String(body)).unwrap()
    };
    let got = form("abc", "jwt");
    let bearer = format!("authorization: Bearer {}", got.body["access_token"].as_str().unwrap());
    assert_eq!(plain(&stage, &stage.sim.endpoint(), &format!("{COMPUTE}/snapshots?{VERSION}"), &[&bearer]).0, 200);
    assert_eq!(stage.sim.calls_of("snapshots.list")[0].principal.as_deref(), Some("workload"));
    assert_eq!((form("abc", "").status, form("other", "jwt").status), (401, 400));
}

#[test]
fn a_role_without_an_action_is_refused_by_its_name() {
    let stage = Stage::quick();
    let all = ["Microsoft.Compute/snapshots/write", "Microsoft.Compute/snapshots/read", "Microsoft.Compute/disks/beginGetAccess/action"];
    let put = |missing: Option<usize>| {
        let actions: Vec<&str> = all.iter().enumerate().filter(|(n, _)| Some(*n) != missing).map(|(_, a)| *a).collect();
        stage.sim.add_principal(ArmPrincipal::new("limited").actions(&actions));
        let bearer = format!("authorization: Bearer {}", stage.sim.token("limited"));
        let path = format!("{COMPUTE}/snapshots/s{missing:?}?{VERSION}").replace(['(', ')'], "");
        http("PUT", &stage.sim.endpoint(), &path, &[&bearer], &snapshot_of("data0")).unwrap()
    };
    assert_eq!(put(None).status, 202);
    let no = put(Some(0));
    assert_eq!(no.refused(), (403, "AuthorizationFailed"));
    assert!(no.text.contains("'Microsoft.Compute/snapshots/write'") && no.text.contains("limited"), "{}", no.text);
    assert_eq!(put(Some(2)).refused(), (403, "LinkedAuthorizationFailed"));
    assert_eq!(stage.sim.snapshots().len(), 1);
}

#[test]
fn a_vm_knows_itself_and_its_identity_reaches_its_own_disks_only() {
    let stage = Stage::quick();
    let other = Vm::new(SUB, "rg1", "vm2").data_disk(0, ArmDisk::new("foreign"));
    stage.sim.add_vm(other.clone());
    let imds = stage.sim.imds(VM);
    assert_eq!(stage.sim.imds(VM), imds, "one port for a VM");
    let meta = ["metadata: true"];
    let (status, all) = plain(&stage, &imds, "/metadata/instance?api-version=2021-02-01", &meta);
    assert_eq!((status, &all["compute"]["resourceId"], &all["compute"]["location"]), (200, &json!(VM), &json!("westeurope")));
    let disks = &all["compute"]["storageProfile"]["dataDisks"];
    assert_eq!(
        (&disks[0]["lun"], &disks[0]["managedDisk"]["id"], &disks[1]["lun"], &disks[1]["diskSizeGB"]),
        (&json!("1"), &json!(format!("{COMPUTE}/disks/wij")), &json!("3"), &json!("8")),
        "texts, in the order of their LUN"
    );
    assert_eq!(plain(&stage, &imds, "/metadata/instance/compute/storageProfile/dataDisks?api-version=2021-02-01", &meta).1, *disks);
    let text = http("GET", &imds, "/metadata/instance/compute/name?api-version=2021-02-01&format=text", &meta, &Value::Null).unwrap();
    assert_eq!(text.text, "vm1");
    for (path, headers) in [
        ("/metadata/instance?api-version=2021-02-01", &[][..]),
        ("/metadata/instance", &meta),
        ("/metadata/instance?api-version=1", &["metadata: true", "x-forwarded-for: 1"]),
    ] {
        assert_eq!(plain(&stage, &imds, path, headers).0, 400, "{path}");
    }
    assert_eq!(plain(&stage, &imds, "/metadata/instance/nothing?api-version=1", &meta).0, 404);

    let token = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com/";
    assert_eq!(plain(&stage, &imds, token, &[]).0, 400);
    assert_eq!(plain(&stage, &imds, &format!("{token}&client_id=nobody"), &meta).1["error_description"], "Identity not found");
    let (_, mut got) = plain(&stage, &imds, token, &meta);
    let bearer = format!("authorization: Bearer {}", got["access_token"].take().as_str().unwrap());
    let ask = |method: &str, path: &str, body: Value| {
        let got = http(method, &stage.sim.endpoint(), &format!("{path}?{VERSION}"), &[&bearer], &body).unwrap();
        (got.status, got.code().to_owned())
    };
    let put = |name: &str, disk: &str| ask("PUT", &format!("{COMPUTE}/snapshots/{name}"), snapshot_of(disk));
    assert_eq!(put("own", "data0").0, 202);
    assert_eq!(put("not", "foreign"), (403, "LinkedAuthorizationFailed".into()));
    assert_eq!((ask("GET", VM, Value::Null).0, ask("GET", &format!("{COMPUTE}/disks/wij"), Value::Null).0), (200, 200));
    for foreign in [other.id(), format!("{COMPUTE}/disks/foreign"), format!("{COMPUTE}/virtualMachines"), format!("{VM}/runCommands")] {
        assert_eq!(ask("GET", &foreign, Value::Null), (403, "AuthorizationFailed".into()), "{foreign}");
    }
    stage.snapshot("theirs", "foreign");
    assert_eq!(ask("DELETE", &format!("{COMPUTE}/snapshots/theirs"), Value::Null).0, 403);
    assert_eq!(ask("DELETE", &format!("{COMPUTE}/snapshots/own"), Value::Null).0, 202);
    assert_eq!(stage.sim.calls_of("snapshots.put")[0].principal.as_deref(), Some(of_vm(VM).as_str()));
    stage.sim.add_host(ArmHost::new(VM).own_actions(&["Microsoft.Compute/snapshots/read"]));
    assert_eq!(put("more", "data0"), (403, "AuthorizationFailed".into()), "a narrower role");
    let through_arm = http("GET", &stage.sim.endpoint(), "/metadata/instance?api-version=1", &meta, &Value::Null).unwrap();
    assert_eq!(through_arm.status, 401, "the metadata service has a port of its own");
}
