//! Who asks, and what they may: tokens of managed identities, and roles as lists of actions.

use super::id;
use super::sim::Sim;
use super::wire::{Ask, Fail, json_reply};
use crate::clock::wall_ms;
use crate::wire::Reply;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A service principal. Without `actions` it may do everything; with `only_vm` nothing beyond that VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmPrincipal {
    pub name: String,
    /// Of a user-assigned identity.
    #[serde(default)]
    pub client_id: Option<String>,
    /// `Microsoft.Compute/snapshots/write`, `Microsoft.Compute/snapshots/*`, `*`; without regard to case.
    #[serde(default)]
    pub actions: Option<Vec<String>>,
    /// A VM's id: only this VM, its disks, and snapshots of them.
    #[serde(default)]
    pub only_vm: Option<String>,
}

impl ArmPrincipal {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
    pub fn client_id(mut self, id: &str) -> Self {
        self.client_id = Some(id.into());
        self
    }
    pub fn actions<S: AsRef<str>>(mut self, actions: &[S]) -> Self {
        self.actions = Some(actions.iter().map(|a| a.as_ref().to_owned()).collect());
        self
    }

    fn may(&self, action: &str) -> bool {
        let action = action.to_ascii_lowercase();
        self.actions.as_ref().is_none_or(|all| all.iter().any(|a| covers(&a.to_ascii_lowercase(), &action)))
    }
}

/// `*` stands for any text, as in a role's definition.
fn covers(pattern: &str, action: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == action,
        Some((before, after)) => {
            action.strip_prefix(before).is_some_and(|rest| (0..=rest.len()).any(|n| rest.is_char_boundary(n) && covers(after, &rest[n..])))
        }
    }
}

/// The bearer of a request.
#[derive(Clone, Debug)]
pub struct Who {
    pub name: String,
    bad: Option<&'static str>,
}

struct Token {
    principal: String,
    audience: String,
    expires_s: i64,
}

#[derive(Default)]
pub struct Identities {
    principals: BTreeMap<String, ArmPrincipal>,
    tokens: BTreeMap<String, Token>,
    given: u64,
}

/// The system-assigned identity of the place where the coordinator runs.
pub const SYSTEM: &str = "system";
/// `IDENTITY_HEADER`.
pub const SECRET: &str = "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a";

/// The name of a VM's own system-assigned identity.
pub fn of_vm(vm: &str) -> String {
    format!("vm:{}", id::key(vm))
}

impl Identities {
    pub fn add(&mut self, principal: ArmPrincipal) {
        self.principals.insert(principal.name.clone(), principal);
    }

    fn by_client(&self, client: &str) -> Option<String> {
        let is = |p: &&ArmPrincipal| p.client_id.as_deref().is_some_and(|c| c.eq_ignore_ascii_case(client));
        self.principals.values().find(is).map(|p| p.name.clone())
    }
}

fn uuid_of(text: &str) -> String {
    let hex = format!("{:x}", Sha256::digest(text.as_bytes()));
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

impl Sim {
    pub fn who(&self, bearer: &str) -> Who {
        let identities = self.identities();
        let named = |name: &str, bad| Who { name: name.into(), bad };
        match identities.tokens.get(bearer) {
            Some(t) if t.expires_s * 1000 <= wall_ms() => named(&t.principal, Some("ExpiredAuthenticationToken")),
            Some(t) if !ours(&t.audience) => named(&t.principal, Some("InvalidAuthenticationTokenAudience")),
            Some(t) => named(&t.principal, None),
            None if self.config.any_token && !bearer.is_empty() => named("(foreign token)", None),
            None => named("(foreign token)", Some("InvalidAuthenticationToken")),
        }
    }

    /// A bearer of this principal, for the audience of ARM. It may be one that nobody added: then it may do everything.
    pub fn mint(&self, principal: &str, audience: &str) -> (String, i64) {
        let (tenant, now) = (&self.config.tenant, wall_ms() / 1000);
        let expires_s = now + self.config.token_lifetime_s as i64;
        let mut identities = self.identities();
        identities.given += 1;
        let claims = json!({
            "aud": audience, "iss": format!("https://sts.windows.net/{tenant}/"), "iat": now, "nbf": now, "exp": expires_s,
            "appid": uuid_of(&format!("app {principal}")), "oid": uuid_of(principal), "sub": uuid_of(principal), "tid": tenant,
            "idtyp": "app", "uti": identities.given.to_string(), "ver": "1.0",
            "xms_mirid": principal.strip_prefix("vm:").unwrap_or("/subscriptions/none"),
        });
        let head = json!({ "typ": "JWT", "alg": "RS256", "kid": "double" });
        let token =
            format!("{}.{}.{}", base64(head.to_string().as_bytes()), base64(claims.to_string().as_bytes()), base64(b"not a signature"));
        identities.tokens.insert(token.clone(), Token { principal: principal.into(), audience: audience.into(), expires_s });
        (token, expires_s)
    }
}

/// Loopback stands for ARM itself: a client's scope is made of the endpoint it was given.
fn ours(audience: &str) -> bool {
    let host = audience.split_once("://").map_or("", |(_, h)| h).split(['/', ':']).next().unwrap_or_default();
    ["management.azure.com", "management.core.windows.net", "127.0.0.1", "localhost"].contains(&host)
}

/// base64url without padding.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            out.push(DIGITS[(n >> (18 - 6 * digit) & 63) as usize] as char);
        }
    }
    out
}

