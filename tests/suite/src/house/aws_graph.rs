//! The state machine of `infra/aws/backup.asl.json` as a graph, and the rules that it keeps: above all, no way out of Freeze
//! avoids Thaw. A finding begins with the name of its rule, so that a test can show that each rule can fail.

use protocol::Code;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub const RULES: [&str; 14] = [
    "edges",
    "reachable",
    "one-state-per-action",
    "freeze-reaches-thaw",
    "no-retry",
    "doubt-thaws",
    "thaw-insists",
    "snapshot-needs-freeze",
    "never-back",
    "only-held-succeeds",
    "failure-is-told",
    "every-task-ends",
    "names",
    "map-tolerates",
];

/// Errors of AWS's own that the machine tells apart.
const FOREIGN: [&str; 6] = [
    "Lambda.TooManyRequestsException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "StepFunctions.ExecutionAlreadyExistsException",
    // ministack's name for it.
    "ExecutionAlreadyExists",
];
const RESOURCES: [&str; 3] =
    ["arn:aws:states:::lambda:invoke", "arn:aws:states:::events:putEvents", "arn:aws:states:::states:startExecution"];

/// One level of states: the run, or what is done for each target.
struct Machine<'a> {
    start: &'a str,
    states: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Machine<'a> {
    fn of(v: &'a Value) -> Self {
        let states = v["States"].as_object().into_iter().flatten().map(|(n, s)| (n.as_str(), s)).collect();
        Self { start: v["StartAt"].as_str().unwrap_or_default(), states }
    }
    fn get(&self, name: &str) -> &'a Value {
        self.states.get(name).copied().unwrap_or(&Value::Null)
    }
    /// Where a state can lead: Next, Default, every choice, every Catch.
    fn next(&self, name: &str) -> BTreeSet<&'a str> {
        let s = self.get(name);
        let list = |key: &str| s[key].as_array().into_iter().flatten().map(|c| &c["Next"]);
        [&s["Next"], &s["Default"]].into_iter().chain(list("Choices")).chain(list("Catch")).filter_map(Value::as_str).collect()
    }
    fn before(&self, name: &str) -> BTreeSet<&'a str> {
        self.states.keys().copied().filter(|s| self.next(s).contains(name)).collect()
    }
    /// Everything that can be reached from `from` (itself not counted, unless by a loop) without passing through `wall`.
    fn beyond(&self, from: &str, wall: &str) -> BTreeSet<&'a str> {
        let (mut seen, mut todo) = (BTreeSet::new(), self.next(from).into_iter().collect::<Vec<_>>());
        while let Some(s) = todo.pop() {
            if s != wall && seen.insert(s) {
                todo.extend(self.next(s));
            }
        }
        seen
    }
    fn ends(&self, name: &str) -> bool {
        let s = self.get(name);
        s["Type"] == "Fail" || s["Type"] == "Succeed" || s["End"] == true
    }
    fn of_action(&self, action: &str) -> Vec<&'a str> {
        self.states.iter().filter(|(_, s)| s["Parameters"]["Payload"]["action"] == action).map(|(n, _)| *n).collect()
    }
}

/// What is wrong with this definition. Empty: every rule holds.
pub fn check(asl: &Value) -> Vec<String> {
    let mut bad = Vec::new();
    let inner = &asl["States"]["Targets"]["ItemProcessor"];
    let (run, each) = (Machine::of(asl), Machine::of(inner));
    for m in [&run, &each] {
        shape(m, &mut bad);
        tasks(m, &mut bad);
        names(m, &mut bad);
    }
    window(&each, &mut bad);
    verdict(&each, &mut bad);
    for action in ["freeze", "snapshot", "thaw", "settle", "admit"] {
        if !run.of_action(action).is_empty() {
            bad.push(format!("one-state-per-action: the run itself does {action}"));
        }
    }
    let map = asl["States"]["Targets"].clone();
    // A threshold that is passed stops the other children, whose windows are open, and a stopped execution runs no Catch.
    if map["ToleratedFailurePercentage"] != serde_json::json!(100.0) || map.get("ToleratedFailureCount").is_some() {
        bad.push("map-tolerates: one failed host would stop the others inside their windows".into());
    }
    if map.get("Retry").is_some() || asl.get("TimeoutSeconds").is_some() || map.get("TimeoutSeconds").is_some() {
        bad.push("map-tolerates: a repeated or timed-out map stops or doubles windows".into());
    }
    if inner["ProcessorConfig"] != serde_json::json!({ "Mode": "DISTRIBUTED", "ExecutionType": "STANDARD" }) {
        bad.push("map-tolerates: an Express child runs at least once and for five minutes at most".into());
    }
    bad
}

