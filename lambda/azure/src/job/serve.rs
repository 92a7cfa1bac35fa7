//! The Functions host's side: it starts this program, and posts `{"Data": …, "Metadata": …}` to `/FUNCTION` ("Azure Functions custom
//! handlers"). One run at a time; a failure answers 500, so that the function counts as failed.

use super::Verb;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use protocol::Code;
use protocol::wire::Problem;
use serde_json::{Value, json};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Until `stop` ends. `run`: one verb, its exit code and its log.
pub async fn serve<R, F>(port: u16, run: R, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), Problem>
where
    R: Fn(Verb) -> F + Send + Sync + 'static,
    F: Future<Output = (u8, Vec<Value>)> + Send + 'static,
{
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let failed = |e: std::io::Error| Problem::new(Code::Internal, format!("{address}: {e}"));
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let app = Router::new().route("/{function}", post(called::<R, F>)).with_state(Arc::new((run, Mutex::new(()))));
    axum::serve(listener, app).with_graceful_shutdown(stop).await.map_err(failed)
}

async fn called<R, F>(State(s): State<Arc<(R, Mutex<()>)>>, Path(function): Path<String>) -> (StatusCode, Json<Value>)
where
    R: Fn(Verb) -> F + Send + Sync + 'static,
    F: Future<Output = (u8, Vec<Value>)> + Send + 'static,
{
    let said = |status, log: Vec<Value>| {
        let log: Vec<String> = log.iter().map(Value::to_string).collect();
        (status, Json(json!({ "Outputs": {}, "Logs": log, "ReturnValue": null })))
    };
    let verb = match function.as_str() {
        "backup" => Verb::Backup { stop_by: 25 * 60_000 },
        "prune" => Verb::Prune { dry_run: false },
        "reap" => Verb::Reap { dry_run: false },
        "watch" => Verb::Watch,
        _ => {
            return said(
                StatusCode::NOT_FOUND,
                vec![json!({ "message": "problem", "detail": format!("there is no function {function}") })],
            );
        }
    };
    let Ok(_one) = s.1.try_lock() else {
        return said(StatusCode::CONFLICT, vec![json!({ "message": "problem", "detail": "a run is going on; this one was not begun" })]);
    };
    let (code, log) = s.0(verb).await;
    said(if code == 0 { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, log)
}
