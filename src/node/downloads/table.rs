//! What is known of inbound media: which of the upstream's they are, and what became of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::Result;
use crate::ids::MediaId;
use crate::node::core::Core;
use crate::node::queue::{JobId, NewJob, Plan, Topic, decode, encode, millis};
use crate::node::tables::{INBOUND, INBOUND_IDS};
use crate::node::webhooks::{Carried, outgoing};
use crate::volume::Volume;

/// How long an inbound medium is known: the upstream forgets its id after seven days.
const KNOWN_MS: i64 = 8 * 24 * 3600 * 1000;
/// The most bytes of a number and an upstream's id together.
pub const MAX_ID: usize = 256;
/// The most characters of a type that are kept.
const MAX_TYPE: usize = 256;

/// What became of an inbound medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was never asked for.
    Known,
    /// A job is to fetch it.
    Queued,
    /// It is in the volume.
    Stored,
    /// It could not be fetched.
    Failed,
}

/// An inbound medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// The upstream's id.
    pub upstream_id: String,
    /// The phone number id it came to.
    pub number: String,
    /// The name of its object in webhooks.
    pub kind: String,
    /// Its type, as the upstream writes it.
    pub mime_type: String,
    /// Its digest in hex, when the upstream told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// When it was told of, in milliseconds since 1970.
    pub received: i64,
    /// What became of it.
    pub state: State,
    /// Whether the business is told how its fetching ended.
    pub announce: bool,
    /// The webhook that is held back until it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<JobId>,
}

/// What a message that waits for a medium is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// To wait on.
    Wait,
    /// That it is stored.
    Stored,
    /// That it is not, and need not be waited for.
    Missing,
}

/// An inbound medium by its media id.
///
/// # Errors
/// `Damaged`, `Io`.
pub fn get(volume: &Volume, id: &MediaId) -> Result<Option<Inbound>> {
    volume.state_get(INBOUND, id.0.as_bytes())?.map(|bytes| decode(&bytes)).transpose()
}

pub fn put(plan: &mut Plan, id: &MediaId, inbound: &Inbound) -> Result<()> {
    plan.put(INBOUND, id.0.as_bytes(), encode(inbound)?);
    Ok(())
}

fn id_key(number: &str, upstream_id: &str) -> Vec<u8> {
    format!("{number}/{upstream_id}").into_bytes()
}

/// The media id of an upstream's medium: the one it has, or a new one.
///
/// # Errors
/// `Damaged`, `Io`.
pub fn media_id(core: &Core, number: &str, upstream_id: &str) -> Result<MediaId> {
    let known = core.volume.state_get(INBOUND_IDS, &id_key(number, upstream_id))?;
    let known = known.and_then(|bytes| Uuid::from_slice(&bytes).ok());
    Ok(MediaId(known.unwrap_or_else(Uuid::new_v4)))
}

/// Notes an inbound medium. With `held`, the webhook that waits for it, a job fetches it; without, it is fetched when
/// the business asks for it.
///
/// # Errors
/// `NoSpace` when too much is queued; those of the state log.
pub fn note_inbound(
    core: &Core,
    plan: &mut Plan,
    id: MediaId,
    number: &str,
    medium: &Carried,
    held: Option<JobId>,
) -> Result<()> {
    let known = get(&core.volume, &id)?;
    let is_known = matches!(known.as_ref().map(|known| known.state), Some(State::Queued | State::Stored));
    if is_known && held.is_none() {
        return Ok(());
    }
    let inbound = Inbound {
        upstream_id: medium.upstream_id.clone(),
        number: number.to_owned(),
        kind: medium.kind.clone(),
        mime_type: medium.mime_type.chars().take(MAX_TYPE).collect(),
        sha256: medium.sha256.clone(),
        received: core.jobs.now(),
        state: if held.is_some() { State::Queued } else { State::Known },
        announce: known.is_some_and(|known| known.announce && known.state == State::Queued),
        held,
    };
    plan.put(INBOUND_IDS, &id_key(number, &medium.upstream_id), id.0.as_bytes().to_vec());
    put(plan, &id, &inbound)?;
    if held.is_some() {
        queue(core, plan, &id, &inbound)?;
    }
    Ok(())
}

/// Adds the job that fetches a medium.
fn queue(core: &Core, plan: &mut Plan, id: &MediaId, inbound: &Inbound) -> Result<()> {
    let job = NewJob {
        lane: format!("medium {id}"),
        group: inbound.number.clone(),
        payload: id.0.as_bytes().to_vec(),
        due: 0,
    };
    core.jobs.add(plan, Topic::Download, job).map(drop)
}