fn shape(m: &Machine, bad: &mut Vec<String>) {
    let mut reached = m.beyond(m.start, "");
    reached.insert(m.start);
    for (name, s) in &m.states {
        for n in m.next(name).iter().filter(|n| !m.states.contains_key(**n)) {
            bad.push(format!("edges: {name} leads to {n}, which is not there"));
        }
        if m.next(name).is_empty() != m.ends(name) {
            bad.push(format!("edges: {name} must either end or lead on"));
        }
        if s["Type"] == "Choice" && s.get("Default").is_none() {
            bad.push(format!("edges: {name} has no Default"));
        }
        if !reached.contains(name) {
            bad.push(format!("reachable: nothing leads to {name}"));
        }
    }
}

fn window(m: &Machine, bad: &mut Vec<String>) {
    for (action, name) in [("admit", "Admit"), ("freeze", "Freeze"), ("snapshot", "Snapshot"), ("thaw", "Thaw"), ("settle", "Settle")] {
        if m.of_action(action) != [name] {
            bad.push(format!("one-state-per-action: {action} is done by {:?}", m.of_action(action)));
        }
    }
    // Everything between Freeze and Thaw: none of it ends, none of it goes round in circles.
    let between = m.beyond("Freeze", "Thaw");
    for s in &between {
        if m.ends(s) {
            bad.push(format!("freeze-reaches-thaw: {s} ends without a thaw"));
        }
        if m.beyond(s, "Thaw").contains(s) {
            bad.push(format!("freeze-reaches-thaw: {s} can go round without a thaw"));
        }
    }
    for s in ["Freeze", "Snapshot"] {
        if m.get(s).get("Retry").is_some() {
            bad.push(format!("no-retry: {s} is sent at most once"));
        }
        let catch = m.get(s)["Catch"].as_array().cloned().unwrap_or_default();
        let all = catch.iter().any(|c| c["ErrorEquals"] == serde_json::json!(["States.ALL"]));
        if !all || catch.iter().any(|c| c["Next"] != "Thaw") {
            bad.push(format!("doubt-thaws: an error of {s} does not lead straight to Thaw"));
        }
        if catch.iter().any(|c| c["ResultPath"] != "$.problem") {
            bad.push(format!("doubt-thaws: an error of {s} overwrites the saga"));
        }
    }
    let thaw = m.get("Thaw");
    let again = thaw["Retry"].as_array().into_iter().flatten().filter(|r| r["ErrorEquals"] == serde_json::json!(["States.ALL"]));
    if !again.into_iter().any(|r| r["MaxAttempts"].as_u64() >= Some(5) && r["IntervalSeconds"].as_u64() <= Some(2)) {
        bad.push("thaw-insists: Thaw gives up too early, or begins again too late".into());
    }
    let catch = thaw["Catch"].as_array().cloned().unwrap_or_default();
    if catch.is_empty() || catch.iter().any(|c| c["Next"] != "LeftFrozen") {
        bad.push("thaw-insists: a thaw that fails is not LeftFrozen".into());
    }
    if m.get("Thawed")["Default"] != "LeftFrozen" {
        bad.push("thaw-insists: a thaw whose answer is not understood is not LeftFrozen".into());
    }
    let mut without = m.beyond(m.start, "Freeze");
    without.insert(m.start);
    for s in ["Snapshot", "Thaw"] {
        if without.contains(s) {
            bad.push(format!("snapshot-needs-freeze: {s} can be reached without Freeze"));
        }
    }
    for s in ["Freeze", "Snapshot"] {
        if m.beyond("Thaw", "").contains(s) {
            bad.push(format!("never-back: {s} can follow a thaw"));
        }
    }
}

