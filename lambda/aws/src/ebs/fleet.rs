//! Which instances a policy selects. Stopped ones are returned: silently skipping one would be a backup that nobody misses.

use super::{FILTER_VALUES, filter, list, tag_map};
use crate::client::Clients;
use aws_sdk_ec2::types::{Filter, Instance};
use coordinator::Target;
use coordinator::policy::Select;
use coordinator::ports::Candidate;
use protocol::Code;
use protocol::wire::Problem;
use std::collections::BTreeMap;

/// Everything but shutting-down and terminated, which EC2 lists for an hour more.
const THERE: [&str; 4] = ["pending", "running", "stopping", "stopped"];

pub(super) async fn select(clients: &Clients, select: &Select) -> Result<Vec<Candidate>, Problem> {
    let mut found = BTreeMap::new();
    for ids in select.ids.chunks(FILTER_VALUES) {
        let all = list::instances(&clients.patient, vec![filter("instance-id", ids.iter().cloned()), there()]).await?;
        found.extend(all.iter().filter_map(candidate).map(|c| (c.target.id.clone(), c)));
    }
    let unknown: Vec<&str> = select.ids.iter().filter(|id| !found.contains_key(*id)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let detail = format!("no such instance in {}: {}", clients.region(), unknown.join(", "));
        return Err(Problem::new(Code::CloudRefused, detail).next("correct select.ids, or the region"));
    }
    if !select.tags.is_empty() {
        let mut filters: Vec<Filter> = select.tags.iter().map(|(k, v)| filter(format!("tag:{k}"), [literal(v)])).collect();
        filters.push(there());
        let all = list::instances(&clients.patient, filters).await?;
        let agrees = |c: &Candidate| select.tags.iter().all(|(k, v)| c.tags.get(k) == Some(v));
        found.extend(all.iter().filter_map(candidate).filter(agrees).map(|c| (c.target.id.clone(), c)));
    }
    // None by tag is an answer: a backup refuses it (`ops::orders`), and `watch` must still count the sets of a removed tag.
    Ok(found.into_values().collect())
}

fn there() -> Filter {
    filter("instance-state-name", THERE.map(Into::into))
}

/// In a filter's value `*` and `?` match anything, and `\` takes that away (EC2 User Guide, "Filtering considerations").
fn literal(value: &str) -> String {
    value.replace('\\', "\\\\").replace('*', "\\*").replace('?', "\\?")
}

fn candidate(i: &Instance) -> Option<Candidate> {
    let tags = tag_map(i.tags());
    let target = Target { id: i.instance_id()?.to_owned(), name: tags.get("Name").cloned().unwrap_or_default() };
    let volumes = i.block_device_mappings().iter().filter_map(|m| m.ebs()?.volume_id().map(Into::into)).collect();
    Some(Candidate { target, tags, volumes })
}
