//! What `az cloud register` and `az login --identity` ask before any work.

use super::sim::Sim;
use super::wire::{Ask, Fail, json_reply};
use crate::wire::Reply;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub fn endpoints(sim: &Sim, ask: &Ask) -> Reply {
    let at = |path: &str| format!("{}{path}", ask.base);
    let value = json!({
        "portal": at("/portal"), "name": "double", "graph": at("/graph"), "graphAudience": at("/graph"),
        "authentication": {
            "loginEndpoint": at("/login"), "tenant": sim.config.tenant, "identityProvider": "AAD",
            "audiences": ["https://management.core.windows.net/", "https://management.azure.com/"],
        },
        "resourceManager": ask.base, "media": at("/media"), "batch": at("/batch"), "sqlManagement": at("/sql"),
        "gallery": at("/gallery"), "vmImageAliasDoc": at("/images"), "activeDirectoryDataLake": at("/lake"),
        "suffixes": {
            "storage": "core.double.invalid", "keyVaultDns": "vault.double.invalid", "sqlServerHostname": "db.double.invalid",
            "acrLoginServer": "cr.double.invalid", "azureDataLakeStoreFileSystem": "", "azureDataLakeAnalyticsCatalogAndJob": "",
        },
    });
    json_reply(200, &value)
}

pub fn tenants(sim: &Sim) -> Reply {
    let tenant = &sim.config.tenant;
    json_reply(200, &json!({ "value": [{ "id": format!("/tenants/{tenant}"), "tenantId": tenant, "displayName": "double" }] }))
}

pub fn subscriptions(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let all: BTreeSet<String> = sim.world().groups.keys().map(|(s, _)| s.clone()).collect();
    let one = |id: &String| -> Value {
        json!({
            "id": format!("/subscriptions/{id}"), "subscriptionId": id, "displayName": format!("subscription {id}"), "state": "Enabled",
            "tenantId": sim.config.tenant, "authorizationSource": "RoleBased", "subscriptionPolicies": { "spendingLimit": "Off" },
        })
    };
    let Some(target) = &ask.target else {
        return Ok(json_reply(200, &json!({ "value": all.iter().map(one).collect::<Vec<_>>() })));
    };
    let id = target.subscription.to_ascii_lowercase();
    match all.get(&id) {
        Some(id) => Ok(json_reply(200, &one(id))),
        None => Err(Fail::new(404, "SubscriptionNotFound", format!("The subscription '{id}' could not be found."))),
    }
}
