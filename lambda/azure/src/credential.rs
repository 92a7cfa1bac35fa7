//! Tokens for Azure Resource Manager, from where this process runs: a managed identity of Container Apps or Functions, a workload
//! identity, the machine's own identity (IMDS), or a token that a person gives.
//!
//! `azure_identity` knows no user-assigned identity (its `ImdsId::ClientId` is never used), so the four requests are made here.
//! A token is asked for once by all who need it, kept until five minutes before its end, and never shown.

use azure_core::auth::{AccessToken, Secret, TokenCredential};
use azure_core::error::{Error, ErrorKind};
use protocol::Code;
use protocol::wire::Problem;
use serde::Deserialize;
use std::fmt;
use std::time::Duration;
use tokio::sync::Mutex;

/// Whose tokens ARM takes; a sovereign cloud's endpoint is its own audience.
pub const PUBLIC_CLOUD: &str = "https://management.azure.com";
const IMDS: &str = "http://169.254.169.254";
/// Microsoft asks to keep a token and to renew it before it ends ("How to use managed identities … access token").
const RENEW_S: i64 = 300;
/// An identity endpoint answers in well under a second; IMDS may be busy ("retry guidance").
const WITHIN: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;

/// Where a token comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`: App Service, Functions, Container Apps.
    App { endpoint: String, header: String, client: Option<String> },
    /// A federated token in a file: AKS workload identity, GitHub's OIDC.
    Workload { authority: String, tenant: String, client: String, file: String },
    /// The virtual machine's metadata service.
    Imds { host: String, client: Option<String> },
    /// `SNAPFREEZE_AZURE_TOKEN`: what `az account get-access-token` printed.
    Given(String),
}

/// Never with a secret in it.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Source {
    /// By the environment (`get`): what is set first of IDENTITY_ENDPOINT, AZURE_FEDERATED_TOKEN_FILE, SNAPFREEZE_AZURE_TOKEN; else
    /// the machine's own.
    pub fn of(get: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let set = |name: &str| get(name).filter(|v| !v.is_empty());
        let bad = |why: &str| Problem::new(Code::ConfigInvalid, why.to_owned());
        let client = set("AZURE_CLIENT_ID");
        if let Some(endpoint) = set("IDENTITY_ENDPOINT") {
            let header = set("IDENTITY_HEADER").ok_or_else(|| bad("IDENTITY_ENDPOINT is set, IDENTITY_HEADER is not"))?;
            return Ok(Self::App { endpoint, header, client });
        }
        if let Some(file) = set("AZURE_FEDERATED_TOKEN_FILE") {
            let (Some(tenant), Some(client)) = (set("AZURE_TENANT_ID"), client) else {
                return Err(bad("AZURE_FEDERATED_TOKEN_FILE needs AZURE_TENANT_ID and AZURE_CLIENT_ID"));
            };
            let authority = set("AZURE_AUTHORITY_HOST").unwrap_or_else(|| "https://login.microsoftonline.com".into());
            return Ok(Self::Workload { authority, tenant, client, file });
        }
        if let Some(token) = set("SNAPFREEZE_AZURE_TOKEN") {
            return Ok(Self::Given(token));
        }
        Ok(Self::machine(get))
    }

    /// The machine's own identity, whatever else is set.
    pub fn machine(get: impl Fn(&str) -> Option<String>) -> Self {
        let host = get("AZURE_POD_IDENTITY_AUTHORITY_HOST").filter(|h| !h.is_empty()).unwrap_or_else(|| IMDS.into());
        Self::Imds { host, client: get("AZURE_CLIENT_ID").filter(|c| !c.is_empty()) }
    }

    pub const fn name(&self) -> &'static str {
        match self {
            Self::App { .. } => "managed identity",
            Self::Workload { .. } => "workload identity",
            Self::Imds { .. } => "the machine's identity",
            Self::Given(_) => "SNAPFREEZE_AZURE_TOKEN",
        }
    }

    fn next(&self) -> &'static str {
        match self {
            Self::App { .. } => "is the identity assigned to this job, and AZURE_CLIENT_ID its client id?",
            Self::Workload { .. } => "does the identity trust this token's issuer and subject?",
            Self::Imds { .. } => {
                "no identity here? in a shell: export SNAPFREEZE_AZURE_TOKEN=$(az account get-access-token --query accessToken -o tsv)"
            }
            Self::Given(_) => "export SNAPFREEZE_AZURE_TOKEN=$(az account get-access-token --query accessToken -o tsv)",
        }
    }
}

/// The tokens of one audience.
pub struct Tokens {
    source: Source,
    /// `https://management.azure.com`, without a slash at the end.
    audience: String,
    http: reqwest::Client,
    kept: Mutex<Option<AccessToken>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens of {:?} for {}", self.source, self.audience)
    }
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// Unix seconds; a number or, from App Service and IMDS, a text.
    expires_on: Option<serde_json::Value>,
    /// Seconds from now, where there is no `expires_on`.
    expires_in: Option<serde_json::Value>,
}

impl Tokens {
    /// `http`: without a proxy, for IMDS must not be asked through one.
    pub fn new(source: Source, audience: &str, http: reqwest::Client) -> Self {
        Self { source, audience: audience.trim_end_matches('/').to_owned(), http, kept: Mutex::default() }
    }

