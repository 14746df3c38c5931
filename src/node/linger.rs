//! Reading on after a refusal, so that a client that is still sending gets to see it.
//!
//! A connection that is closed with bytes unread is reset, and the answer with it (RFC 9112, 9.6).

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;

/// How long it is read on.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes of a body that are taken from somebody who showed no token.
pub const LITTLE: u64 = 256 << 10;

/// Reads and forgets the rest of a body beside the answer: at most `most` bytes, for five seconds.
pub fn linger(mut body: Body, most: u64) {
    tokio::spawn(tokio::time::timeout(LINGER, async move {
        let mut left = most;
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(len) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    }));
}
