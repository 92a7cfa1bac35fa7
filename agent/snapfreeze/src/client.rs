//! The command line's side of the agent API.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::Code;
use protocol::wire::Problem;
use serde::{Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// More than any reply of ours.
const MAX_REPLY: usize = 4 << 20;
const CONNECT: Duration = Duration::from_secs(5);

pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.into() }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str, within: Duration) -> Result<T, Problem> {
        self.call(Method::GET, path, Bytes::new(), within).await
    }

    /// A reply that is no JSON.
    pub async fn text(&self, path: &str, within: Duration) -> Result<String, Problem> {
        let (status, bytes) = self.exchange(Method::GET, path, Bytes::new(), within).await?;
        match status.is_success() {
            true => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            false => Err(Problem::new(Code::Internal, format!("{path}: {status}"))),
        }
    }

    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B, within: Duration) -> Result<T, Problem> {
        let body = serde_json::to_vec(body).map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
        self.call(Method::POST, path, body.into(), within).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes, within: Duration) -> Result<T, Problem> {
        let (status, bytes) = self.exchange(method, path, body, within).await?;
        reply(status, &bytes)
    }

    /// `Agent.Unreachable` means that no request was sent; a reply that did not come is `Internal`, and the caller asks again.
    async fn exchange(&self, method: Method, path: &str, body: Bytes, within: Duration) -> Result<(StatusCode, Bytes), Problem> {
        let stream = match tokio::time::timeout(CONNECT, UnixStream::connect(&self.socket)).await {
            Ok(Ok(s)) => s,
            Ok(Err(e)) => return Err(self.unreachable(&e.to_string())),
            Err(_) => return Err(self.unreachable("no answer")),
        };
        let lost =
            |what: String| Problem::new(Code::Internal, format!("the agent's reply was lost: {what}")).next("ask `snapfreeze status`");
        let exchange = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| lost(e.to_string()))?;
            let connection = tokio::spawn(connection);
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "snapfreeze")
                .header("content-type", "application/json")
                .body(Full::new(body))
                .map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
            let response = sender.send_request(request).await.map_err(|e| lost(crate::chain(&e)))?;
            let status = response.status();
            let bytes = Limited::new(response.into_body(), MAX_REPLY).collect().await.map_err(|e| lost(e.to_string()))?.to_bytes();
            connection.abort();
            Ok((status, bytes))
        };
        tokio::time::timeout(within, exchange).await.unwrap_or_else(|_| Err(lost(format!("not within {} s", within.as_secs()))))
    }

    fn unreachable(&self, why: &str) -> Problem {
        Problem::new(Code::AgentUnreachable, format!("{}: {why}", self.socket.display()))
            .next("start it: `systemctl start snapfreeze`; is this user root or in the group snapfreeze?")
    }
}

fn reply<T: DeserializeOwned>(status: StatusCode, bytes: &[u8]) -> Result<T, Problem> {
    let odd = |e: &dyn std::fmt::Display| Problem::new(Code::Internal, format!("the agent's reply was not understood ({status}): {e}"));
    if status.is_success() {
        serde_json::from_slice(bytes).map_err(|e| odd(&e))
    } else {
        Err(serde_json::from_slice::<Problem>(bytes).unwrap_or_else(|_| odd(&String::from_utf8_lossy(bytes))))
    }
}
