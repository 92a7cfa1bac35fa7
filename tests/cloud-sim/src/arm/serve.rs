//! Accepts, injects, answers. Every request runs in a task of its own: a client that goes away does not undo what it asked.

use super::fault::ArmFault;
use super::sim::Sim;
use super::wire::{ArmCall, Ask, Fail};
use super::{control, route};
use crate::faults::Moment;
use crate::record::End;
use crate::server::Dropped;
use crate::wire::Reply;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a port is: ARM, ARM behind TLS, or the metadata service of a VM.
#[derive(Clone)]
pub enum Port {
    Plain,
    Tls(TlsAcceptor),
    Imds(String),
}

pub async fn accept(sim: Arc<Sim>, listener: TcpListener, port: Port) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (sim, port) = (sim.clone(), port.clone());
        tokio::spawn(async move {
            match port {
                Port::Plain => serve(sim, stream, "http", None).await,
                Port::Imds(vm) => serve(sim, stream, "http", Some(vm)).await,
                Port::Tls(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(sim, stream, "https", None).await;
                    }
                }
            }
        });
    }
}

async fn serve<S>(sim: Arc<Sim>, stream: S, scheme: &'static str, imds_of: Option<String>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| one(sim.clone(), request, scheme, imds_of.clone()));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn one(
    sim: Arc<Sim>,
    request: Request<Incoming>,
    scheme: &'static str,
    imds_of: Option<String>,
) -> Result<Response<Full<Bytes>>, Dropped> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    let reply = tokio::spawn(async move {
        if parts.uri.path().starts_with("/_sim/") {
            return Ok(control::answer(&sim, parts.method.as_str(), parts.uri.path(), &body).await);
        }
        recorded(&sim, Ask::read(&sim, scheme, imds_of.as_deref(), parts, &body), imds_of.as_deref()).await
    });
    let reply = reply.await.unwrap_or_else(|e| Ok(Reply::text(500, format!("the double panicked: {e}"))))?;
    let mut response = Response::builder().status(reply.status).header("x-ms-request-id", uuid::Uuid::new_v4().to_string());
    if !reply.body.is_empty() {
        response = response.header("content-type", &reply.content_type);
    }
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(reply.body)).map_err(|_| Dropped)
}

async fn recorded(sim: &Arc<Sim>, ask: Ask, imds_of: Option<&str>) -> Result<Reply, Dropped> {
    let faults = sim.faults.matching(&ask);
    let n = sim.record.begin(ArmCall::of(&ask, faults.iter().map(|(id, _)| *id).collect()));
    let outcome = with_faults(sim, &ask, &faults, imds_of).await;
    let end = match &outcome {
        Ok(reply) => End { status: Some(reply.status), error: reply.error.clone() },
        Err(Dropped) => End { status: None, error: Some("(lost)".into()) },
    };
    sim.record.end(n, end);
    outcome
}

async fn with_faults(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)], imds_of: Option<&str>) -> Result<Reply, Dropped> {
    for (id, fault) in faults {
        match fault {
            ArmFault::Delay { ms } => tokio::time::sleep(Duration::from_millis(*ms)).await,
            ArmFault::Hold { when: Moment::Before } => sim.faults.hold(*id).await,
            ArmFault::LostRequest => return Err(Dropped),
            other => {
                if let Some(fail) = refusal(other) {
                    return Ok(fail.reply());
                }
            }
        }
    }
    let reply = limited(sim, ask, faults, imds_of).await;
    for (id, fault) in faults {
        match fault {
            ArmFault::DelayReply { ms } => tokio::time::sleep(Duration::from_millis(*ms)).await,
            ArmFault::Hold { when: Moment::After } => sim.faults.hold(*id).await,
            ArmFault::LostReply => return Err(Dropped),
            _ => {}
        }
    }
    Ok(reply)
}

fn refusal(fault: &ArmFault) -> Option<Fail> {
    match fault {
        ArmFault::Status { status, code, retry_after_s } => {
            let mut fail = Fail::new(*status, code, "the double was told to refuse this");
            fail.retry_after_s = *retry_after_s;
            Some(fail)
        }
        ArmFault::Throttle { retry_after_s } => Some(Fail::throttled(*retry_after_s)),
        ArmFault::Conflict => Some(Fail::conflict("the double was told that there is a conflict")),
        _ => None,
    }
}

/// Requests to ARM itself draw on its buckets and say what is left.
async fn limited(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)], imds_of: Option<&str>) -> Reply {
    let mut left = None;
    if ask.target.is_some() && ask.who.is_some() {
        let (header, tokens, wait) = sim.throttle.lock().expect("buckets").take(ask);
        if let Some(seconds) = wait.filter(|_| sim.config.buckets) {
            let mut fail = Fail::throttled(seconds);
            fail.code = "SubscriptionRequestsThrottled".into();
            let mut reply = fail.reply();
            reply.headers.push((header, "0".into()));
            return reply;
        }
        left = Some((header, tokens.to_string()));
    }
    let mut reply = route::answer(sim, ask, faults, imds_of).await.unwrap_or_else(Fail::reply);
    reply.headers.extend(left);
    reply
}