    /// A token that is good for a while. Errors say what to look at, never what was answered.
    pub async fn token(&self) -> Result<Secret, Problem> {
        let mut kept = self.kept.lock().await;
        let now = time::OffsetDateTime::now_utc();
        if let Some(t) = kept.as_ref().filter(|t| t.expires_on > now + time::Duration::seconds(RENEW_S)) {
            return Ok(t.token.clone());
        }
        let fresh = match self.ask_again(now).await {
            Ok(t) => t,
            // One that is about to end is better than none.
            Err(p) => return kept.as_ref().filter(|t| t.expires_on > now + time::Duration::seconds(10)).map(|t| t.token.clone()).ok_or(p),
        };
        let token = fresh.token.clone();
        *kept = Some(fresh);
        Ok(token)
    }

    async fn ask_again(&self, now: time::OffsetDateTime) -> Result<AccessToken, Problem> {
        let mut tries = 1;
        loop {
            let (why, again) = match self.ask(now).await {
                Ok(t) => return Ok(t),
                Err(e) => e,
            };
            if !again || tries >= TRIES {
                let detail = format!("no token by {}: {why}", self.source.name());
                return Err(Problem::new(Code::CloudRefused, detail).next(self.source.next()));
            }
            tokio::time::sleep(Duration::from_millis(500 << tries)).await;
            tries += 1;
        }
    }

    /// The error, and whether asking again may help.
    async fn ask(&self, now: time::OffsetDateTime) -> Result<AccessToken, (String, bool)> {
        let resource = self.audience.as_str();
        let named = |client: &Option<String>| client.iter().map(|c| ("client_id", c.clone())).collect::<Vec<_>>();
        let request = match &self.source {
            Source::Given(token) => return Ok(AccessToken::new(token.clone(), now + time::Duration::minutes(30))),
            Source::App { endpoint, header, client } => self
                .http
                .get(endpoint)
                .query(&[("resource", resource), ("api-version", "2019-08-01")])
                .query(&named(client))
                .header("X-IDENTITY-HEADER", header),
            Source::Imds { host, client } => self
                .http
                .get(format!("{}/metadata/identity/oauth2/token", host.trim_end_matches('/')))
                .query(&[("resource", resource), ("api-version", "2018-02-01")])
                .query(&named(client))
                .header("Metadata", "true"),
            Source::Workload { authority, tenant, client, file } => {
                let assertion = tokio::fs::read_to_string(file).await.map_err(|e| (format!("{file}: {e}"), false))?;
                self.http.post(format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/'))).form(&[
                    ("grant_type", "client_credentials"),
                    ("client_id", client),
                    ("scope", &format!("{resource}/.default")),
                    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                    ("client_assertion", assertion.trim()),
                ])
            }
        };
        // `without_url`: nothing of a query, and no header, is in an error.
        let answer = request.timeout(WITHIN).send().await.map_err(|e| (e.without_url().to_string(), true))?;
        let status = answer.status();
        if !status.is_success() {
            let again = matches!(status.as_u16(), 404 | 410 | 429 | 500..=599);
            return Err((format!("answered {status}"), again));
        }
        let a: Answer = answer.json().await.map_err(|e| (e.without_url().to_string(), false))?;
        let number = |v: &Option<serde_json::Value>| v.as_ref().and_then(|v| v.as_i64().or_else(|| v.as_str()?.parse().ok()));
        let ends = match (number(&a.expires_on), number(&a.expires_in)) {
            (Some(at), _) => time::OffsetDateTime::from_unix_timestamp(at).map_err(|e| (e.to_string(), false))?,
            (None, Some(s)) => now + time::Duration::seconds(s),
            (None, None) => return Err(("the answer does not say when the token ends".into(), false)),
        };
        Ok(AccessToken::new(a.access_token, ends))
    }
}

#[async_trait::async_trait]
impl TokenCredential for Tokens {
    async fn get_token(&self, _scopes: &[&str]) -> azure_core::Result<AccessToken> {
        let far = time::OffsetDateTime::now_utc() + time::Duration::minutes(5);
        match self.token().await {
            Ok(token) => Ok(AccessToken::new(token, far)),
            Err(p) => Err(Error::message(ErrorKind::Credential, format!("{}\n{}", p.detail, p.next))),
        }
    }

    async fn clear_cache(&self) -> azure_core::Result<()> {
        *self.kept.lock().await = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)]) -> Result<Source, Problem> {
        Source::of(|n| set.iter().find(|(k, _)| *k == n).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn the_environment_says_whose_identity_it_is() {
        let app = [("IDENTITY_ENDPOINT", "http://x"), ("IDENTITY_HEADER", "h"), ("AZURE_CLIENT_ID", "c"), ("SNAPFREEZE_AZURE_TOKEN", "t")];
        assert!(matches!(of(&app).unwrap(), Source::App { client: Some(c), .. } if c == "c"));
        assert!(of(&app[..1]).is_err(), "half of it is a mistake, not another identity");
        assert!(matches!(of(&app[3..]).unwrap(), Source::Given(_)));
        assert!(of(&[("AZURE_FEDERATED_TOKEN_FILE", "f"), ("AZURE_CLIENT_ID", "c")]).is_err());
        assert!(matches!(of(&[]).unwrap(), Source::Imds { host, client: None } if host == IMDS));
        assert!(
            matches!(of(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")]).unwrap(), Source::Imds { host, .. } if host.ends_with(":1"))
        );
    }

    #[test]
    fn nothing_secret_is_shown() {
        let source = of(&[("SNAPFREEZE_AZURE_TOKEN", "s3cret")]).unwrap();
        let tokens = Tokens::new(source, PUBLIC_CLOUD, reqwest::Client::new());
        assert!(!format!("{tokens:?}").contains("s3cret"), "{tokens:?}");
    }
}
