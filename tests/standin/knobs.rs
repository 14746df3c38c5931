//! What can be made to go wrong.

use std::time::Duration;

use serde_json::Value;

use super::State;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Upload,
    Lookup,
    Download,
    Delete,
    Message,
}

/// What goes wrong with it.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answered with a status, a body, and headers, in place of being done.
    Answer { status: u16, body: String, headers: Vec<(&'static str, String)> },
    /// Done, but answered only after this time.
    Delay(Duration),
    /// The connection is cut without a word, nothing done.
    Drop,
    /// Done, and then the connection is cut without a word.
    DropAfter,
    /// Done, and the answer is cut after so many bytes of its body.
    CutAfter(usize),
    /// Done, and the answer stands still after so many bytes of its body.
    StallAfter(usize),
    /// Done, and answered without a length; after so many bytes of the body the answer ends as if that were all.
    EndAfter(usize),
}

impl Fault {
    /// Nothing but a status.
    pub fn status(status: u16) -> Fault {
        Fault::Answer { status, body: String::new(), headers: Vec::new() }
    }

    /// An error of the Graph API.
    pub fn graph(status: u16, code: i64, message: &str) -> Fault {
        Fault::Answer {
            status,
            body: super::answers::error_body(code, None, message, None).to_string(),
            headers: Vec::new(),
        }
    }

    /// Too many requests: status 429, the throughput's code, and a time to wait.
    pub fn throttle(retry_after: &str) -> Fault {
        let body = super::answers::error_body(130_429, None, "(#130429) Rate limit hit", None).to_string();
        Fault::Answer { status: 429, body, headers: vec![("retry-after", retry_after.to_owned())] }
    }

    /// A JSON value with status 200.
    pub fn json(body: &Value) -> Fault {
        Fault::Answer { status: 200, body: body.to_string(), headers: Vec::new() }
    }
}

impl State {
    /// The fault that this call meets, if any.
    pub(super) fn take_fault(&mut self, call: Call) -> Option<Fault> {
        let at = self.faults.iter().position(|(of, _, times)| *of == call && *times > 0)?;
        self.faults[at].2 -= 1;
        Some(self.faults[at].1.clone())
    }
}
