//! Raw forwarding to moto (everything that the double does not model) and to ministack (Lambda).

use crate::sim::Sim;
use crate::wire::{Reply, Wire};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

pub struct Client(legacy::Client<HttpConnector, Full<Bytes>>);

impl Default for Client {
    fn default() -> Self {
        // An idle connection that the other side closes would look like a lost reply.
        Self(legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http())
    }
}

/// Headers of one connection, and those that the client makes anew.
const HOP: [&str; 7] = ["host", "connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "expect"];

impl Client {
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        let response = self.0.request(request).await.map_err(|e| e.to_string())?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        let text = |v: &hyper::header::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        let mut reply = Reply::new(parts.status.as_u16(), parts.headers.get("content-type").map(text).as_deref().unwrap_or(""), body);
        let keep = |name: &str| !HOP.contains(&name) && name != "content-type";
        reply.headers = parts.headers.iter().filter(|(n, _)| keep(n.as_str())).map(|(n, v)| (n.to_string(), text(v))).collect();
        Ok(reply)
    }
}

/// `to` is `http://HOST:PORT`.
pub async fn forward(sim: &Sim, wire: &Wire, to: &str) -> Reply {
    let path = wire.parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::builder().method(wire.parts.method.clone()).uri(format!("{to}{path}"));
    for (name, value) in wire.parts.headers.iter().filter(|(n, _)| !HOP.contains(&n.as_str())) {
        request = request.header(name, value);
    }
    let sent = match request.body(Full::new(wire.body.clone())) {
        Ok(request) => sim.client.send(request).await,
        Err(e) => Err(e.to_string()),
    };
    match sent {
        Ok(reply) if reply.status >= 400 => {
            let code = reply.status.to_string();
            reply.failed(&code)
        }
        Ok(reply) => reply,
        Err(e) => Reply::text(502, format!("{to}: {e}")).failed("BadGateway"),
    }
}

/// A JSON 1.1 question of the double's own.
pub async fn ask_json(sim: &Sim, to: &str, target: &str, body: &serde_json::Value) -> Result<serde_json::Value, String> {
    let scope =
        format!("AWS4-HMAC-SHA256 Credential=cloud-sim/20260101/{}/ssm/aws4_request, SignedHeaders=host, Signature=0", sim.config.region);
    let request = Request::builder()
        .method("POST")
        .uri(format!("{to}/"))
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", target)
        .header("authorization", scope)
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|e| e.to_string())?;
    let reply = sim.client.send(request).await?;
    let value: serde_json::Value = serde_json::from_slice(&reply.body).map_err(|e| format!("{target}: status {}: {e}", reply.status))?;
    if reply.status == 200 { Ok(value) } else { Err(value.to_string()) }
}
