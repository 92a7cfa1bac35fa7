//! Ctrl-C, SIGTERM, and the terminal that was closed: the first one stops, every later one is told what is going on.

use crate::out::Out;
use protocol::Code;
use protocol::wire::Problem;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// From here on a signal ends nothing by itself. Needs a runtime.
    pub fn listen(out: Out) -> Result<Self, Problem> {
        let failed = |e: std::io::Error| Problem::new(Code::Internal, format!("signals cannot be caught: {e}"));
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [int, term, hup] = kinds.map(|k| signal(k).map_err(failed));
        let (mut int, mut term, mut hup) = (int?, term?, hup?);
        let (tell, told) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                any(&mut int, &mut term, &mut hup).await;
                let first = !tell.send_replace(true);
                out.note(if first {
                    "interrupted: thawing what was frozen"
                } else {
                    "still thawing; this ends when no host is frozen any more"
                });
            }
        });
        Ok(Self(told))
    }

    pub fn asked(&self) -> bool {
        *self.0.borrow()
    }

    pub async fn wait(&self) {
        // The listener lives as long as the runtime.
        if self.0.clone().wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn any(int: &mut Signal, term: &mut Signal, hup: &mut Signal) {
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
        _ = hup.recv() => {}
    }
}
