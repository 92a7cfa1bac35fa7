//! Journals in a bucket (moto's S3) and a container (Azurite's Blob): pushed by passes, encrypted, brought back, and restored from with
//! the journals' own disk lost.

use crate::bed::{crash_later, lose_all_but_journals, run, stage};
use crate::judge::{recorded, recorded_until, sim, stopped};
use crate::{backup, said, text};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use suite::cloud::programs::program;
use suite::cloud::tools::{Aws, Server, credentials, free_port, moto, tool_or_skip, tools};
use suite::host::{Host, sleep_ms};

/// A bucket of an emulator.
struct Bucket {
    url: String,
    env: Vec<(String, String)>,
    _server: Server,
}

impl Bucket {
    fn s3(dir: &Path, test: &str) -> Option<Self> {
        let python = tool_or_skip("aws", "python", test)?;
        let server = moto(&python, dir, None);
        let aws = Aws::new(&tools().join("aws/bin/aws"), &server.url());
        aws.output(&["s3", "mb", "s3://journals"]);
        let mut env: Vec<(String, String)> = credentials().iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        env.push(("AWS_ENDPOINT_URL".into(), server.url()));
        Some(Self { url: "s3://journals/hosts/db1".into(), env, _server: server })
    }

    /// Azurite's account and key are public (its own documentation).
    fn blob(dir: &Path, test: &str) -> Option<Self> {
        let azurite = tools().join("azurite/node_modules/.bin/azurite-blob");
        if !azurite.is_file() {
            println!("SKIP {test}: no azurite (make setup installs it)");
            return None;
        }
        let port = free_port();
        let mut c = Command::new(&azurite);
        let path = std::env::var("PATH").unwrap_or_default();
        c.env("PATH", format!("{path}:{}", tools().join("prism/node/bin").display()));
        c.args([
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            &port.to_string(),
            "--location",
            text(dir),
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",
        ]);
        let server = Server::start(c, port, dir.join("azurite.log"), Duration::from_secs(60));
        let key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
        let env = [
            ("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1".to_owned()),
            ("AZURE_STORAGE_ACCOUNT_KEY", key.to_owned()),
            ("AZURE_STORAGE_ENDPOINT", format!("{}/devstoreaccount1", server.url())),
        ];
        let az = tool_or_skip("az", "az", test)?;
        let account = format!("AccountName=devstoreaccount1;AccountKey={key};BlobEndpoint={}/devstoreaccount1", server.url());
        let connection = format!("DefaultEndpointsProtocol=http;{account};");
        let mut make = Command::new(az);
        make.args(["storage", "container", "create", "-n", "journals", "--connection-string", &connection]);
        let made = make.env("AZURE_CONFIG_DIR", dir.join("az")).output().expect("az runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let env = env.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        Some(Self { url: "az://journals/hosts/db1".into(), env, _server: server })
    }

    fn ctl(&self, args: &[&str]) -> Output {
        let mut c = Command::new(program("snapfreezectl"));
        c.args(["--json", "journals"]).args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        c.envs(self.env.iter().map(|(k, v)| (k, v))).output().expect("it runs")
    }
}

fn line(o: &Output, kind: &str) -> Value {
    let text = String::from_utf8_lossy(&o.stdout).into_owned();
    let all = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    all.into_iter().find(|v| v["type"] == kind).unwrap_or_else(|| panic!("no {kind}: {}", suite::cloud::programs::said(o)))
}

fn ok(o: Output) -> Output {
    assert_eq!(o.status.code(), Some(0), "{}", suite::cloud::programs::said(&o));
    o
}

/// Databases, WIJ, journals and the directory to which they were shipped are lost; the bucket is there.
fn everything_comes_back_from(bucket: &Bucket, dir: &Path) {
    let (mut host, to) = stage(true);
    let far = dir.join("far");
    std::fs::create_dir(&far).unwrap();
    // Keys of `age-keygen`, of this test alone.
    let (secret, public) = keys();
    let identity = dir.join("key.txt");
    std::fs::write(&identity, format!("# a key\n{secret}\n")).unwrap();
    let id = backup(&host, &to);
    let push = |host: &Host| {
        let began = doors::clock::boot_now().0;
        let e = host.call(&["journals", "ship", "--into", text(&far)]);
        assert_eq!(e.code, Some(0), "{}", said(&e));
        let o = ok(bucket.ctl(&["push", "--from", text(&far), "--to", &bucket.url, "--encrypt-to", &public]));
        (began, line(&o, "pushed"))
    };
    assert!(push(&host).1["pieces"].as_u64().unwrap() >= 1);
    sleep_ms(400);
    sim(&host).m("%SYS", "do ##class(%SYS.Journal.System).RollToNextFile(1,.f)");
    sleep_ms(300);
    let (point, second) = push(&host);
    assert!(second["pieces"].as_u64().unwrap() >= 1 && second["bytes"].as_u64().unwrap() > 0, "{second}");
    // Nothing new: nothing is sent.
    let o = ok(bucket.ctl(&["push", "--from", text(&far), "--to", &bucket.url, "--encrypt-to", &public]));
    assert_eq!(line(&o, "pushed")["pieces"], 0);
    let o = bucket.ctl(&["push", "--from", text(&far), "--to", &bucket.url]);
    assert_eq!(o.status.code(), Some(2), "half encrypted is not encrypted: {}", suite::cloud::programs::said(&o));
    let o = ok(bucket.ctl(&["list", "--at", &bucket.url, "--max-age", "15m"]));
    assert_eq!(line(&o, "journals")["instance"], "IRIS");
    assert_eq!(bucket.ctl(&["list", "--at", &bucket.url, "--max-age", "1ms"]).status.code(), Some(3), "an old recovery point is told");
    sleep_ms(300);
    crash_later(&mut host);
    let (all, until_point) = (recorded(&host), recorded_until(&host, point));
    assert!(until_point.iter().any(|(w, n)| all[w] > *n), "commits went on after the recovery point");
    lose_all_but_journals(&host);
    for lost in ["journal1", "journal2"] {
        std::fs::remove_dir_all(sim(&host).instance().join(lost)).expect("the disaster");
        std::fs::create_dir(sim(&host).instance().join(lost)).expect("a new disk");
    }
    std::fs::remove_dir_all(&far).unwrap();
    // Without the identity nobody reads them; with another one neither.
    let back = dir.join("back");
    let o = bucket.ctl(&["pull", "--from", &bucket.url, "--into", text(&back)]);
    assert!(o.status.code() == Some(2) && suite::cloud::programs::said(&o).contains("encrypted"), "{}", suite::cloud::programs::said(&o));
    let other = dir.join("other.txt");
    std::fs::write(&other, keys().0).unwrap();
    let o = bucket.ctl(&["pull", "--from", &bucket.url, "--into", text(&back), "--identity", text(&other)]);
    assert!(o.status.code() == Some(1) && suite::cloud::programs::said(&o).contains("decrypt"), "{}", suite::cloud::programs::said(&o));
    for _ in 0..2 {
        ok(bucket.ctl(&["pull", "--from", &bucket.url, "--into", text(&back), "--identity", text(&identity)]));
    }
    let e = host.call(&["journals", "list", "--into", text(&back), "--verify"]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    let e = run(&host, &to, &[&id, "--journals", text(&back)]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    let report = stopped(&host);
    assert_eq!(report["recovered"]["sum"], json!(0), "{report}");
    for (worker, committed) in &until_point {
        let found = report["recovered"]["seq"][worker].as_u64().unwrap_or(0);
        assert!(found >= *committed, "worker {worker}: {committed} were pushed, found {found}");
    }
}

/// Secret and public, by the library of snapfreezectl's own kind.
fn keys() -> (String, String) {
    use age::secrecy::ExposeSecret;
    let key = age::x25519::Identity::generate();
    (key.to_string().expose_secret().to_owned(), key.to_public().to_string())
}

#[test]
fn every_commit_older_than_what_is_in_s3_returns() {
    let dir = tempfile::tempdir().unwrap();
    let Some(bucket) = Bucket::s3(dir.path(), "every_commit_older_than_what_is_in_s3_returns") else { return };
    everything_comes_back_from(&bucket, dir.path());
}

#[test]
fn every_commit_older_than_what_is_in_blob_storage_returns() {
    let dir = tempfile::tempdir().unwrap();
    let Some(bucket) = Bucket::blob(dir.path(), "every_commit_older_than_what_is_in_blob_storage_returns") else { return };
    everything_comes_back_from(&bucket, dir.path());
}

#[test]
fn a_piece_that_is_missing_or_was_changed_is_named_and_no_journal_appears() {
    let dir = tempfile::tempdir().unwrap();
    let Some(bucket) = Bucket::s3(dir.path(), "a_piece_that_is_missing_or_was_changed_is_named_and_no_journal_appears") else { return };
    let (host, to) = stage(false);
    backup(&host, &to);
    let far = dir.path().join("far");
    std::fs::create_dir(&far).unwrap();
    assert_eq!(host.call(&["journals", "ship", "--into", text(&far)]).code, Some(0));
    ok(bucket.ctl(&["push", "--from", text(&far), "--to", &bucket.url]));
    let endpoint = bucket.env.iter().find(|(k, _)| k == "AWS_ENDPOINT_URL").unwrap().1.clone();
    let aws = Aws::new(&tools().join("aws/bin/aws"), &endpoint);
    let listed = aws.json(&["s3api", "list-objects-v2", "--bucket", "journals"]);
    let piece = listed["Contents"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|o| o["Key"].as_str())
        .find(|k| k.ends_with("/00000000"))
        .unwrap()
        .to_owned();
    let bad = dir.path().join("bad");
    std::fs::write(&bad, "not this").unwrap();
    aws.json(&["s3api", "put-object", "--bucket", "journals", "--key", &piece, "--body", text(&bad)]);
    let back = dir.path().join("back");
    let pull = || bucket.ctl(&["pull", "--from", &bucket.url, "--into", text(&back)]);
    let o = pull();
    assert!(
        o.status.code() == Some(1) && suite::cloud::programs::said(&o).contains("is not what was pushed"),
        "{}",
        suite::cloud::programs::said(&o)
    );
    aws.json(&["s3api", "delete-object", "--bucket", "journals", "--key", &piece]);
    let o = pull();
    assert!(o.status.code() == Some(1) && suite::cloud::programs::said(&o).contains("is missing"), "{}", suite::cloud::programs::said(&o));
    let there: Vec<_> = std::fs::read_dir(back.join("IRIS")).unwrap().flatten().map(|e| e.file_name().into_string().unwrap()).collect();
    assert!(!there.iter().any(|n| n == "shipped.json"), "no index of what is not there: {there:?}");
    let journal = piece.split('/').rev().nth(1).unwrap();
    assert!(!there.iter().any(|n| n == journal), "{journal}: {there:?}");
    // The journals here are other ones than in the bucket: nothing is mixed.
    let index = far.join("IRIS/shipped.json");
    let mut v: Value = serde_json::from_str(&std::fs::read_to_string(&index).unwrap()).unwrap();
    v["files"][journal]["pieces"][0]["sha256"] = "00".repeat(32).into();
    std::fs::write(&index, v.to_string()).unwrap();
    let o = bucket.ctl(&["push", "--from", text(&far), "--to", &bucket.url]);
    assert!(
        o.status.code() == Some(1) && suite::cloud::programs::said(&o).contains("another journal"),
        "{}",
        suite::cloud::programs::said(&o)
    );
}