fn verdict(m: &Machine, bad: &mut Vec<String>) {
    let good: Vec<&str> = m.states.keys().copied().filter(|s| m.ends(s) && m.get(s)["Type"] != "Fail").collect();
    let (held, completed) = (m.before("Held"), m.before("Completed"));
    if good != ["Held"] || held != BTreeSet::from(["Completed"]) || completed != BTreeSet::from(["Settled"]) {
        bad.push(format!("only-held-succeeds: {good:?} end well, Held follows {held:?}, Completed {completed:?}"));
    }
    let choices = m.get("Settled")["Choices"].as_array().cloned().unwrap_or_default();
    let says = |c: &Value, key: &str, value: Value| {
        c["And"].as_array().into_iter().flatten().any(|a| {
            let same = a.get("BooleanEquals").or_else(|| a.get("StringEquals")) == Some(&value);
            a["Variable"] == key && same
        })
    };
    let sure = |c: &Value| says(c, "$.now.settled", true.into()) && says(c, "$.now.verdict", "held".into());
    if choices.iter().any(|c| c["Next"] == "Completed" && !sure(c)) || m.get("Settled")["Default"] == "Completed" {
        bad.push("only-held-succeeds: Completed without a settled verdict `held`".into());
    }
    let event = |s: &str| m.get(s)["Parameters"]["Entries"][0]["DetailType"].clone();
    for (told, end) in [("NotHeld", "Backup.Broken"), ("Refused", "Backup.Refused"), ("LeftFrozen", "Thaw.LeftFrozen")] {
        let kind = if told == "LeftFrozen" { "Left Frozen" } else { "Backup Failed" };
        if event(told) != kind || m.beyond(told, "") != BTreeSet::from([end]) || m.before(end) != BTreeSet::from([told]) {
            bad.push(format!("failure-is-told: {end} must follow {told} and its event {kind:?}, and nothing else"));
        }
    }
}

/// Lambda ends at 900 s; within that the coordinator ends Freeze and Snapshot by the hold, which it knows. A thaw that hangs is
/// sent again earlier.
fn tasks(m: &Machine, bad: &mut Vec<String>) {
    for (name, s) in m.states.iter().filter(|(_, s)| s["Type"] == "Task") {
        let most = if *name == "Thaw" { 300 } else { 900 };
        if s["TimeoutSeconds"].as_u64().is_none_or(|t| t > most) {
            bad.push(format!("every-task-ends: {name} has no TimeoutSeconds of at most {most}"));
        }
        let mut catches = s["Catch"].as_array().into_iter().flatten();
        if !catches.any(|c| c["ErrorEquals"] == serde_json::json!(["States.ALL"])) {
            bad.push(format!("every-task-ends: {name} does not catch States.ALL"));
        }
    }
}

fn names(m: &Machine, bad: &mut Vec<String>) {
    let known = |e: &str| Code::ALL.iter().any(|c| c.name() == e);
    for (name, s) in &m.states {
        let equals = ["Retry", "Catch"].iter().flat_map(|k| s[*k].as_array().into_iter().flatten()).map(|r| &r["ErrorEquals"]);
        for e in equals.flat_map(|l| l.as_array().into_iter().flatten()).filter_map(Value::as_str) {
            if e != "States.ALL" && !FOREIGN.contains(&e) && !known(e) {
                bad.push(format!("names: {name} waits for {e}, which is nobody's error"));
            }
        }
        if s["Type"] == "Fail" && !s["Error"].as_str().map_or(s["ErrorPath"] == "$.problem.Error", known) {
            bad.push(format!("names: {name} fails with {}, which has no page", s["Error"]));
        }
        if s["Type"] == "Task" && !s["Resource"].as_str().is_some_and(|r| RESOURCES.contains(&r)) {
            bad.push(format!("names: {name} calls {}; what decides is the coordinator", s["Resource"]));
        }
    }
}
