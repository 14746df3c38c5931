//! How a volume is doing, on a terminal: looked at again and again through the daemon's socket, drawn anew each time.

mod pace;
mod picture;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Terminal};
use tokio::signal::unix::{SignalKind, signal};

use super::session::{self, Session};
use crate::control::{Hello, Reply, Request};
use crate::error::{Error, Kind, Result};
use crate::node::figures::NodeFigures;
use crate::volume::Overview;
use picture::Picture;

/// How soon a key, or the end, is heard.
const HEARING: Duration = Duration::from_millis(100);
/// The size of a picture that is printed.
const PAPER: (u16, u16) = (100, 60);

/// How a volume is doing at one moment.
pub struct Look {
    /// The volume and its mount.
    pub overview: Overview,
    /// The node's work.
    pub node: NodeFigures,
    taken: Instant,
}

impl Look {
    /// Asks whoever has the volume.
    ///
    /// # Errors
    /// Those of [`Session::ask`].
    pub fn take(session: &mut Session) -> Result<Look> {
        let Reply::Overview { overview, node } = session.ask_quietly(&Request::Overview)? else {
            return Err(session::unexpected());
        };
        let node = serde_json::from_value(node).map_err(|_| session::unexpected())?;
        Ok(Look { overview: *overview, node, taken: Instant::now() })
    }
}

/// One picture as plain text.
#[must_use]
pub fn once(look: &Look, hello: Option<&Hello>) -> String {
    // Nothing fails that draws into memory.
    let Ok(mut terminal) = Terminal::new(TestBackend::new(PAPER.0, PAPER.1));
    let Ok(_) = terminal.draw(|frame| Picture { look, before: None, hello }.draw(frame));
    let buffer = terminal.backend().buffer();
    let rows = buffer.content.chunks(usize::from(PAPER.0));
    let lines: Vec<String> = rows
        .map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned())
        .collect();
    lines.join("\n").trim_end().to_owned()
}

/// Shows pictures until a key or a signal ends it. The terminal is as it was then, whatever has happened.
///
/// # Errors
/// Those of [`Look::take`], when the daemon has ended for one; `Io` when the terminal cannot be used.
pub fn live(session: &mut Session, interval: Duration) -> Result<()> {
    let is_over = ended_by_signal()?;
    // Before the screen is taken, so that a refusal is seen.
    let first = Look::take(session)?;
    let mut terminal = ratatui::try_init().map_err(|e| Error::io("the terminal cannot be used", e))?;
    let outcome = show(&mut terminal, session, first, interval, &is_over);
    ratatui::restore();
    outcome
}

fn ended_by_signal() -> Result<Arc<AtomicBool>> {
    let is_over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_over);
    let failed = |e| Error::io("cannot listen for signals", e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut terminate, mut hangup) = {
        let _within = runtime.enter();
        (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::hangup()).map_err(failed)?)
    };
    let listen = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        told.store(true, Ordering::Release);
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(listen);
    thread.map(|_| is_over).map_err(failed)
}

fn show(
    terminal: &mut DefaultTerminal,
    session: &mut Session,
    first: Look,
    interval: Duration,
    is_over: &AtomicBool,
) -> Result<()> {
    let failed = |e| Error::io("the terminal cannot be used", e);
    let (mut look, mut before) = (first, None::<Look>);
    loop {
        let hello = session.hello().cloned();
        let mut draw = |look: &Look, before: Option<&Look>| {
            terminal.draw(|frame| Picture { look, before, hello: hello.as_ref() }.draw(frame)).map(drop).map_err(failed)
        };
        draw(&look, before.as_ref())?;
        let until = look.taken + interval;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if is_over.load(Ordering::Acquire) {
                return Ok(());
            }
            if !event::poll(left.min(HEARING)).map_err(failed)? {
                continue;
            }
            match event::read().map_err(failed)? {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                    if is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                        return Ok(());
                    }
                }
                Event::Resize(..) => draw(&look, before.as_ref())?,
                _ => {}
            }
        }
        let next = Look::take(session).map_err(|error| match error.kind() {
            Kind::Io => Error::new(Kind::Io, "the daemon has ended, or answers no more").with_source(error),
            _ => error,
        })?;
        before = Some(std::mem::replace(&mut look, next));
    }
}
