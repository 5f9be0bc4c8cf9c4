//! Sockets: accept, speak HTTP/1.1 or HTTP/2 with timers, drain. `axum::serve` sets no timers, so a client that sends
//! half a header would hold its connection for ever.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenerSettings {
    /// Longest time from the first byte of a request's head to its last.
    pub header_read_timeout: Duration,
}

/// Largest request head, in bytes.
const HEAD_BYTES: usize = 32 * 1024;
/// Most headers in a request.
const HEADERS: usize = 64;
/// Pause after an accept error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection to be run to its end by whoever owns the process.
pub type ConnectionTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves `service` on `listener` until `stop`; then closes the listener and waits until open requests have finished.
/// Every connection is handed to `spawn`.
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    settings: ListenerSettings,
    stop: CancellationToken,
    spawn: impl Fn(ConnectionTask),
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_read_timeout)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(HEAD_BYTES as u32)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(err) => {
                tracing::warn!(error = %err, "connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Answers are small: waiting to fill a segment only delays them.
        if let Err(err) = stream.set_nodelay(true) {
            tracing::debug!(error = %err, "TCP_NODELAY could not be set");
        }
        let connection = builder.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
        let connection = graceful.watch(connection);
        spawn(Box::pin(async move {
            if let Err(err) = connection.await {
                tracing::debug!(error = %err, "connection ended early");
            }
        }));
    }
    drop(listener);
    graceful.shutdown().await;
}
