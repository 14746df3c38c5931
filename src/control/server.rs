//! The answering side, in the daemon.

use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::message::{Event, Hello, Line, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Reply, Request};
use super::service::Service;
use crate::error::{Error, Kind, Result};
use crate::volume::origin::{self, Actor, Origin};

/// Connections served at a time.
pub const MAX_CONNECTIONS: usize = 32;
/// Events that may wait for a slow reader.
const EVENT_QUEUE: usize = 64;
/// How long a connection may ask nothing.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// How long a reader may take for one line.
const WRITE_LIMIT: Duration = Duration::from_secs(20);
/// How often a working daemon says that it is.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// How long open connections may take to end when the server does.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// A wish to end the daemon.
pub struct Stop {
    /// Unmount although files are open.
    pub lazy: bool,
    /// To be told the outcome: a refusal at once, success when the volume is shut down.
    pub done: oneshot::Sender<Result<()>>,
}

/// Serves the control socket.
pub struct Server {
    hello: Hello,
    service: Arc<dyn Service>,
    stops: mpsc::Sender<Stop>,
}

impl Server {
    /// A server that greets with `hello`, asks `service`, and hands wishes to stop to `stops`.
    #[must_use]
    pub fn new(hello: Hello, service: Arc<dyn Service>, stops: mpsc::Sender<Stop>) -> Server {
        Server { hello, service, stops }
    }

