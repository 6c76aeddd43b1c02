//! The HTTP server under a stand-in. Its own accept loop, because a stand-in must be able
//! to reset a connection instead of answering.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt;

use crate::fault_effect::HangUp;

/// A running stand-in. Dropping it stops it.
#[derive(Debug)]
pub struct Handle {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Handle {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address as the start of a URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Stops at once: open connections are closed.
    pub async fn shutdown(mut self) {
        self.task.abort();
        // The result says only that the task was aborted.
        let _ = (&mut self.task).await;
    }

    /// Waits until the server ends by itself, which it does only when accepting fails.
    pub async fn wait(mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves a router until the handle is dropped.
///
/// # Errors
/// When the listener has no address.
pub fn serve_router(router: Router, listener: TcpListener) -> io::Result<Handle> {
    let addr = listener.local_addr()?;
    let task = tokio::spawn(accept(router, listener));
    Ok(Handle { addr, task })
}

async fn accept(router: Router, listener: TcpListener) {
    // Dropping the set when this task is aborted closes every connection.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(converse(router.clone(), stream));
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(router: Router, stream: TcpStream) {
    // Answers are small; waiting to fill packets would only add latency.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&reset);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        let flag = Arc::clone(&flag);
        // Boxed, because the connection can only be taken apart when this can be moved.
        Box::pin(async move {
            let response = match router.oneshot(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if response.extensions().get::<HangUp>().is_some() {
                flag.store(true, Ordering::Relaxed);
                return Err(io::Error::from(io::ErrorKind::ConnectionReset));
            }
            Ok(response)
        })
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let ended = std::future::poll_fn(|context| connection.poll_without_shutdown(context)).await;
    if ended.is_err() && reset.load(Ordering::Relaxed) {
        let stream = connection.into_parts().io.into_inner();
        // Zero linger makes the close a reset on the wire.
        let _ = stream.set_zero_linger();
    }
}
