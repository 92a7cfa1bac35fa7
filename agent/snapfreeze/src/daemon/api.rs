//! HTTP/1.1 + JSON over the Unix socket (`docs/openapi.json`). Bounded in size, number and time. No TCP.

use super::run::{Answer, Figures, Msg};
use super::{Shared, admission};
use crate::instances;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use doors::clock::boot_now;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use protocol::outcome::Window;
use protocol::wire::{FreezeRequest, FreezeState, FrozenReply, InstanceFrozen, Problem, ThawReply, ThawRequest};
use protocol::{BackupId, Code, SCHEMA};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc::UnboundedSender, oneshot};

/// A freeze order is a few hundred bytes.
const MAX_BODY: usize = 16 << 10;
/// Each caller has one request under way; a stuck one must not keep others out.
const MAX_CONNECTIONS: usize = 32;
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Between two pieces of a body.
const BODY_TIME: Duration = Duration::from_secs(5);
/// Longest hold, freeze and thaw budget together, rounded up.
const REQUEST_TIME: Duration = Duration::from_secs(1_300);
const ASK_MS: u64 = 10_000;
const LAYOUT_MS: u64 = 20_000;

#[derive(Clone)]
struct Api {
    tx: UnboundedSender<Msg>,
    shared: Arc<Shared>,
}