pub fn no_token() -> Fail {
    Fail::new(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
}

/// Authentication, then the role, then ARM's own buckets.
pub fn check(sim: &Sim, ask: &Ask) -> Result<(), Fail> {
    let who = ask.who.as_ref().ok_or_else(no_token)?;
    if let Some(code) = who.bad {
        return Err(Fail::new(401, code, "The access token is not valid for this request."));
    }
    let principal = sim.identities().principals.get(&who.name).cloned();
    let Some(principal) = principal else { return Ok(()) };
    if ask.action == "-" {
        return Ok(()); // Who is asking may be asked by everybody.
    }
    if !principal.may(ask.action) {
        return Err(refused(&principal.name, ask.action, &ask.id()));
    }
    if let Some(vm) = &principal.only_vm
        && !within(sim, ask, vm)
    {
        return Err(refused(&principal.name, ask.action, &ask.id()));
    }
    Ok(())
}

/// A right that the call needs on something else than what it names: a snapshot's source disk.
pub fn check_linked(sim: &Sim, ask: &Ask, action: &str, scope: &str) -> Result<(), Fail> {
    let Some(who) = &ask.who else { return Err(no_token()) };
    let Some(principal) = sim.identities().principals.get(&who.name).cloned() else { return Ok(()) };
    let own = principal.only_vm.as_ref().is_none_or(|vm| {
        let world = sim.world();
        id::key(scope) == id::key(vm) || world.disks.get(&id::key(scope)).is_some_and(|d| id::key(&d.vm) == id::key(vm))
    });
    if principal.may(action) && own {
        return Ok(());
    }
    let what = format!(
        "The client '{}' with object id '{}' has permission to perform action '{}' on scope '{}'; however, it does not have permission to perform action(s) '{action}' on the linked scope(s) '{scope}' or the linked scope(s) are invalid.",
        principal.name,
        uuid_of(&principal.name),
        ask.action,
        ask.id()
    );
    Err(Fail::new(403, "LinkedAuthorizationFailed", what))
}

fn refused(name: &str, action: &str, scope: &str) -> Fail {
    let object = uuid_of(name);
    let what = format!(
        "The client '{name}' with object id '{object}' does not have authorization to perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials."
    );
    Fail::new(403, "AuthorizationFailed", what)
}

/// A VM's own identity: itself, its disks, snapshots of them; lists and operations.
fn within(sim: &Sim, ask: &Ask, vm: &str) -> bool {
    let (world, t) = (sim.world(), ask.target());
    let own_disk = |disk: &str| world.disks.get(&id::key(disk)).is_some_and(|d| id::key(&d.vm) == id::key(vm));
    match t.kind.as_str() {
        "virtualmachines" if t.name.is_some() => id::key(&ask.id()).starts_with(&id::key(vm)) && t.child.is_none(),
        "disks" if t.name.is_some() => own_disk(&ask.id()),
        // A PUT's source is the linked scope.
        "snapshots" if t.name.is_some() => world.snapshots.get(&id::key(&ask.id())).is_none_or(|s| own_disk(&s.disk_id)),
        "snapshots" | "locations" => true,
        _ => false,
    }
}

fn answer(token: &(String, i64), resource: &str, client: Option<&str>) -> Value {
    json!({
        "access_token": token.0, "expires_on": token.1.to_string(), "not_before": (wall_ms() / 1000).to_string(),
        "resource": resource, "token_type": "Bearer", "client_id": client.unwrap_or(SYSTEM),
    })
}

/// App Service, Functions, Container Apps: `IDENTITY_ENDPOINT`; and the token endpoint of a federated credential.
pub fn token(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    if ask.method == "POST" {
        return federated(sim, ask);
    }
    if ask.header("x-identity-header") != Some(SECRET) {
        return Err(Fail::new(401, "Unauthorized", "X-IDENTITY-HEADER is missing or wrong"));
    }
    let Some(resource) = ask.param("resource").filter(|r| !r.is_empty()) else {
        return Err(Fail::bad("BadRequest", "A resource parameter is required"));
    };
    if ask.param("api-version").is_none() {
        return Err(Fail::bad("BadRequest", "An api-version parameter is required"));
    }
    let client = ask.param("client_id");
    let name = match &client {
        None => SYSTEM.to_owned(),
        Some(id) => sim.identities().by_client(id).ok_or_else(|| {
            Fail::bad("BadRequest", "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.")
        })?,
    };
    Ok(json_reply(200, &answer(&sim.mint(&name, &resource), &resource, client.as_deref())))
}

fn federated(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let field = |name: &str| ask.body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let bad = |code: &str, what: &str| {
        let body = json!({ "error": code, "error_description": what });
        Ok(json_reply(if code == "invalid_client" { 401 } else { 400 }, &body).failed(code))
    };
    let bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    if field("grant_type") != "client_credentials" || field("client_assertion_type") != bearer {
        return bad("invalid_request", "AADSTS900144: grant_type and client_assertion_type are required");
    }
    if field("client_assertion").is_empty() {
        return bad("invalid_client", "AADSTS7000215: no assertion");
    }
    let Some(name) = sim.identities().by_client(&field("client_id")) else {
        return bad("unauthorized_client", "AADSTS700016: no such application");
    };
    let scope = field("scope");
    let token = sim.mint(&name, scope.trim_end_matches(".default"));
    let left = sim.config.token_lifetime_s;
    Ok(json_reply(200, &json!({ "token_type": "Bearer", "expires_in": left, "ext_expires_in": left, "access_token": token.0 })))
}

/// IMDS: needs `Metadata: true`; system-assigned without `client_id`.
pub fn from_imds(sim: &Sim, ask: &Ask, vm: &str) -> Result<Reply, Fail> {
    let bad = |error: &str, what: &str| Ok(json_reply(400, &json!({ "error": error, "error_description": what })).failed(error));
    if !ask.header("metadata").is_some_and(|m| m.eq_ignore_ascii_case("true")) || ask.header("x-forwarded-for").is_some() {
        return bad("bad_request_102", "Required metadata header not specified");
    }
    let Some(resource) = ask.param("resource").filter(|r| !r.is_empty() && ask.param("api-version").is_some()) else {
        return bad("invalid_request", "Required query variable 'resource' or 'api-version' is missing");
    };
    let client = ask.param("client_id");
    let name = match &client {
        None => of_vm(vm),
        Some(id) => match sim.identities().by_client(id) {
            Some(name) => name,
            None => return bad("invalid_request", "Identity not found"),
        },
    };
    let token = sim.mint(&name, &resource);
    let mut body = answer(&token, &resource, client.as_deref());
    body["expires_in"] = json!((token.1 - wall_ms() / 1000).to_string());
    Ok(json_reply(200, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_covers_its_actions_and_no_other() {
        let p = ArmPrincipal::new("x").actions(&["Microsoft.Compute/snapshots/*", "Microsoft.Compute/*/read"]);
        for yes in
            ["microsoft.compute/snapshots/WRITE", "Microsoft.Compute/disks/read", "Microsoft.Compute/virtualMachines/runCommands/read"]
        {
            assert!(p.may(yes), "{yes}");
        }
        for no in ["Microsoft.Compute/disks/write", "Microsoft.Compute/snapshotsX/delete", "Microsoft.Network/x/read"] {
            assert!(!p.may(no), "{no}");
        }
        assert!(ArmPrincipal::new("all").may("anything"));
    }

    #[test]
    fn base64url_as_rfc_4648_has_it() {
        for (plain, coded) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("\u{3f}\u{3e}~", "Pz5-")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
