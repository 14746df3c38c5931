//! Log lines as entries of the journal, in its own protocol: a priority, a message that can be read alone, and each field
//! of the event as a field of the entry.
//!
//! The datagrams are those of <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

use std::fmt::{Debug, Write as _};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::log::severity;

/// Where journald takes entries.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Before the name of each field of ours.
const PREFIX: &str = "WAMEDIA_";
/// Bytes of one value at most, so that an entry fits into a datagram.
const VALUE_LIMIT: usize = 16 << 10;
/// What marks a line of stderr as an error for journald.
const ERROR_MARK: &str = "<3>";

/// Whether stderr leads to the journal, as systemd says of the services that it starts (`JOURNAL_STREAM`).
#[must_use]
pub fn is_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr()).is_ok_and(|stat| format!("{}:{}", stat.st_dev, stat.st_ino) == stream)
}

/// What an error's line on stderr begins with, for the journal to know it as one; nothing elsewhere.
#[must_use]
pub fn error_mark() -> &'static str {
    if is_stderr() { ERROR_MARK } else { "" }
}

/// Sends events to journald. One that it does not take goes to stderr.
pub struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    /// Connects to journald.
    ///
    /// # Errors
    /// Those of the socket: there is no journald, or it may not be reached.
    pub fn connect() -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        Ok(Journal { socket })
    }

    /// Connected anew when journald has been started again since.
    fn send(&self, entry: &[u8]) -> io::Result<()> {
        self.socket.send(entry).or_else(|_| self.socket.connect(SOCKET).and_then(|()| self.socket.send(entry)))?;
        Ok(())
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let entry = Entry::of(event);
        if self.send(&entry.to_bytes()).is_err() {
            // There is no third place to tell of it.
            let _ = writeln!(io::stderr(), "<{}>{}", entry.severity, entry.line());
        }
    }
}

/// One entry.
struct Entry {
    severity: u8,
    target: String,
    place: Option<(String, u32)>,
    message: String,
    fields: Vec<(String, String)>,
}

impl Entry {
    fn of(event: &Event<'_>) -> Entry {
        let metadata = event.metadata();
        let mut entry = Entry {
            severity: severity(*metadata.level()),
            target: metadata.target().to_owned(),
            place: metadata.file().map(str::to_owned).zip(metadata.line()),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut entry);
        entry
    }

    /// The message with its fields: `journalctl` shows no more than that.
    fn line(&self) -> String {
        let mut line = self.message.clone();
        for (name, value) in &self.fields {
            let space = if line.is_empty() { "" } else { " " };
            // A String takes everything.
            let _ = write!(line, "{space}{name}={value}");
        }
        line
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        put(&mut bytes, "PRIORITY", &self.severity.to_string());
        put(&mut bytes, "SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
        put(&mut bytes, "MESSAGE", &self.line());
        put(&mut bytes, "WAMEDIA_TARGET", &self.target);
        if let Some((file, line)) = &self.place {
            put(&mut bytes, "CODE_FILE", file);
            put(&mut bytes, "CODE_LINE", &line.to_string());
        }
        for (name, value) in &self.fields {
            put(&mut bytes, &name_of(name), value);
        }
        bytes
    }
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.fields.push((field.name().to_owned(), value.to_owned()));
        }
    }
}

/// The journal knows names of upper-case letters, digits and underscores alone.
fn name_of(field: &str) -> String {
    let letters = field.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    PREFIX.chars().chain(letters).collect()
}

/// Adds a field with its length before it, so that a value may have lines and say nothing of other fields.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    let value = cut(value).as_bytes();
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
}

fn cut(value: &str) -> &str {
    if value.len() <= VALUE_LIMIT {
        return value;
    }
    // A character has four bytes at most.
    (VALUE_LIMIT - 3..=VALUE_LIMIT).rev().find_map(|end| value.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a datagram, as journald reads them.
    fn read(mut bytes: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
            let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let (length, rest) = bytes[end + 1..].split_at(8);
            let (value, rest) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            fields.push((name, String::from_utf8(value.to_vec()).unwrap()));
            assert_eq!(rest[0], b'\n');
            bytes = &rest[1..];
        }
        fields
    }

    #[test]
    fn an_entry_is_read_as_it_was_told() {
        let entry = Entry {
            severity: 3,
            target: "wamedia::cli".to_owned(),
            place: Some(("src/cli/daemon.rs".to_owned(), 7)),
            message: "it failed".to_owned(),
            fields: vec![("error".to_owned(), "no room\nPRIORITY=7".to_owned()), ("a.b-c".to_owned(), "1".to_owned())],
        };
        let expected = [
            ("PRIORITY", "3"),
            ("SYSLOG_IDENTIFIER", "wamedia"),
            ("MESSAGE", "it failed error=no room\nPRIORITY=7 a.b-c=1"),
            ("WAMEDIA_TARGET", "wamedia::cli"),
            ("CODE_FILE", "src/cli/daemon.rs"),
            ("CODE_LINE", "7"),
            ("WAMEDIA_ERROR", "no room\nPRIORITY=7"),
            ("WAMEDIA_A_B_C", "1"),
        ];
        assert_eq!(read(&entry.to_bytes()), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_long_value_is_cut_between_two_characters() {
        let mut bytes = Vec::new();
        put(&mut bytes, "MESSAGE", &format!("x{}", "ä".repeat(VALUE_LIMIT)));
        let (_, value) = read(&bytes).remove(0);
        assert_eq!(value.len(), VALUE_LIMIT - 1);
    }
}
