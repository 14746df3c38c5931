//! What an operator asks of a node, through the daemon's own socket or with the volume open in a command.

use serde::{Deserialize, Serialize};

use super::core::Core;
use super::queue::JobId;
use super::tokens::{Role, Token};
use super::webhooks::dead::{DeadWebhook, dead_webhooks, replay_webhooks};
use crate::error::{Error, Kind, Result};

/// Webhooks in one page.
const DEAD_PAGE: usize = 100;

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Wish {
    /// Make a token.
    CreateToken {
        /// Whose it is.
        name: String,
        /// What its holder may do.
        role: Role,
        /// For how many seconds; none until it is revoked.
        keep_secs: Option<i64>,
    },
    /// Tell all tokens.
    ListTokens,
    /// Tell a page of webhooks that were given up.
    DeadWebhooks {
        /// Only those behind the one with this number.
        after: JobId,
    },
    /// Try webhooks again that were given up.
    ReplayWebhooks {
        /// Their numbers; none: all.
        ids: Option<Vec<JobId>>,
    },
    /// End all tokens of a name.
    RevokeToken {
        /// The name.
        name: String,
    },
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Wish::CreateToken`].
    Created {
        /// The token itself, which is kept nowhere.
        text: String,
        /// What is known of it.
        token: Token,
    },
    /// To [`Wish::ListTokens`].
    Tokens(Vec<Token>),
    /// To [`Wish::DeadWebhooks`]; empty behind the last.
    Dead(Vec<DeadWebhook>),
    /// To [`Wish::ReplayWebhooks`]: how many are tried again.
    Replayed(usize),
    /// To [`Wish::RevokeToken`]: how many ended.
    Revoked(usize),
}

/// Does what is asked.
///
/// # Errors
/// `Invalid` for a wish of another version; those of the parts.
pub fn answer(core: &Core, wish: serde_json::Value) -> Result<serde_json::Value> {
    let wish = serde_json::from_value(wish).map_err(|error| {
        Error::new(Kind::Version, format!("the daemon does not know this wish ({error}); restart it with this version"))
    })?;
    let volume = &core.volume;
    let answer = match wish {
        Wish::CreateToken { name, role, keep_secs } => {
            let (text, token) = core.tokens.create(volume, &name, role, keep_secs)?;
            Answer::Created { text, token }
        }
        Wish::DeadWebhooks { after } => Answer::Dead(dead_webhooks(&core.jobs, after, DEAD_PAGE)?),
        Wish::ReplayWebhooks { ids } => Answer::Replayed(replay_webhooks(&core.jobs, ids.as_deref())?),
        Wish::ListTokens => Answer::Tokens(core.tokens.list(volume.now())),
        Wish::RevokeToken { name } => Answer::Revoked(core.tokens.revoke(volume, &name)?),
    };
    serde_json::to_value(answer).map_err(|error| Error::new(Kind::Io, "the answer is no JSON").with_source(error))
}
