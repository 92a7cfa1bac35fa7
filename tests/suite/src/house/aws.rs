//! The AWS templates (`infra/aws`) as values: resources, rights, parameters of documents. CloudFormation's short forms (`!Ref X`,
//! `!Sub "…"`) read as their plain argument.

use super::rules::read;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Every template of `infra/aws`.
pub const TEMPLATES: [&str; 5] = ["template.yaml", "policy.yaml", "documents.yaml", "instance.yaml", "dlm.yaml"];

/// A template by its file name.
pub fn template(name: &str) -> Value {
    yaml(&read(&format!("infra/aws/{name}")))
}

pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("no YAML: {e}"))
}

/// `(logical id, resource)` of this type.
pub fn of_type<'a>(template: &'a Value, kind: &str) -> Vec<(&'a str, &'a Value)> {
    let all = template["Resources"].as_object().into_iter().flatten();
    all.filter(|(_, r)| r["Type"] == kind).map(|(id, r)| (id.as_str(), r)).collect()
}

/// A statement of a policy, with the conditions under which it is there (`Copies`, `HasTracing`, …).
#[derive(Clone, Debug)]
pub struct Statement {
    pub sid: String,
    /// The template's condition; empty: always there.
    pub only_if: String,
    pub actions: BTreeSet<String>,
    pub resources: Vec<String>,
    /// As JSON.
    pub condition: Value,
}

/// Whose rights: the logical id of a role or managed policy, in any template.
pub fn statements(role: &str) -> Vec<Statement> {
    let holder = TEMPLATES.iter().map(|t| template(t)).find_map(|t| t["Resources"].get(role).cloned());
    let holder = holder.unwrap_or_else(|| panic!("no template has {role}"));
    of_policy(&holder["Properties"])
}

/// Of a role's or managed policy's properties.
pub fn of_policy(properties: &Value) -> Vec<Statement> {
    let inline = properties["Policies"].as_array().into_iter().flatten().map(|p| &p["PolicyDocument"]);
    let documents = inline.chain(properties.get("PolicyDocument"));
    documents.flat_map(|d| d["Statement"].as_array().into_iter().flatten()).map(statement).collect()
}

/// `!If [Condition, statement, !Ref AWS::NoValue]` reads as a list of three.
fn statement(v: &Value) -> Statement {
    let (only_if, s) = match v.as_array() {
        Some(three) => (three[0].as_str().unwrap_or_default(), &three[1]),
        None => ("", v),
    };
    assert_eq!(s["Effect"], "Allow", "{s}");
    Statement {
        sid: s["Sid"].as_str().unwrap_or_default().to_owned(),
        only_if: only_if.to_owned(),
        actions: one_or_many(&s["Action"]).into_iter().collect(),
        resources: one_or_many(&s["Resource"]),
        condition: s["Condition"].clone(),
    }
}

fn one_or_many(v: &Value) -> Vec<String> {
    let many = v.as_array().into_iter().flatten();
    many.chain(v.is_string().then_some(v)).filter_map(|a| a.as_str().map(str::to_owned)).collect()
}

/// The actions that a role or managed policy allows, such as `ec2:CreateSnapshots`: those of every condition together.
pub fn iam_actions(role: &str) -> BTreeSet<String> {
    statements(role).into_iter().flat_map(|s| s.actions).collect()
}

/// Who holds rights: `(logical id, whose they are)`.
pub const HOLDERS: [(&str, &str); 4] = [
    ("CoordinatorRole", "the Lambda `snapfreeze-coordinator`"),
    ("BackupRole", "the state machine `snapfreeze-backup`"),
    ("SchedulerRole", "the schedules"),
    ("OwnSnapshots", "an instance that holds its own window (`snapfreeze-ebs`)"),
];

/// `infra/aws/actions.md`: every right in one table per holder.
pub fn actions_page() -> String {
    let mut page = String::from(
        "# Rights\n\nMade by `UPDATE=1 make test` from the templates. A condition in brackets is a parameter of the stack; what it names is off unless set.\n",
    );
    for (role, whose) in HOLDERS {
        page += &format!("\n## {role}: {whose}\n\n| action | on | only if |\n|---|---|---|\n");
        for s in statements(role) {
            let on: Vec<&str> = s.resources.iter().map(|r| r.strip_prefix("arn:${AWS::Partition}:").unwrap_or(r)).collect();
            let when = if s.only_if.is_empty() { String::new() } else { format!(" [{}]", s.only_if) };
            for a in &s.actions {
                page += &format!("| {a}{when} | `{}` | {} |\n", on.join("` `"), conditions(&s.condition));
            }
        }
    }
    page
}

fn conditions(c: &Value) -> String {
    let all = c.as_object().into_iter().flatten().flat_map(|(op, tests)| {
        let tests = tests.as_object().into_iter().flatten();
        tests.map(move |(key, value)| match (op.as_str(), value.as_str()) {
            ("Null", Some("false")) => format!("`{key}` is there"),
            (_, Some(v)) => format!("{op} `{key}` = `{v}`"),
            _ => format!("{op} `{key}` = `{value}`"),
        })
    });
    all.collect::<Vec<_>>().join(" and ")
}

/// Findings about rights: nothing by wildcard, and what changes something is bound to a resource of ours or a condition.
pub fn too_much(statements: &[Statement]) -> Vec<String> {
    let looks = |a: &str| {
        let verb = a.split(':').nth(1).unwrap_or(a);
        ["Describe", "Get", "List"].iter().any(|v| verb.starts_with(v))
    };
    // They know no resources.
    let free = |a: &str| {
        a == "ssm:CancelCommand"
            || a.starts_with("xray:Put")
            || (a.starts_with("logs:") && a != "logs:PutLogEvents" && a != "logs:CreateLogStream")
    };
    let mut bad = Vec::new();
    for s in statements {
        for a in &s.actions {
            if a.contains('*') {
                bad.push(format!("{}: {a} is a wildcard", s.sid));
            }
            let anything = s.resources.iter().any(|r| r == "*");
            if anything && !looks(a) && !free(a) {
                bad.push(format!("{}: {a} on everything", s.sid));
            }
            let tagged = s.condition.is_object() || s.resources.iter().all(|r| r.contains("volume/*"));
            let copies = a == "ec2:CopySnapshot" && s.only_if == "HasCopies";
            if a.starts_with("ec2:") && !looks(a) && !tagged && !copies {
                bad.push(format!("{}: {a} without a condition", s.sid));
            }
        }
    }
    bad
}

/// One SSM document of `documents.yaml`.
#[derive(Clone, Debug)]
pub struct Document {
    pub name: String,
    pub tags: Value,
    pub parameters: Map<String, Value>,
    pub steps: Vec<Value>,
}

impl Document {
    /// The lines of its only step's script.
    pub fn script(&self) -> Vec<String> {
        one_or_many(&self.steps[0]["inputs"]["runCommand"])
    }
}

pub fn documents() -> BTreeMap<String, Document> {
    let template = template("documents.yaml");
    let all = of_type(&template, "AWS::SSM::Document").into_iter().map(|(_, r)| {
        let (p, c) = (&r["Properties"], &r["Properties"]["Content"]);
        assert_eq!(c["schemaVersion"], "2.2");
        let name = p["Name"].as_str().expect("a name").to_owned();
        let parameters = c["parameters"].as_object().cloned().unwrap_or_default();
        let steps = c["mainSteps"].as_array().cloned().unwrap_or_default();
        (name.clone(), Document { name, tags: p["Tags"].clone(), parameters, steps })
    });
    all.collect()
}
