//! What all requests that leave the node have in common: TLS, no proxy and no redirect of their own, bounded bodies.

use std::error::Error as StdError;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use tokio::time::{Sleep, timeout};

use crate::error::{Error, Kind, Result};

/// How the node names itself. Meta's media servers refuse requests without a `User-Agent`.
const USER_AGENT: &str = concat!("wamedia/", env!("CARGO_PKG_VERSION"));

/// How long an idle connection is kept: shorter than servers keep theirs, so that a request seldom meets a connection
/// that is being closed (nginx closes after 75 s, most load balancers after 60 s).
const IDLE_CONNECTION: Duration = Duration::from_secs(15);

/// The longest time that a `Retry-After` is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest foreign text, in characters, that goes into an error of ours.
const MAX_FOREIGN_TEXT: usize = 500;

/// A client with the system's root certificates, without a proxy from the environment, that follows no redirect.
pub(super) fn builder(connect: Duration) -> reqwest::ClientBuilder {
    // Fails when a provider stands already, ours or another's: both serve.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(connect)
        .pool_idle_timeout(IDLE_CONNECTION)
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
}

/// The client that was described.
///
/// # Errors
/// `Io` when there are no root certificates to trust.
pub(super) fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    builder.build().map_err(|e| {
        Error::new(
            Kind::Io,
            format!("TLS cannot be set up: {}; are the system's root certificates installed?", reason(&e)),
        )
    })
}

/// Why a request failed, without the URL, which may hold what is secret.
pub(super) fn reason(error: &(dyn StdError + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    match deepest.downcast_ref::<reqwest::Error>() {
        Some(error) if error.is_timeout() => "no answer in time".to_owned(),
        Some(_) => "the request failed".to_owned(),
        None => bounded(&deepest.to_string()),
    }
}

/// A text of foreign origin as it may stand in an error or a log: one line, no control characters, bounded.
pub(super) fn bounded(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_FOREIGN_TEXT).collect()
}

/// What `Retry-After` asks for: seconds, or a date counted from the answer's own `Date`; at most a day.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(secs) => Duration::from_secs(secs),
        Err(_) => {
            let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
            httpdate::parse_http_date(text).ok()?.duration_since(date).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the connection was lost after {0} bytes: {1}")]
    Cut(u64, String),
    #[error("nothing came for {0:?} after {1} bytes")]
    Idle(Duration, u64),
    #[error("it took longer than {0:?}")]
    Late(Duration),
    #[error("it has more than {0} bytes")]
    TooLong(u64),
    #[error("it ended after {0} of {1} bytes")]
    Short(u64, u64),
}

/// A time in which something must be over.
pub(super) struct Deadline {
    within: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Deadline {
    /// Starts now.
    pub(super) fn new(within: Duration) -> Deadline {
        Deadline { within, sleep: Box::pin(tokio::time::sleep(within)) }
    }

    /// What `work` gives, or how long it was waited for.
    pub(super) async fn meet<T>(&mut self, work: impl Future<Output = T>) -> std::result::Result<T, Duration> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.sleep.as_mut() => Err(self.within),
        }
    }
}

/// The bounds of a body.
pub(super) struct Bounds {
    /// The longest time between two pieces.
    pub(super) idle: Duration,
    /// When all of it must be there.
    pub(super) deadline: Option<Deadline>,
    /// The most bytes it may have.
    pub(super) most: u64,
    /// How many bytes it must have, if known.
    pub(super) exactly: Option<u64>,
}

/// The body of an answer, piece by piece, within its bounds.
pub(super) fn body(
    response: reqwest::Response,
    bounds: Bounds,
) -> impl Stream<Item = std::result::Result<Bytes, Broken>> + Send {
    stream::try_unfold((response, bounds, 0_u64), |(mut response, mut bounds, seen)| async move {
        let piece = timeout(bounds.idle, response.chunk());
        let piece = match &mut bounds.deadline {
            Some(deadline) => deadline.meet(piece).await.map_err(Broken::Late)?,
            None => piece.await,
        };
        let piece = piece
            .map_err(|_| Broken::Idle(bounds.idle, seen))?
            .map_err(|e| Broken::Cut(seen, reason(&e.without_url())))?;
        let Some(piece) = piece else {
            return match bounds.exactly {
                Some(length) if seen < length => Err(Broken::Short(seen, length)),
                _ => Ok(None),
            };
        };
        let seen = seen.saturating_add(piece.len() as u64);
        let most = bounds.exactly.map_or(bounds.most, |length| length.min(bounds.most));
        if seen > most { Err(Broken::TooLong(most)) } else { Ok(Some((piece, (response, bounds, seen)))) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_be_made_any_number_of_times() {
        for _ in 0..3 {
            build(builder(Duration::from_secs(1))).unwrap();
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let waits = |pairs: &[(reqwest::header::HeaderName, &str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            retry_after(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(waits(&[]), None);
        assert_eq!(waits(&[(RETRY_AFTER, "7")]), Some(7));
        assert_eq!(waits(&[(RETRY_AFTER, "-7")]), None);
        assert_eq!(waits(&[(RETRY_AFTER, "99999999999")]), Some(86_400));
        let date = (RETRY_AFTER, "Wed, 21 Oct 2015 07:28:30 GMT");
        assert_eq!(waits(std::slice::from_ref(&date)), None);
        assert_eq!(waits(&[date.clone(), (DATE, "Wed, 21 Oct 2015 07:28:00 GMT")]), Some(30));
        assert_eq!(waits(&[date, (DATE, "Wed, 21 Oct 2015 07:29:00 GMT")]), Some(0));
    }

    #[test]
    fn foreign_text_is_one_bounded_line() {
        assert_eq!(bounded("a\nb\u{1b}[31mc"), "a b [31mc");
        assert_eq!(bounded(&"ä".repeat(2 * MAX_FOREIGN_TEXT)).chars().count(), MAX_FOREIGN_TEXT);
    }
}
