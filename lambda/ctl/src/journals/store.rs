//! A bucket or container, by `object_store`, which retries by itself. Credentials as the environment and the machine give them.

use super::{Remote, failed, known, plain};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, parse_url_opts};
use protocol::Code;
use protocol::shipped::INDEX;
use protocol::wire::Problem;
use std::sync::Arc;

pub struct Store {
    at: String,
    to: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Store {
    /// `s3://bucket/prefix`, `az://container/prefix` (with AZURE_STORAGE_ACCOUNT_NAME), `https://ACCOUNT.blob.core.windows.net/container/prefix`.
    pub fn open(at: &str) -> Result<Self, Problem> {
        let bad = |why: String| {
            Problem::new(Code::UsageInvalid, format!("{at:?}: {why}"))
                .next("use a form such as s3://bucket/prefix or az://container/prefix")
        };
        let url: url::Url = at.parse().map_err(|e| bad(format!("{e}")))?;
        if !["s3", "s3a", "az", "azure", "abfs", "abfss", "https"].contains(&url.scheme()) {
            return Err(bad("neither S3 nor Blob".into()));
        }
        let mut options: Vec<(String, String)> = std::env::vars().map(|(k, v)| (k.to_lowercase(), v)).collect();
        let given = |k: &str| options.iter().find(|(n, _)| n == k).map(|(_, v)| v.clone()).filter(|v| !v.is_empty());
        let endpoint = given("aws_endpoint_url_s3").or_else(|| given("aws_endpoint_url"));
        // Plain HTTP to this machine alone: an emulator.
        let local = |u: &String| ["http://127.0.0.1:", "http://localhost:"].iter().any(|h| u.starts_with(h));
        options.retain(|(k, _)| k != "aws_allow_http" && k != "azure_storage_allow_http" && k != "allow_http");
        if let Some(e) = endpoint {
            options.push(("aws_endpoint".into(), e));
        }
        let plain = options
            .iter()
            .filter(|(k, _)| ["aws_endpoint", "azure_storage_endpoint", "azure_endpoint"].contains(&k.as_str()))
            .any(|(_, v)| local(v));
        if plain {
            options.push(("allow_http".into(), "true".into()));
        }
        let (to, prefix) = parse_url_opts(&url, options).map_err(|e| bad(e.to_string()))?;
        Ok(Self { at: at.trim_end_matches('/').into(), to: Arc::from(to), prefix })
    }

    fn path(&self, instance: &str, rest: &str) -> Path {
        Path::from(format!("{}/{instance}/{rest}", self.prefix))
    }

    fn problem(&self, doing: &str, e: &object_store::Error) -> Problem {
        let next = match e {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                "may these credentials read and write there?"
            }
            _ => "look at the bucket and the network, then run it again: it goes on where it was",
        };
        failed(format!("could not {doing} in {}: {e}", self.at)).next(next)
    }

    pub async fn instances(&self) -> Result<Vec<String>, Problem> {
        let listed = self.to.list_with_delimiter(Some(&self.prefix)).await.map_err(|e| self.problem("list", &e))?;
        Ok(listed.common_prefixes.iter().filter_map(|p| p.filename().map(Into::into)).collect())
    }

    /// `None`: nothing was pushed yet.
    pub async fn index(&self, instance: &str) -> Result<Option<Remote>, Problem> {
        let bytes = match self.get(instance, INDEX).await? {
            Some(b) => b,
            None => return Ok(None),
        };
        let remote: Remote =
            serde_json::from_slice(&bytes).map_err(|e| failed(format!("{}/{instance}/{INDEX} is damaged: {e}", self.at)))?;
        known(&remote.index)?;
        remote.index.files.keys().try_for_each(|n| plain(n).map(|_| ()))?;
        Ok(Some(remote))
    }

    pub async fn get(&self, instance: &str, rest: &str) -> Result<Option<Vec<u8>>, Problem> {
        match self.to.get(&self.path(instance, rest)).await {
            Ok(found) => found.bytes().await.map(|b| Some(b.to_vec())).map_err(|e| self.problem("read", &e)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.problem("read", &e)),
        }
    }

    /// The same again is the same.
    pub async fn put(&self, instance: &str, rest: &str, bytes: Vec<u8>) -> Result<(), Problem> {
        self.to.put(&self.path(instance, rest), bytes.into()).await.map(|_| ()).map_err(|e| self.problem("write", &e))
    }
}

/// Of a piece below its instance.
pub fn piece(file: &str, n: usize) -> String {
    format!("{file}/{n:08}")
}
