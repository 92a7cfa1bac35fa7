//! A double with one VM `vm1` (OS disk, `data0` and `wij` with bytes), its host, and a client that polls as ARM says.

use cloud_sim::arm::{ArmConfig, ArmDisk, ArmFault, ArmHost, ArmMatch, ArmRule, ArmSim, Vm};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

pub const SUB: &str = "11111111-2222-3333-4444-555555555555";
pub const VM: &str =
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg1/providers/Microsoft.Compute/virtualMachines/vm1";
pub const COMPUTE: &str = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg1/providers/Microsoft.Compute";

pub struct Stage {
    pub sim: ArmSim,
    pub dir: tempfile::TempDir,
    /// The bearer of `ask`.
    pub token: String,
}

/// Status, headers in lower case, body.
#[derive(Debug, PartialEq)]
pub struct Got {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
    pub text: String,
}

impl Got {
    pub fn code(&self) -> &str {
        self.body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default()
    }
    pub fn refused(&self) -> (u16, &str) {
        (self.status, self.code())
    }
}

impl Stage {
    pub fn quick() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut ArmConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ArmConfig::quick(dir.path().join("arm"));
        change(&mut config);
        let sim = ArmSim::start(config).unwrap();
        for name in ["data0", "wij"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("file"), format!("bytes of {name}")).unwrap();
        }
        let disk = |name: &str| ArmDisk::new(name).dir(dir.path().join(name));
        let vm = Vm::new(SUB, "rg1", "vm1").tag("snapfreeze", "yes").data_disk(3, disk("data0").size(8).tag("of", "data0"));
        sim.add_vm(vm.data_disk(1, disk("wij").sku("PremiumV2_LRS").size(4).iops(5000)));
        sim.add_host(ArmHost::new(VM));
        let token = sim.token("tester");
        Self { sim, dir, token }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn fault(&self, op: &str, fault: ArmFault) -> u64 {
        self.sim.fault(ArmRule::new(ArmMatch::op(op), fault))
    }

    /// With bearer and api-version. `None`: closed without an answer.
    pub fn try_ask(&self, method: &str, path: &str, body: Value) -> Option<Got> {
        let version = if path.contains('?') { "&api-version=2024-03-02" } else { "?api-version=2024-03-02" };
        let bearer = format!("authorization: Bearer {}", self.token);
        http(method, &self.sim.endpoint(), &format!("{path}{version}"), &[&bearer], &body)
    }

    pub fn ask(&self, method: &str, path: &str, body: Value) -> Got {
        self.try_ask(method, path, body).expect("an answer")
    }

    pub fn get(&self, path: &str) -> Got {
        self.ask("GET", path, Value::Null)
    }

    /// A URL that the double gave.
    pub fn follow(&self, url: &str) -> Got {
        let path = url.strip_prefix(&self.sim.endpoint()).unwrap();
        http("GET", &self.sim.endpoint(), path, &[&format!("authorization: Bearer {}", self.token)], &Value::Null).expect("an answer")
    }

    /// Until the operation is over: its last answer.
    pub fn ended(&self, accepted: &Got) -> Value {
        let url = accepted.headers.get("azure-asyncoperation").unwrap_or_else(|| panic!("{accepted:?}"));
        for _ in 0..2000 {
            let got = self.follow(url);
            assert_eq!(got.status, 200, "{got:?}");
            if got.body["status"] != "InProgress" {
                return got.body;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the operation does not end");
    }

    /// Asks and waits for the operation's end, which must be good.
    pub fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let got = self.ask(method, path, body);
        assert!(got.status < 300, "{got:?}");
        let end = self.ended(&got);
        assert_eq!(end["status"], "Succeeded", "{end}");
        end["properties"]["output"].clone()
    }

    pub fn snapshot(&self, name: &str, disk: &str) -> Got {
        self.ask("PUT", &format!("{COMPUTE}/snapshots/{name}"), snapshot_of(disk))
    }
}

pub fn snapshot_of(disk: &str) -> Value {
    json!({
        "location": "westeurope", "tags": { "snapfreeze:id": "x" }, "sku": { "name": "Standard_LRS" },
        "properties": { "incremental": true, "creationData": { "createOption": "Copy", "sourceResourceId": format!("{COMPUTE}/disks/{disk}") } },
    })
}

pub fn http(method: &str, endpoint: &str, path: &str, headers: &[&str], body: &Value) -> Option<Got> {
    let body = match body {
        Value::Null => String::new(),
        Value::String(form) => form.clone(),
        json => json.to_string(),
    };
    let address = endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let text = String::from_utf8_lossy(&all).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned())).collect();
    Some(Got { status, headers, body: serde_json::from_str(body).unwrap_or(Value::Null), text: body.to_owned() })
}

pub fn wait(there: impl Fn() -> bool) {
    for _ in 0..2000 {
        if there() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it does not come");
}
