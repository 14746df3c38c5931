//! Sockets, TLS, limits per connection, and the drain at the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tower_http::normalize_path::NormalizePath;

use super::config::{NodeConfig, TlsFiles};
use super::core::Core;
use crate::error::{Error, Kind, Result};

/// Headers a request may have.
const MAX_HEADERS: usize = 100;
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// How long to wait when no more files can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What answers requests.
pub type App = NormalizePath<Router>;

/// Listens at an address.
///
/// # Errors
/// `Io` naming the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| Error::io(address, error))
}

/// Reads certificate and key.
///
/// # Errors
/// `Io`, `Invalid` naming the file.
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let invalid = |path: &std::path::Path, why: String| Error::new(Kind::Invalid, format!("{}: {why}", path.display()));
    let certs = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| invalid(&files.cert, error.to_string()))?;
    if certs.is_empty() {
        return Err(invalid(&files.cert, "there is no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| invalid(&files.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(&files.cert, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .map_err(|error| invalid(&files.cert, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves `app` until `end` says so; then takes no more requests and lets those under way end.
pub async fn serve(
    core: Arc<Core>,
    app: App,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    mut end: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(core.config.max_connections));
    let graceful = GracefulShutdown::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = end.wait_for(|end| *end) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (app, core, tls, watcher) = (app.clone(), Arc::clone(&core), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            serve_connection(&core.config, app, stream, peer, tls, watcher).await;
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(core.config.drain_timeout) => {
            tracing::warn!("answers were still under way when the node ended");
        }
    }
}

async fn serve_connection(
    config: &NodeConfig,
    app: App,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Small answers must not wait for the acknowledgement of the one before.
    let _best_effort = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(config.stall_timeout));
    let stream = Box::pin(stream);
    match tls {
        None => talk(config, app, stream, peer, watcher).await,
        Some(tls) => match tokio::time::timeout(config.header_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => talk(config, app, stream, peer, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
        },
    }
}

async fn talk(
    config: &NodeConfig,
    app: App,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let app = app.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            Ok::<_, Infallible>(app.oneshot(request).await.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let connection = pin!(watcher.watch(connection));
    if let Err(error) = connection.await {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}
