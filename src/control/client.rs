//! The asking side; blocking, for commands.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::message::{
    Event, Hello, Line, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, PROTOCOL_VERSION, Reply, Request, error_of,
};
use super::socket;
use crate::error::{Error, Kind, Result};

/// How long the daemon may be silent; while it works it says so more often.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// How long its first line may take.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// A connection to the daemon of a mounted volume.
pub struct Client {
    stream: BufReader<UnixStream>,
    hello: Hello,
}

impl Client {
    /// Connects to the daemon that serves `store`; `None` when there is none.
    ///
    /// # Errors
    /// `AccessDenied` for other users than the owner and root, `Version` for a daemon that speaks another protocol,
    /// `Io` when it does not answer.
    pub fn connect(store: &Path) -> Result<Option<Client>> {
        Client::connect_within(store, HELLO_LIMIT, SILENCE_LIMIT)
    }

    /// The same for somebody who has less patience: the daemon's first line may take `hello`, and it may be silent for
    /// `silence`.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_within(store: &Path, hello: Duration, silence: Duration) -> Result<Option<Client>> {
        let Some(stream) = socket::connect(store)? else { return Ok(None) };
        set_timeouts(&stream, hello)?;
        let mut stream = BufReader::new(stream);
        let line = read_line(&mut stream)?;
        let Ok(hello) = serde_json::from_slice::<Hello>(&line) else {
            return Err(refusal(&line));
        };
        if hello.protocol != PROTOCOL_VERSION {
            return Err(Error::new(
                Kind::Version,
                format!(
                    "the daemon (process {}, version {}) speaks control protocol {}, this command speaks {PROTOCOL_VERSION}; unmount with the version that mounted",
                    hello.pid, hello.version, hello.protocol
                ),
            ));
        }
        set_timeouts(stream.get_ref(), silence)?;
        Ok(Some(Client { stream, hello }))
    }

    /// What the daemon said of itself.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Asks, and waits for the answer; news on the way go to `events`.
    ///
    /// # Errors
    /// Those of the daemon, with their kind; `Io` when the connection breaks; `TooBig` for a request beyond its bound.
    pub fn ask(&mut self, request: &Request, events: &mut dyn FnMut(Event)) -> Result<Reply> {
        let mut line = serde_json::to_vec(request).map_err(|e| Error::new(Kind::Invalid, e.to_string()))?;
        if line.len() >= MAX_REQUEST_BYTES {
            return Err(Error::new(Kind::TooBig, "the request is too long; name fewer media at a time"));
        }
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(broken)?;
        loop {
            match parse(&read_line(&mut self.stream)?)? {
                Line::Event(event) => events(event),
                Line::Result(reply) => return Ok(reply),
                Line::Error { kind, message } => return Err(error_of(&kind, message)),
            }
        }
    }

    /// Waits until the daemon has closed the connection, which it does when its process ends.
    pub fn wait_for_end(mut self) {
        let mut rest = [0; 256];
        while matches!(self.stream.read(&mut rest), Ok(count) if count > 0) {}
    }
}

fn set_timeouts(stream: &UnixStream, limit: Duration) -> Result<()> {
    stream.set_read_timeout(Some(limit)).map_err(broken)?;
    stream.set_write_timeout(Some(limit)).map_err(broken)
}

/// Reads one line of at most [`MAX_ANSWER_BYTES`], without its end.
fn read_line(stream: &mut BufReader<UnixStream>) -> Result<Vec<u8>> {
    let limit = u64::try_from(MAX_ANSWER_BYTES).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    stream.by_ref().take(limit).read_until(b'\n', &mut line).map_err(broken)?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        Some(_) if line.len() + 1 >= MAX_ANSWER_BYTES => {
            Err(Error::new(Kind::TooBig, "the daemon's answer is longer than the protocol allows"))
        }
        _ => Err(Error::new(Kind::Io, "the daemon closed the connection before it had answered; its log tells why")),
    }
}

/// The error in a line that should have been the hello.
fn refusal(line: &[u8]) -> Error {
    match parse::<Line>(line) {
        Ok(Line::Error { kind, message }) => error_of(&kind, message),
        _ => Error::new(Kind::Version, "the daemon does not speak this command's control protocol"),
    }
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T> {
    serde_json::from_slice(line)
        .map_err(|e| Error::new(Kind::Version, format!("the daemon's answer is not understood: {e}")).with_source(e))
}

fn broken(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            Error::new(Kind::Io, "the daemon does not answer; its log tells more").with_source(error)
        }
        _ => Error::io("the connection to the daemon broke", error),
    }
}