/// Has a medium fetched because the business asks for it, and told how that ended; false when it is unknown. Durable on
/// return.
///
/// # Errors
/// `NoSpace` when too much is queued; those of the state log.
pub fn ask_for(core: &Core, id: &MediaId) -> Result<bool> {
    let _one = core.inbound.lock();
    let Some(mut inbound) = get(&core.volume, id)? else { return Ok(false) };
    let mut plan = Plan::new();
    let is_queued = inbound.state == State::Queued;
    (inbound.state, inbound.announce) = (State::Queued, true);
    put(&mut plan, id, &inbound)?;
    if !is_queued {
        queue(core, &mut plan, id, &inbound)?;
    }
    core.jobs.commit(plan)?;
    Ok(true)
}

/// What a message is told that waits for a medium until `until`. When that is over, the business is told later how the
/// fetching ended; durable on return.
///
/// # Errors
/// Those of the state log.
pub fn look(core: &Core, id: &MediaId, until: i64) -> Result<Look> {
    let _one = core.inbound.lock();
    let Some(mut inbound) = get(&core.volume, id)? else { return Ok(Look::Missing) };
    match inbound.state {
        State::Stored => Ok(Look::Stored),
        State::Failed | State::Known => Ok(Look::Missing),
        State::Queued if core.jobs.now() < until => Ok(Look::Wait),
        State::Queued => {
            if !inbound.announce {
                inbound.announce = true;
                let mut plan = Plan::new();
                put(&mut plan, id, &inbound)?;
                core.jobs.commit(plan)?;
            }
            Ok(Look::Missing)
        }
    }
}

/// How fetching ended.
pub enum End {
    /// It is in the volume, with this digest.
    Stored(String),
    /// It could not be fetched.
    Failed,
}

/// Keeps how the fetching of a medium ended, with what follows from it: `plan` is kept too. Durable on return.
///
/// # Errors
/// Those of the state log.
pub fn end(core: &Arc<Core>, id: &MediaId, end: &End, mut plan: Plan) -> Result<()> {
    let _one = core.inbound.lock();
    let Some(mut inbound) = get(&core.volume, id)? else { return core.jobs.commit(plan) };
    inbound.state = match end {
        End::Stored(sha256) => {
            inbound.sha256 = Some(sha256.clone());
            State::Stored
        }
        End::Failed => State::Failed,
    };
    if let Some(held) = inbound.held.take() {
        plan.hasten(Topic::Webhook, held);
    }
    if std::mem::take(&mut inbound.announce) {
        outgoing::tell_now(&core.jobs, &mut plan, &format!("medium {id}"), webhook(id, &inbound))?;
    }
    put(&mut plan, id, &inbound)?;
    core.jobs.commit(plan)
}

/// What the business is told of a medium that it asked for.
fn webhook(id: &MediaId, inbound: &Inbound) -> Value {
    let mut medium = json!({"id": id.to_string(), "mime_type": inbound.mime_type});
    if let (Some(sha256), Value::Object(fields)) = (&inbound.sha256, &mut medium) {
        fields.insert("sha256".to_owned(), sha256.clone().into());
    }
    let is_stored = inbound.state == State::Stored;
    if let Value::Object(fields) = &mut medium {
        fields.insert("status".to_owned(), if is_stored { "downloaded" } else { "undownloaded" }.into());
    }
    let kind = inbound.kind.as_str();
    let mut item = json!({"type": kind, kind: medium});
    if let (false, Value::Object(fields)) = (is_stored, &mut item) {
        let details = "Media not found in the datastore.";
        fields.insert("errors".to_owned(), json!([{"code": 400, "title": "Parameter not valid", "details": details}]));
    }
    json!({"media_items": [item]})
}

/// Forgets inbound media that the upstream no longer has.
///
/// # Errors
/// Those of the state log.
pub fn sweep(core: &Core) -> Result<()> {
    let before = millis(core.volume.now()).saturating_sub(KNOWN_MS);
    let mut old = Vec::new();
    crate::node::queue::each(&core.volume, INBOUND, |key, value| {
        if let Ok(inbound) = decode::<Inbound>(value)
            && inbound.received < before
            && inbound.state != State::Queued
        {
            old.push((key.to_vec(), id_key(&inbound.number, &inbound.upstream_id)));
        }
    })?;
    for step in old.chunks(500) {
        let mut plan = Plan::new();
        for (key, id_key) in step {
            plan.delete(INBOUND, key).delete(INBOUND_IDS, id_key);
        }
        core.jobs.commit(plan)?;
    }
    Ok(())
}
