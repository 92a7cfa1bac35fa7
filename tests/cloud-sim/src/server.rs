//! Accepts, routes, injects. Every request runs in a task of its own: a client that goes away does not undo what it asked.

use crate::faults::{Fault, Moment};
use crate::record::{Call, End};
use crate::sim::Sim;
use crate::wire::{Fail, Reply, Wire};
use crate::{control, ec2, imds, proxy, ssm};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// The connection is closed without an answer.
#[derive(Debug)]
pub struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is dropped on purpose")
    }
}
impl std::error::Error for Dropped {}

/// `imds_of`: this port is the metadata service of that host.
pub async fn accept(sim: Arc<Sim>, listener: TcpListener, imds_of: Option<String>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (sim, imds_of) = (sim.clone(), imds_of.clone());
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let service = service_fn(move |request| one(sim.clone(), request, imds_of.clone()));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn one(sim: Arc<Sim>, request: Request<Incoming>, imds_of: Option<String>) -> Result<Response<Full<Bytes>>, Dropped> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    let reply = tokio::spawn(async move {
        if parts.uri.path().starts_with("/_sim/") {
            return Ok(control::answer(&sim, parts.method.as_str(), parts.uri.path(), &body).await);
        }
        recorded(&sim, Wire::read(&sim, parts, body), imds_of).await
    });
    let reply = reply.await.unwrap_or_else(|e| Ok(Reply::text(500, format!("the double panicked: {e}"))))?;
    let mut response = Response::builder().status(reply.status).header("content-type", &reply.content_type);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(reply.body)).map_err(|_| Dropped)
}

async fn recorded(sim: &Arc<Sim>, wire: Wire, imds_of: Option<String>) -> Result<Reply, Dropped> {
    let faults = sim.faults.matching(&wire);
    let n = sim.record.begin(Call::of(&wire, faults.iter().map(|(id, _)| *id).collect()));
    let outcome = with_faults(sim, &wire, &faults, imds_of).await;
    sim.record.end(
        n,
        match &outcome {
            Ok(reply) => End { status: Some(reply.status), error: reply.error.clone() },
            Err(Dropped) => End { status: None, error: Some("(lost)".into()) },
        },
    );
    outcome
}

async fn with_faults(sim: &Arc<Sim>, wire: &Wire, faults: &[(u64, Fault)], imds_of: Option<String>) -> Result<Reply, Dropped> {
    for (id, fault) in faults {
        match fault {
            Fault::Slow { ms } => tokio::time::sleep(Duration::from_millis(*ms)).await,
            Fault::Hold { when: Moment::Before } => sim.faults.hold(*id).await,
            Fault::LostRequest => return Err(Dropped),
            Fault::Terminate { instance } => {
                if let Some(i) = sim.world().instances.get_mut(instance) {
                    i.state = "terminated".into();
                }
            }
            other => {
                if let Some(fail) = refusal(wire, other) {
                    return Ok(render(wire, fail));
                }
            }
        }
    }
    let reply = route(sim, wire, faults, imds_of).await;
    for (id, fault) in faults {
        match fault {
            Fault::SlowReply { ms } => tokio::time::sleep(Duration::from_millis(*ms)).await,
            Fault::Hold { when: Moment::After } => sim.faults.hold(*id).await,
            Fault::LostReply => return Err(Dropped),
            _ => {}
        }
    }
    Ok(reply)
}

fn refusal(wire: &Wire, fault: &Fault) -> Option<Fail> {
    let ec2 = wire.service == "ec2";
    Some(match fault {
        Fault::Throttle if ec2 => ec2::throttled(),
        Fault::Throttle => Fail::new("ThrottlingException", "Rate exceeded"),
        Fault::AccessDenied if ec2 => Fail::new("UnauthorizedOperation", "You are not authorized to perform this operation.").status(403),
        Fault::AccessDenied => Fail::new("AccessDeniedException", format!("User is not authorized to perform: {}", wire.action)),
        Fault::Http { status } => Fail::new("InternalError", "An internal error has occurred").status(*status),
        Fault::Error { code, message } => Fail::new(code, message),
        _ => return None,
    })
}

fn render(wire: &Wire, fail: Fail) -> Reply {
    match wire.service.as_str() {
        "ec2" | "sts" => ec2::failure(&fail),
        _ => ssm::failure(&fail),
    }
}

async fn route(sim: &Arc<Sim>, wire: &Wire, faults: &[(u64, Fault)], imds_of: Option<String>) -> Reply {
    let outcome = match (wire.service.as_str(), sim.upstream()) {
        ("imds", _) => return imds::answer(sim, wire, imds_of.as_deref()),
        ("lambda", upstream) => match sim.lambda().or(upstream) {
            Some(to) => return proxy::forward(sim, wire, &to).await,
            None => Err(Fail::new("ServiceUnavailable", "no Lambda behind this double (--lambda)").status(503)),
        },
        ("ec2", _) => ec2::answer(sim, wire, faults).await,
        ("ssm", upstream) if upstream.is_none() || ssm::ours(&wire.action) => ssm::answer(sim, wire, faults).await,
        (_, Some(upstream)) => return proxy::forward(sim, wire, &upstream).await,
        ("sts", None) => Ok(ec2::caller_identity(sim, wire)),
        (service, None) => Err(Fail::new("UnknownOperationException", format!("the double has no {service} {}", wire.action))),
    };
    outcome.unwrap_or_else(|fail| render(wire, fail))
}

pub async fn bind(listen: &str) -> io::Result<TcpListener> {
    let address: std::net::SocketAddr =
        listen.parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("{listen}: {e}")))?;
    if !address.ip().is_loopback() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{listen}: loopback only")));
    }
    TcpListener::bind(address).await
}
