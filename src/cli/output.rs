//! Results on stdout: tables and human units for people, JSON lines for programs.

use std::io::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
pub use crate::words::{media_count, printable, size, time};

/// Writes one line to stdout.
///
/// # Errors
/// `Io` when nobody reads it.
pub fn line(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(b"\n")).map_err(failed)
}

/// Writes a value as one line of JSON.
///
/// # Errors
/// As [`line()`].
pub fn json<T: Serialize>(value: &T) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Error::new(Kind::Invalid, e.to_string()))?;
    line(&text)
}

fn failed(error: std::io::Error) -> Error {
    Error::io("cannot write the result", error)
}

/// Whether a failure is that nobody reads stdout any more (`wamedia ls | head`), which is no failure of the command.
#[must_use]
pub fn is_broken_pipe(error: &Error) -> bool {
    error.os_errno() == Some(libc::EPIPE)
}

/// An empty table without lines; columns with these numbers are aligned to the right.
#[must_use]
pub fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header.to_vec());
    }
    let width = header.len().max(right.iter().max().map_or(0, |last| last + 1));
    for number in 0..width {
        if let Some(column) = table.column_mut(number) {
            column.set_padding((0, 2));
            if right.contains(&number) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
}

/// Writes a table, without blanks at the ends of its lines.
///
/// # Errors
/// As [`line()`].
pub fn print(table: &Table) -> Result<()> {
    if table.is_empty() && table.header().is_none() {
        return Ok(());
    }
    for row in table.lines() {
        line(row.trim_end())?;
    }
    Ok(())
}

/// Writes names and values, one pair per line.
///
/// # Errors
/// As [`line()`].
pub fn pairs(rows: &[(&str, String)]) -> Result<()> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        line(format!("{name:width$}  {}", printable(value)).trim_end())?;
    }
    Ok(())
}

/// Bytes in binary units, or that there is no limit.
#[must_use]
pub fn size_limit(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "none".to_owned(), size)
}

/// How long something is kept, in words.
#[must_use]
pub fn keep(time: Option<Duration>) -> String {
    time.map_or_else(|| "forever".to_owned(), clock::short)
}

/// A point in time, or a dash.
#[must_use]
pub fn time_or_dash(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_shown_as_people_read_them() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(8 << 20), "8.0 MiB");
        assert_eq!(size_limit(None), "none");
        assert_eq!(keep(Some(Duration::from_secs(90 * 86_400))), "90d");
        assert_eq!(keep(Some(Duration::from_secs(31_557_600))), "1y");
        assert_eq!(keep(None), "forever");
    }

    #[test]
    fn dates_for_programs_are_rfc_3339() {
        assert_eq!(Timestamp { secs: 0, nanos: 0 }.rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp { secs: -1, nanos: 500_000_000 }.rfc3339(), "1969-12-31T23:59:59.5Z");
        assert_eq!(Timestamp { secs: i64::MAX, nanos: 0 }.rfc3339(), i64::MAX.to_string());
        assert_eq!(time(Timestamp { secs: i64::MIN, nanos: 0 }), format!("@{}", i64::MIN));
        assert_eq!(time(Timestamp { secs: 86_400 * 400, nanos: 0 }).len(), 19);
    }

    #[test]
    fn a_terminal_obeys_no_name() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{202e}gpj"), "a\\u{1b}[2Jb\\n\\u{202e}gpj");
        assert_eq!(printable("Grüße 世界.jpg"), "Grüße 世界.jpg");
    }

    #[test]
    fn a_table_has_a_header_and_no_trailing_blanks() {
        let mut table = table(&["ID", "SIZE"], &[1]);
        table.add_row(["a", "10"]);
        let rows: Vec<String> = table.lines().map(|row| row.trim_end().to_owned()).collect();
        assert_eq!(rows, ["ID  SIZE", "a     10"]);
    }
}
