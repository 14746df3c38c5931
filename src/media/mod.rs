//! What the bytes of a medium are: their MIME type, the kind of WhatsApp message they fit, and whether WhatsApp
//! would take them as that kind.
//!
//! The bytes come from strangers. Nothing here panics, allocates or loops in proportion to what a file merely
//! claims: all reading goes through a `Window` with a budget, and every parser of another crate runs behind
//! `shield`. Nothing here knows where the bytes are kept.

mod audio;
mod detect;
mod extension;
mod jpeg;
mod kind;
mod movie;
mod ogg;
mod png;
mod shield;
mod text;
mod verdict;
mod webp;
mod window;
mod zip;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod sample_tests;

use std::io::{self, Cursor, Read, Seek};

pub use extension::extension;
pub use kind::{Kind, kind_of, limit};
pub use verdict::{Reason, Verdict};

use window::Window;

/// How many bytes of the beginning [`sniff`] looks at, at most.
pub const SNIFF_BYTES: usize = 8192;

/// What a medium is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The MIME type found in the bytes, lower case, with parameters where WhatsApp asks for them
    /// (`audio/ogg; codecs=opus`). Bytes that nothing is known of are `application/octet-stream`.
    pub mime: String,
    /// The kind of message the type fits.
    pub kind: Kind,
    /// Whether WhatsApp would take the medium as that kind.
    pub verdict: Verdict,
}

/// Tells the best MIME type from the beginning of a medium of `len` bytes, without blocking.
///
/// Give up to [`SNIFF_BYTES`]; more are not looked at. `name` is the file's name, used only where the bytes say no
/// more than "text" (`report.csv`) or "some old office document". A type whose proof lies further back, such as that
/// of an MP4 with sound alone under a general brand, is told exactly by [`inspect`] only.
#[must_use]
pub fn sniff(head: &[u8], len: u64, name: Option<&[u8]>) -> &'static str {
    if len == 0 {
        return detect::EMPTY;
    }
    let head = head.get(..SNIFF_BYTES).unwrap_or(head);
    let mut window = Window::new(Cursor::new(head), head.len() as u64);
    detect::mime(&mut window, head, name)
}

/// Reads what it needs of a medium of `len` bytes and decides type, kind and verdict.
///
/// Blocks on `reader`, which is read in aligned pieces of 64 KiB: one or two of them for most documents, the whole
/// of a JPEG, PNG or Opus file that is within its limit, the index of an MP4. No more than 64 MiB are ever read and
/// no more memory than that is asked for at the very worst (an MP4 made for it, whose index alone is 8 MiB); a few
/// hundred KiB are usual. `name` is used as in [`sniff`].
///
/// # Errors
/// The first failure of `reader`. Bytes that make no sense are no error but [`Reason::Damaged`].
pub fn inspect<R: Read + Seek>(reader: R, len: u64, name: Option<&[u8]>) -> io::Result<Facts> {
    let mut window = Window::new(reader, len);
    let facts = examine(&mut window, name);
    match window.into_failure() {
        Some(error) => Err(error),
        None => Ok(facts),
    }
}

fn examine<R: Read + Seek>(window: &mut Window<R>, name: Option<&[u8]>) -> Facts {
    let head = window.bytes_at(0, SNIFF_BYTES).unwrap_or_default();
    let mime = detect::mime(window, &head, name);
    let kind = kind_of(mime);
    let reason = if window.len() == 0 {
        Some(Reason::Empty)
    } else if window.len() > limit(kind) {
        Some(Reason::TooLarge)
    } else {
        fault(window, mime)
    };
    Facts { mime: mime.to_owned(), kind, verdict: Verdict::from(reason) }
}

/// Why a medium of this type and within its limit would be refused, if it would.
fn fault<R: Read + Seek>(window: &mut Window<R>, mime: &str) -> Option<Reason> {
    match mime {
        "image/jpeg" => jpeg::fault(window),
        "image/png" => png::fault(window),
        "image/webp" => webp::fault(window),
        "audio/aac" | "audio/mpeg" | "audio/amr" => audio::fault(window, mime),
        "audio/mp4" | "video/mp4" | "video/3gpp" => movie::fault(window, mime),
        ogg::OPUS => ogg::fault(window),
        _ => None,
    }
}
