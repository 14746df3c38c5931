//! HTTP/1.1 over connections that a handler can cut without a word.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tower::ServiceExt;

/// The connection a request came over.
#[derive(Clone)]
pub(super) struct Connection(Arc<Notify>);

impl Connection {
    /// Closes it: nothing that was not yet written will be.
    pub(super) async fn cut(&self) -> ! {
        self.0.notify_one();
        pending().await
    }
}

pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let router = router.clone();
        connections.spawn(async move {
            let cut = Arc::new(Notify::new());
            let connection = Connection(cut.clone());
            let service = service_fn(move |mut request: hyper::Request<Incoming>| {
                request.extensions_mut().insert(connection.clone());
                let router = router.clone();
                async move { Ok::<_, Infallible>(router.oneshot(request.map(axum::body::Body::new)).await.unwrap()) }
            });
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = served => {}
                () = cut.notified() => {}
            }
        });
    }
}

/// The connection of a request.
pub(super) fn connection(request: &Request) -> Connection {
    request.extensions().get::<Connection>().unwrap().clone()
}
