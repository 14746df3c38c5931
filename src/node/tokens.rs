//! Access tokens: random, kept as their digests, with a role and an end.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::tables::TOKENS;
use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::sync::RwLock;
use crate::volume::{StateBatch, Volume};

/// What the text of a token begins with, so that one that leaked can be told from other text.
const PREFIX: &str = "wam_";
/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// How long a token lasts that a login gave: 7 days, as the WhatsApp Business API client has it.
const LOGIN_SECS: i64 = 7 * 24 * 3600;
/// Tokens in one page of the state log.
const PAGE: usize = 500;
/// The most tokens a volume keeps.
const MAX_TOKENS: usize = 10_000;
/// The most bytes a token's name may have.
const MAX_NAME: usize = 128;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Media and messages, but no settings and no clean-up.
    User,
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Whose it is. A login gives tokens of the same name.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends; none lasts until it is revoked.
    pub expires: Option<Timestamp>,
    /// Whether a login gave it.
    pub login: bool,
}

/// The SHA-256 of a token.
pub type TokenId = [u8; 32];

/// The tokens of a volume. What is asked of them costs no I/O.
#[derive(Default)]
pub struct Tokens {
    known: RwLock<HashMap<TokenId, Token>>,
}

/// The digest of a token's text, under which it is kept: 256 random bits need no slow hash.
#[must_use]
pub fn id_of(text: &str) -> TokenId {
    Sha256::digest(text.as_bytes()).into()
}

impl Tokens {
    /// Reads those of a volume.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn load(volume: &Volume) -> Result<Tokens> {
        let mut known = HashMap::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = volume.state_scan(TOKENS, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page {
                let id = key.as_slice().try_into();
                let token = serde_json::from_slice(&value);
                match (id, token) {
                    (Ok(id), Ok(token)) => drop(known.insert(id, token)),
                    _ => tracing::warn!("a token in the state log makes no sense and is left out"),
                }
            }
        }
        Ok(Tokens { known: RwLock::new(known) })
    }

    /// Makes a token and gives its text, which is kept nowhere.
    ///
    /// # Errors
    /// `Invalid` for a name that is empty or too long; `Exists` when there are too many; those of the state log.
    pub fn create(&self, volume: &Volume, name: &str, role: Role, keep: Option<i64>) -> Result<(String, Token)> {
        if name.is_empty() || name.len() > MAX_NAME || name.contains([':', '\n', '\r']) {
            return Err(Error::new(
                Kind::Invalid,
                format!("a token's name has 1 to {MAX_NAME} bytes and no colon or line break"),
            ));
        }
        self.make(volume, name, role, keep, false)
    }

    fn make(&self, volume: &Volume, name: &str, role: Role, keep: Option<i64>, login: bool) -> Result<(String, Token)> {
        self.forget_ended(volume)?;
        if self.known.read().len() >= MAX_TOKENS {
            return Err(Error::new(Kind::Exists, format!("there are {MAX_TOKENS} tokens; revoke some first")));
        }
        let mut bytes = zeroize::Zeroizing::new([0; TOKEN_BYTES]);
        clock::random_bytes(&mut *bytes);
        use base64::Engine as _;
        let text = format!("{PREFIX}{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*bytes));
        let created = volume.now();
        let token =
            Token { name: name.to_owned(), role, created, expires: keep.map(|secs| created.plus_secs(secs)), login };
        let id = id_of(&text);
        let value = serde_json::to_vec(&token)
            .map_err(|error| Error::new(Kind::Io, "a token could not be written").with_source(error))?;
        volume.state_commit(StateBatch::new().put(TOKENS, &id, value))?;
        self.known.write().insert(id, token.clone());
        Ok((text, token))
    }

    /// Whose a token is that has not ended.
    #[must_use]
    pub fn find(&self, text: &str, now: Timestamp) -> Option<(TokenId, Token)> {
        let id = id_of(text);
        self.known(&id, now).map(|token| (id, token))
    }

    /// What is known of a token that has not ended, by its digest.
    #[must_use]
    pub fn known(&self, id: &TokenId, now: Timestamp) -> Option<Token> {
        let token = self.known.read().get(id).cloned()?;
        token.expires.is_none_or(|end| end > now).then_some(token)
    }

    /// Gives who shows a name and a token that no login gave a new token for seven days.
    ///
    /// # Errors
    /// `WrongKey` when they do not belong together; as [`Tokens::create`].
    pub fn log_in(&self, volume: &Volume, name: &str, secret: &str) -> Result<(String, Token)> {
        match self.find(secret, volume.now()) {
            Some((_, token)) if token.name == name && !token.login => {
                self.make(volume, name, token.role, Some(LOGIN_SECS), true)
            }
            _ => Err(Error::new(Kind::WrongKey, "the name and the token do not belong together")),
        }
    }

    /// Ends one token.
    ///
    /// # Errors
    /// `NotFound`; those of the state log.
    pub fn end(&self, volume: &Volume, id: &TokenId) -> Result<()> {
        if !self.known.read().contains_key(id) {
            return Err(Error::new(Kind::NotFound, "no such token"));
        }
        volume.state_commit(StateBatch::new().delete(TOKENS, id))?;
        self.known.write().remove(id);
        Ok(())
    }

    /// Ends all tokens of this name, those of logins too; gives how many.
    ///
    /// # Errors
    /// `NotFound` when there are none; those of the state log.
    pub fn revoke(&self, volume: &Volume, name: &str) -> Result<usize> {
        let gone: Vec<TokenId> =
            self.known.read().iter().filter(|(_, token)| token.name == name).map(|(id, _)| *id).collect();
        if gone.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("no token is named {name}")));
        }
        self.remove(volume, &gone)?;
        Ok(gone.len())
    }

    fn remove(&self, volume: &Volume, gone: &[TokenId]) -> Result<()> {
        let mut batch = StateBatch::new();
        for id in gone {
            batch.delete(TOKENS, id);
        }
        volume.state_commit(&batch)?;
        let mut known = self.known.write();
        for id in gone {
            known.remove(id);
        }
        Ok(())
    }

    fn forget_ended(&self, volume: &Volume) -> Result<()> {
        let now = volume.now();
        let is_over = |token: &Token| token.expires.is_some_and(|end| end <= now);
        let gone: Vec<TokenId> =
            self.known.read().iter().filter(|(_, token)| is_over(token)).map(|(id, _)| *id).collect();
        self.remove(volume, &gone)
    }

    /// All tokens that have not ended, by name and time.
    #[must_use]
    pub fn list(&self, now: Timestamp) -> Vec<Token> {
        let mut all: Vec<Token> = self.known.read().values().cloned().collect();
        all.retain(|token| token.expires.is_none_or(|end| end > now));
        all.sort_by(|a, b| (&a.name, a.created).cmp(&(&b.name, b.created)));
        all
    }
}