    /// Serves `listener` until `end` becomes true, then lets connections finish for two seconds.
    ///
    /// # Errors
    /// `Io` when the listener cannot be used.
    pub async fn run(self, listener: StdListener, mut end: watch::Receiver<bool>) -> Result<()> {
        let listener = UnixListener::from_std(listener).map_err(|e| Error::io("cannot serve the control socket", e))?;
        let server = Arc::new(self);
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = end.wait_for(|ended| *ended) => break,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => match Arc::clone(&room).try_acquire_owned() {
                    Ok(place) => {
                        let (server, end) = (Arc::clone(&server), end.clone());
                        connections.spawn(async move {
                            server.serve(stream, end).await;
                            drop(place);
                        });
                    }
                    Err(_) => refuse(stream).await,
                },
                Err(error) => {
                    warn!(%error, "control socket: cannot accept");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
        drop(listener);
        let drained = timeout(DRAIN_LIMIT, async { while connections.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            debug!("control socket: connections cut at the end");
        }
        Ok(())
    }

    async fn serve(&self, stream: UnixStream, end: watch::Receiver<bool>) {
        if !is_allowed(&stream) {
            warn!("control socket: refused a user who is neither the owner nor root");
            return;
        }
        let actor = actor_of(&stream);
        let (reader, mut writer) = stream.into_split();
        if let Err(error) = self.converse(BufReader::new(reader), &mut writer, &actor, end).await {
            debug!(%error, "control socket: connection ended");
        }
    }

    async fn converse(
        &self,
        mut reader: BufReader<OwnedReadHalf>,
        writer: &mut OwnedWriteHalf,
        actor: &Actor,
        mut end: watch::Receiver<bool>,
    ) -> Result<()> {
        send(writer, &self.hello).await?;
        loop {
            let line = tokio::select! {
                line = timeout(IDLE_LIMIT, read_line(&mut reader)) => line,
                _ = end.wait_for(|ended| *ended) => return Ok(()),
            };
            let Ok(line) = line else { return Ok(()) };
            let line = match line {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(()),
                Err(error) => {
                    send(writer, &Line::from(&error)).await?;
                    return Err(error);
                }
            };
            let answer = match serde_json::from_slice::<Request>(&line) {
                Ok(Request::Stop { lazy }) => self.stop(lazy, writer).await?,
                Ok(request) => self.answer(request, actor.clone(), writer).await?,
                Err(error) => Err(Error::new(Kind::Invalid, format!("the request is not understood: {error}"))),
            };
            let last = match answer {
                Ok(reply) => Line::Result(reply),
                Err(error) => Line::from(&error),
            };
            send(writer, &last).await?;
        }
    }

    /// Runs a request on a blocking thread, in the name of who asks, and passes its events on.
    async fn answer(&self, request: Request, actor: Actor, writer: &mut OwnedWriteHalf) -> Result<Result<Reply>> {
        let (events, mut queue) = mpsc::channel::<Event>(EVENT_QUEUE);
        let service = Arc::clone(&self.service);
        let work = tokio::task::spawn_blocking(move || {
            let origin = Origin { actor: Some(actor), ..Origin::default() };
            let mut pass_on = |event: Event| {
                // A reader that is gone or slow must not stop the work.
                if event.is_droppable() {
                    let _ = events.try_send(event);
                } else {
                    let _ = events.blocking_send(event);
                }
            };
            origin::acting(origin, || service.answer(request, &mut pass_on))
        });
        loop {
            match timeout(ALIVE_EVERY, queue.recv()).await {
                Ok(Some(event)) => send(writer, &Line::Event(event)).await?,
                Ok(None) => break,
                Err(_) => send(writer, &Line::Event(Event::Alive)).await?,
            }
        }
        let failed = |e| Error::new(Kind::Io, format!("the request failed inside the daemon: {e}"));
        Ok(work.await.unwrap_or_else(|error| Err(failed(error))))
    }

    async fn stop(&self, lazy: bool, writer: &mut OwnedWriteHalf) -> Result<Result<Reply>> {
        let (done, mut outcome) = oneshot::channel();
        if self.stops.send(Stop { lazy, done }).await.is_err() {
            return Ok(Err(Error::new(Kind::Busy, "the daemon is already ending")));
        }
        loop {
            match timeout(ALIVE_EVERY, &mut outcome).await {
                Ok(Ok(outcome)) => return Ok(outcome.map(|()| Reply::Done)),
                Ok(Err(_)) => return Ok(Err(Error::new(Kind::Busy, "the daemon is already ending"))),
                Err(_) => send(writer, &Line::Event(Event::Alive)).await?,
            }
        }
    }
}

/// Whether the other side is root or the daemon's own user. The socket's mode says the same; this holds also when
/// somebody has changed it.
fn is_allowed(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

/// Who is on the other side, as the kernel says.
fn actor_of(stream: &UnixStream) -> Actor {
    let Ok(peer) = stream.peer_cred() else { return Actor::default() };
    Actor::of_process(peer.uid(), peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0))
}

async fn refuse(stream: UnixStream) {
    let error = Error::new(
        Kind::Busy,
        format!("the daemon already serves {MAX_CONNECTIONS} commands; try again when one has ended"),
    );
    let (_, mut writer) = stream.into_split();
    if send(&mut writer, &Line::from(&error)).await.is_err() {
        debug!("control socket: a refused connection was gone already");
    }
}

/// The next line without its end; `None` at the end of the connection.
async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> Result<Option<Vec<u8>>> {
    let limit = u64::try_from(MAX_REQUEST_BYTES).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    let read = reader.take(limit).read_until(b'\n', &mut line).await;
    read.map_err(|e| Error::io("cannot read a request", e))?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() + 1 >= MAX_REQUEST_BYTES => {
            Err(Error::new(Kind::TooBig, format!("a request line may have {MAX_REQUEST_BYTES} bytes")))
        }
        Some(_) => Err(Error::new(Kind::Invalid, "the request ended in the middle of a line")),
    }
}

async fn send<T: Serialize>(writer: &mut OwnedWriteHalf, line: &T) -> Result<()> {
    let mut text = serde_json::to_vec(line).map_err(|e| Error::new(Kind::Invalid, e.to_string()))?;
    if text.len() >= MAX_ANSWER_BYTES {
        let error = Error::new(Kind::TooBig, "the answer is longer than the protocol allows; ask for less at a time");
        text = serde_json::to_vec(&Line::from(&error)).map_err(|e| Error::new(Kind::Invalid, e.to_string()))?;
    }
    text.push(b'\n');
    match timeout(WRITE_LIMIT, writer.write_all(&text)).await {
        Ok(written) => written.map_err(|e| Error::io("cannot answer", e)),
        Err(_) => Err(Error::new(Kind::Io, "the asking side does not read its answer")),
    }
}
