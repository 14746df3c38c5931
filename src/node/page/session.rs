//! Who has logged in to the page: in memory alone, so that the end of the daemon ends every session.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::clock;
use crate::node::tokens::TokenId;
use crate::sync::Mutex;
use crate::volume::hex;

/// How long a session lasts.
pub const LIFE: Duration = Duration::from_secs(12 * 3600);
/// Sessions at a time; with more the oldest ends.
const MAX_SESSIONS: usize = 100;
/// Random bytes of a session's secret, and of what its forms carry.
const SECRET_BYTES: usize = 32;

/// Somebody who has logged in.
#[derive(Clone, Debug)]
pub struct Session {
    /// The token it was made from: when that ends, so does the session.
    pub token: TokenId,
    /// Whose that is.
    pub name: String,
    /// What every form of the session carries, so that no form of another page is taken for one.
    pub form_key: String,
    begun: Instant,
}

impl Session {
    /// Whether a form carries the key of this session's forms.
    pub fn has_made(&self, form_key: &str) -> bool {
        self.form_key.as_bytes().ct_eq(form_key.as_bytes()).into()
    }

    fn is_over(&self) -> bool {
        self.begun.elapsed() >= LIFE
    }
}

/// All sessions, by the digest of their secret.
#[derive(Default)]
pub struct Sessions {
    /// A leaf lock.
    known: Mutex<HashMap<[u8; 32], Session>>,
}

fn secret() -> String {
    let mut bytes = [0; SECRET_BYTES];
    clock::random_bytes(&mut bytes);
    hex(&bytes)
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl Sessions {
    /// Begins a session for the holder of a token; gives its secret, which is kept nowhere.
    pub fn begin(&self, token: TokenId, name: String) -> String {
        let secret_of_session = secret();
        let session = Session { token, name, form_key: secret(), begun: Instant::now() };
        let mut known = self.known.lock();
        known.retain(|_, session| !session.is_over());
        if known.len() >= MAX_SESSIONS
            && let Some(oldest) = known.iter().min_by_key(|(_, session)| session.begun).map(|(id, _)| *id)
        {
            known.remove(&oldest);
        }
        known.insert(digest(&secret_of_session), session);
        secret_of_session
    }

    /// Whose session this is.
    pub fn find(&self, secret: &str) -> Option<Session> {
        self.known.lock().get(&digest(secret)).filter(|session| !session.is_over()).cloned()
    }

    /// Ends a session.
    pub fn end(&self, secret: &str) {
        self.known.lock().remove(&digest(secret));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_by_its_secret_until_it_ends() {
        let sessions = Sessions::default();
        let (one, two) = (sessions.begin([1; 32], "a".into()), sessions.begin([2; 32], "b".into()));
        assert_eq!((one.len(), sessions.find(&one).unwrap().name), (64, "a".to_owned()));
        let (first, second) = (sessions.find(&one).unwrap(), sessions.find(&two).unwrap());
        assert!(first.has_made(&first.form_key) && !first.has_made(&second.form_key) && !first.has_made(""));
        sessions.end(&one);
        assert!(sessions.find(&one).is_none() && sessions.find("").is_none() && sessions.find(&two).is_some());
    }

    #[test]
    fn with_too_many_sessions_the_oldest_ends() {
        let sessions = Sessions::default();
        let first = sessions.begin([0; 32], "first".into());
        let others: Vec<String> = (0..MAX_SESSIONS).map(|_| sessions.begin([1; 32], "other".into())).collect();
        assert!(sessions.find(&first).is_none());
        assert!(others.iter().all(|secret| sessions.find(secret).is_some()));
    }
}
