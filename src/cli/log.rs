//! Where log lines go, and in which form: stderr, the journal, and for a daemon in the background a file or syslog.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use parking_lot::Mutex;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::journal::{self, Journal};
use crate::error::{Error, Kind, Result};

/// The socket of syslog, which journald serves too.
const SYSLOG_SOCKET: &str = "/dev/log";
/// Facility `daemon`, as syslog writes it.
const SYSLOG_FACILITY: u8 = 3 << 3;

/// What is logged unless said otherwise, by a daemon and by other commands.
const DAEMON_LEVEL: &str = "info";
const COMMAND_LEVEL: &str = "warn";

/// What is logged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// A command that is soon over.
    Command,
    /// A daemon whose log stays on stderr.
    Foreground,
    /// A daemon whose log leaves stderr.
    Background,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
    /// Entries of the journal, with their fields
    Journal,
}

enum Sink {
    Stderr,
    /// The stderr of a caller that waits for a daemon: it wants to know what is wrong, and nothing else.
    Caller,
    File(File),
    Syslog(UnixDatagram),
    Nothing,
}

/// Where log lines go; can be changed while it is in use. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    sink: Arc<Mutex<Sink>>,
    /// Whether everything goes to the journal, and to the sink only what a caller waits for.
    in_journal: bool,
}

impl Log {
    /// Starts logging, for the whole process: to the journal if that is asked for, or if stderr leads there and nothing else
    /// is asked for; else to stderr.
    ///
    /// # Errors
    /// `Invalid` when `level` is neither a level nor a filter, `Io` when the journal is asked for and there is none.
    pub fn start(level: Option<&str>, format: Option<Format>, course: Course) -> Result<Log> {
        let default = if course == Course::Command { COMMAND_LEVEL } else { DAEMON_LEVEL };
        let level = level.filter(|level| !level.is_empty()).unwrap_or(default);
        let filter = filter(level)?;
        let is_background = course == Course::Background;
        let journal = match format {
            Some(Format::Journal) => {
                Some(Journal::connect().map_err(|e| Error::io("there is no journal to log to", e))?)
            }
            // Without journald's socket the lines still reach the journal by stderr.
            None if !is_background && journal::is_stderr() => Journal::connect().ok(),
            _ => None,
        };
        let in_journal = journal.is_some();
        let log = Log { sink: Arc::new(Mutex::new(if in_journal { Sink::Nothing } else { Sink::Stderr })), in_journal };
        let lines = tracing_subscriber::fmt::layer().with_writer(log.clone());
        // Colours would follow the log to its file.
        let ansi = !is_background && io::IsTerminal::is_terminal(&io::stderr());
        let lines: Box<dyn Layer<_> + Send + Sync> = match format {
            Some(Format::Json) => lines.json().flatten_event(true).with_ansi(false).boxed(),
            _ => lines.with_ansi(ansi).boxed(),
        };
        let subscriber = Registry::default().with(filter).with(lines).with(journal);
        // Only the first call in a process counts; a second one would be a test.
        let _ = tracing::subscriber::set_global_default(subscriber);
        Ok(log)
    }