pub async fn serve(listener: UnixListener, tx: UnboundedSender<Msg>, shared: Arc<Shared>) {
    let router = router(Api { tx, shared });
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((s, _)) => s,
            Err(e) => {
                crate::log_alarm(&format!("the socket refused a caller: {e}"));
                tokio::time::sleep(Duration::from_millis(100)).await; // out of descriptors: do not spin
                continue;
            }
        };
        // The socket's owner, group and mode let root and the group in; a peer that the kernel cannot name stays out.
        if stream.peer_cred().is_err() {
            continue;
        }
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).keep_alive(false).max_buf_size(64 << 10);
            let _ = tokio::time::timeout(REQUEST_TIME, http.serve_connection(TokioIo::new(stream), service)).await;
            drop(place);
        });
    }
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/freezes", post(freeze))
        .route("/v1/freezes/{id}", get(freeze_state))
        .route("/v1/freezes/{id}/thaw", post(thaw))
        .route("/v1/thaw", post(thaw_all))
        .route("/v1/frozen", get(frozen))
        .route("/v1/status", get(status))
        .route("/v1/layout", get(layout))
        .route("/metrics", get(metrics))
        .fallback(|| async { Failure(Problem::new(Code::UsageInvalid, "no such path"), StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(|| async {
            Failure(Problem::new(Code::UsageInvalid, "not this method here"), StatusCode::METHOD_NOT_ALLOWED)
        })
        .layer(tower_http::limit::RequestBodyLimitLayer::new(MAX_BODY))
        .layer(tower_http::timeout::RequestBodyTimeoutLayer::new(BODY_TIME))
        .layer(axum::middleware::map_response(too_large))
        .with_state(api)
}

/// The limit's own answer is plain text; ours are all JSON.
async fn too_large(r: Response) -> Response {
    if r.status() != StatusCode::PAYLOAD_TOO_LARGE {
        return r;
    }
    Failure(Problem::new(Code::UsageInvalid, format!("a request body is at most {MAX_BODY} bytes")), r.status()).into_response()
}

struct Failure(Problem, StatusCode);

impl From<Problem> for Failure {
    fn from(p: Problem) -> Self {
        let status = match p.code.exit() {
            protocol::code::exit::USAGE => StatusCode::BAD_REQUEST,
            protocol::code::exit::REFUSED => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(p, status)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.1, Json(self.0)).into_response()
    }
}

impl Api {
    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Msg) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let gone = || Failure::from(Problem::new(Code::Internal, "the agent is stopping"));
        self.tx.send(message(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

async fn freeze(State(api): State<Api>, body: Result<Json<FreezeRequest>, JsonRejection>) -> Result<Response, Failure> {
    let Json(request) = body.map_err(|e| Failure(Problem::new(Code::UsageInvalid, e.body_text()), e.status()))?;
    let (id, by) = (request.id, request.by.clone());
    // A repeated order gets its first answer, and a busy machine its own refusal: only a new order is admitted.
    let (order, set, warnings) = if api.ask(|reply| Msg::IsNew(id, reply)).await? {
        let shared = api.shared.clone();
        let admitted = tokio::task::spawn_blocking(move || admission::admit(&shared, &request)).await;
        admitted.map_err(|_| Problem::new(Code::Internal, "admission panicked"))??
    } else {
        admission::repeated(&api.shared, &request)?
    };
    match api.ask(|reply| Msg::Freeze { order, set, by, warnings, reply }).await? {
        Answer::Frozen(r) => Ok(Json(r).into_response()),
        Answer::Thawed(window, fault, why) => Err(not_held(&window, fault, &why).into()),
        Answer::Problem(p) => Err(p.into()),
    }
}

/// A freeze that ended in a thaw.
fn not_held(window: &Window, fault: Option<Code>, why: &[String]) -> Problem {
    let code = fault.unwrap_or(Code::WindowBroken);
    let what = match &window.state {
        protocol::WindowState::Broken(r) => r.to_string(),
        protocol::WindowState::Unbroken => String::new(),
    };
    Problem::new(code, format!("{}; {what}; {}", code.says(), why.join("; "))).next("see `snapfreeze status` and the engine's log")
}

/// A body is not needed; one that cannot be read is refused rather than taken for none.
async fn thaw(
    State(api): State<Api>,
    id: Result<Path<BackupId>, PathRejection>,
    body: axum::body::Bytes,
) -> Result<Json<ThawReply>, Failure> {
    let Path(id) = id.map_err(|e| Failure(Problem::new(Code::UsageInvalid, e.body_text()), e.status()))?;
    let asked: ThawRequest = if body.is_empty() {
        ThawRequest::default()
    } else {
        serde_json::from_slice(&body).map_err(|e| Failure(Problem::new(Code::UsageInvalid, e.to_string()), StatusCode::BAD_REQUEST))?
    };
    thawed(api.ask(|reply| Msg::Thaw { id, by: asked.by, reply }).await?)
}

async fn thaw_all(State(api): State<Api>) -> Result<Json<ThawReply>, Failure> {
    thawed(api.ask(Msg::ThawAll).await?)
}

fn thawed(a: Answer) -> Result<Json<ThawReply>, Failure> {
    match a {
        Answer::Thawed(window, _, _) => Ok(Json(ThawReply { schema: SCHEMA, window })),
        Answer::Problem(p) => Err(p.into()),
        Answer::Frozen(_) => Err(Problem::new(Code::Internal, "a freeze's answer for a thaw").into()),
    }
}

async fn freeze_state(State(api): State<Api>, id: Result<Path<BackupId>, PathRejection>) -> Result<Json<FreezeState>, Failure> {
    let Path(id) = id.map_err(|e| Failure(Problem::new(Code::UsageInvalid, e.body_text()), e.status()))?;
    let found = api.ask(|reply| Msg::PhaseOf(id, reply)).await?;
    let (phase, window) =
        found.ok_or_else(|| Failure(Problem::new(Code::ThawUnknownId, "no freeze with this id is known"), StatusCode::NOT_FOUND))?;
    Ok(Json(FreezeState { schema: SCHEMA, id, phase, window }))
}

async fn frozen(State(api): State<Api>) -> Result<Json<FrozenReply>, Failure> {
    let set = api.shared.set.clone()?;
    let answers = tokio::task::spawn_blocking(move || instances::ask(&set, ASK_MS))
        .await
        .map_err(|_| Problem::new(Code::Internal, "the question panicked"))?;
    let instances = answers.into_iter().map(|(instance, frozen)| InstanceFrozen { instance, frozen }).collect();
    Ok(Json(FrozenReply { schema: SCHEMA, instances }))
}

async fn status(State(api): State<Api>) -> Result<Json<protocol::wire::StatusReply>, Failure> {
    let mut reply = api.ask(Msg::Status).await?;
    if let Err(p) = &api.shared.set {
        reply.alarms.push(format!("{}: {}", p.code, p.detail));
    }
    Ok(Json(reply))
}

async fn layout(State(api): State<Api>) -> Result<Response, Failure> {
    let set = api.shared.set.clone()?;
    let found = tokio::task::spawn_blocking(move || crate::layout::of(&set, &api.shared.config, boot_now().plus(LAYOUT_MS))).await;
    let layout = found.map_err(|_| Problem::new(Code::Internal, "the layout panicked"))??;
    Ok(Json(layout).into_response())
}

async fn metrics(State(api): State<Api>) -> Result<Response, Failure> {
    let f: Figures = api.ask(Msg::Figures).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], crate::verbs::metrics::text(&f)).into_response())
}
