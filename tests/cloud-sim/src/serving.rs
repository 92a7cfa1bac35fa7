//! A server on a thread and a runtime of its own, so that tests with and without an async runtime use it alike.

use crate::server::bind;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub struct Serving {
    pub address: SocketAddr,
    pub runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Serving {
    /// Errors: no loopback address, the port is taken.
    pub fn start<F, Fut>(name: &str, listen: String, serve: F) -> io::Result<Self>
    where
        F: FnOnce(TcpListener) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let (stop, stopped) = oneshot::channel();
        let (started, start) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(e) => return drop(started.send(Err(e))),
            };
            runtime.block_on(async {
                match bind(&listen).await.and_then(|l| Ok((l.local_addr()?, l))) {
                    Ok((address, listener)) => {
                        let _ = started.send(Ok((address, Handle::current())));
                        tokio::select! {
                            () = serve(listener) => {}
                            _ = stopped => {}
                        }
                    }
                    Err(e) => drop(started.send(Err(e))),
                }
            });
            runtime.shutdown_timeout(Duration::from_millis(200));
        })?;
        let (address, runtime) = start.recv().map_err(io::Error::other)??;
        Ok(Self { address, runtime, stop: Some(stop), thread: Some(thread) })
    }

    /// A second port, for what has one of its own (IMDS, TLS). Not async: may be called inside and outside of a runtime.
    pub fn port(runtime: &Handle) -> io::Result<(SocketAddr, TcpListener)> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let _inside = runtime.enter();
        Ok((listener.local_addr()?, TcpListener::from_std(listener)?))
    }

    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