    /// Sends the messages of panics to the log too: a daemon in the background has no stderr.
    pub fn catch_panics(&self) {
        let log = self.clone();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // With the log on stderr the usual message is enough.
            let is_elsewhere = log.sink.try_lock().is_some_and(|sink| !matches!(*sink, Sink::Stderr | Sink::Caller));
            if is_elsewhere {
                tracing::error!("{panic}");
            }
            before(panic);
        }));
    }

    /// Sends what follows to a file, made with mode 0600 or appended to.
    ///
    /// # Errors
    /// `Io` when it cannot be opened, `Invalid` when the log goes to the journal.
    pub fn to_file(&self, path: &Path) -> Result<()> {
        if self.in_journal {
            let message =
                "the log goes to a file or to the journal: give --log-file, or --log-format journal, not both";
            return Err(Error::new(Kind::Invalid, message));
        }
        let file = File::options().create(true).append(true).mode(0o600).open(path);
        let file = file.map_err(|e| Error::io(format!("cannot write the log to {}", path.display()), e))?;
        *self.sink.lock() = Sink::File(file);
        Ok(())
    }

    /// Sends warnings and errors to stderr, and nothing else: to the command that waits for a daemon.
    pub fn to_caller(&self) {
        *self.sink.lock() = Sink::Caller;
    }

    /// Sends what follows to stderr again.
    pub fn to_stderr(&self) {
        *self.sink.lock() = Sink::Stderr;
    }

    /// Leaves what follows to the journal; whether the log goes there.
    #[must_use]
    pub fn to_journal(&self) -> bool {
        if self.in_journal {
            *self.sink.lock() = Sink::Nothing;
        }
        self.in_journal
    }

    /// Sends what follows to syslog, or nowhere when there is none; whether there is one.
    #[must_use]
    pub fn to_syslog(&self) -> bool {
        let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(SYSLOG_SOCKET).map(|()| socket));
        let (sink, is_there) = match connected {
            Ok(socket) => (Sink::Syslog(socket), true),
            Err(_) => (Sink::Nothing, false),
        };
        *self.sink.lock() = sink;
        is_there
    }
}

/// Reads a level, or directives such as `wamedia::volume=debug`. A plain word that is no level would be taken for the
/// name of a module, and silence all others.
fn filter(level: &str) -> Result<EnvFilter> {
    let refused = |word: &str, why: &str| {
        let message = format!("`{word}` is no log level{why}; write error, warn, info, debug, trace or off");
        Error::new(Kind::Invalid, message)
    };
    let is_plain = |word: &&str| !word.contains(['=', '[', ':']) && *word != env!("CARGO_PKG_NAME");
    for word in level.split(',').map(str::trim).filter(is_plain) {
        if !word.is_empty() && word.parse::<LevelFilter>().is_err() {
            return Err(refused(word, ""));
        }
    }
    EnvFilter::try_new(level).map_err(|error| refused(level, &format!(" ({error})")))
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine { log: self.clone(), severity: severity(Level::INFO) }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LogLine {
        LogLine { log: self.clone(), severity: severity(*metadata.level()) }
    }
}

/// Takes one line at a time.
pub struct LogLine {
    log: Log,
    severity: u8,
}

impl Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.log.sink.lock() {
            Sink::Caller if self.severity > severity(Level::WARN) => {}
            Sink::Stderr | Sink::Caller => io::stderr().write_all(line)?,
            Sink::File(file) => file.write_all(line)?,
            Sink::Syslog(socket) => {
                let mut packet =
                    format!("<{}>wamedia[{}]: ", SYSLOG_FACILITY | self.severity, std::process::id()).into_bytes();
                packet.extend_from_slice(line.trim_ascii_end());
                socket.send(&packet)?;
            }
            Sink::Nothing => {}
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The severity of a level in syslog's numbers.
#[must_use]
pub fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_to_the_file_once_it_is_set() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = Log { sink: Arc::new(Mutex::new(Sink::Nothing)), in_journal: false };
        log.make_writer().write_all(b"before\n").unwrap();
        log.to_file(&path).unwrap();
        log.make_writer().write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
        assert!(log.to_file(&directory.path().join("none/log")).is_err());
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        for word in ["wran", "loud", "info,wran", "wamedia=loud", "warning"] {
            let error = filter(word).err().unwrap_or_else(|| panic!("{word} was taken"));
            assert!(error.to_string().contains("error, warn, info"), "{error}");
        }
        for word in ["warn", "INFO", "off", "info,wamedia::volume=debug", "wamedia::fs", "wamedia"] {
            assert!(filter(word).is_ok(), "{word}");
        }
        assert_eq!(
            Log::start(Some("wamedia=loud"), None, Course::Command).err().map(|e| e.kind()),
            Some(Kind::Invalid)
        );
    }
}
