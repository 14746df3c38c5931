//! The plugin's socket, and the bounds of what comes through it.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::plugin::{Keeper, Plugin};
use super::protocol;
use crate::error::{Error, Kind, Result};

/// Bytes of a request's body at most.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Bytes of a request's head at most.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Headers a request may have.
const MAX_HEADERS: usize = 64;
/// How long a request's head may take, and its body.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(10);
/// Requests at a time; more wait until one is answered.
const MAX_CONNECTIONS: usize = 64;
/// How long to wait when no more files can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long answers under way may take when the plugin is told to end.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// What answers are.
const ANSWER_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// A socket that is listened at.
pub struct Listening {
    listener: std::os::unix::net::UnixListener,
    /// To be removed at the end, when it is our own.
    path: Option<PathBuf>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(%error, path = %path.display(), "the socket stays behind");
        }
    }
}

/// Takes the socket that a service manager hands over (`LISTEN_FDS`), or makes one at `path`, mode 0600, in the place of one
/// that nobody listens at any more.
///
/// # Errors
/// `Busy` when somebody listens at `path`, `Invalid` when more than one socket is handed over, or one of another kind, `Io`.
pub fn listen(path: &Path) -> Result<Listening> {
    let handed = sd_notify::listen_fds().map_err(|e| Error::io("reading LISTEN_FDS", e))?;
    let mut handed = handed.into_iter();
    let listener = match (handed.next(), handed.next()) {
        (None, _) => return bind(path),
        (Some(_), Some(_)) => {
            return Err(Error::new(Kind::Invalid, "more than one socket is handed over; the plugin has one"));
        }
        (Some(number), None) => {
            #[expect(unsafe_code, reason = "a descriptor by its number has no safe wrapper")]
            // SAFETY: the service manager has opened it for this process, as it says by LISTEN_PID, and nobody else here
            // has asked for it.
            let handed = unsafe { OwnedFd::from_raw_fd(number) };
            std::os::unix::net::UnixListener::from(handed)
        }
    };
    if listener.local_addr().is_err() {
        return Err(Error::new(Kind::Invalid, "what is handed over is no socket of the file system"));
    }
    Ok(Listening { listener, path: None })
}

fn bind(path: &Path) -> Result<Listening> {
    let named = |e: std::io::Error| Error::io(path.display(), e);
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(named)?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            let message = format!("{} is served by another process already", path.display());
            return Err(Error::new(Kind::Busy, message));
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            let is_socket = path.symlink_metadata().map_err(named)?.file_type().is_socket();
            if !is_socket {
                return Err(Error::new(Kind::Exists, format!("{} is there and no socket", path.display())));
            }
            std::fs::remove_file(path).map_err(named)?;
        }
        Err(_) => {}
    }
    // Until its mode is set nobody but its owner may connect: files are made without permissions for others here.
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(named)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(named)?;
    Ok(Listening { listener, path: Some(path.to_owned()) })
}

/// Answers requests until `end` comes; then takes no more and lets those under way end, ten seconds at most.
///
/// # Errors
/// `Io` when the socket cannot be listened at.
pub async fn serve<K: Keeper + 'static>(
    plugin: Arc<Plugin<K>>,
    listening: Listening,
    end: impl Future<Output = ()>,
) -> Result<()> {
    let failed = |e| Error::io("listening at the plugin's socket", e);
    let socket = listening.listener.try_clone().map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let socket = UnixListener::from_std(socket).map_err(failed)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut end = pin!(end);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&socket, &places) => accepted,
            () = &mut end => break,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (plugin, watcher) = (Arc::clone(&plugin), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            talk(plugin, stream, watcher).await;
        });
    }
    drop((socket, listening));
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN_LIMIT) => tracing::warn!("answers were still under way when the plugin ended"),
    }
    Ok(())
}

async fn accept(
    socket: &UnixListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(UnixStream, Option<tokio::sync::OwnedSemaphorePermit>)> {
    // The semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok();
    let (stream, _) = socket.accept().await?;
    Ok((stream, place))
}

async fn talk<K: Keeper + 'static>(
    plugin: Arc<Plugin<K>>,
    stream: UnixStream,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let plugin = Arc::clone(&plugin);
        async move { Ok::<_, Infallible>(reply(plugin, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ARRIVAL_LIMIT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        // An engine may not send a request just when an idle connection is closed: it would not try again.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn reply<K: Keeper + 'static>(plugin: Arc<Plugin<K>>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "requests of a volume driver are POST");
    }
    let path = request.uri().path().to_owned();
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    let body = match tokio::time::timeout(ARRIVAL_LIMIT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return refused(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long, or was cut short"),
        Err(_) => return refused(StatusCode::REQUEST_TIMEOUT, "the request did not arrive"),
    };
    // It goes on when the engine has lost patience: the next request finds what it has done.
    let name = path.clone();
    let outcome = tokio::task::spawn_blocking(move || protocol::answer(&plugin, &path, &body)).await;
    match outcome {
        Ok(Ok(value)) => response(StatusCode::OK, &value),
        Ok(Err(error)) => {
            if error.kind() != Kind::NotFound {
                tracing::warn!(request = %name, %error, "a request was refused");
            }
            refused(status_of(&error), &error.to_string())
        }
        Err(error) => {
            tracing::error!(request = %name, %error, "a request failed");
            refused(StatusCode::INTERNAL_SERVER_ERROR, "the plugin failed; its log says how")
        }
    }
}

fn status_of(error: &Error) -> StatusCode {
    match error.kind() {
        Kind::Unsupported => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn refused(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    response(status, &json!({ "Err": why }))
}

fn response(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(ANSWER_TYPE));
    response
}
