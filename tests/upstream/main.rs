//! The clients of the upstreams against the stand-in, in both dialects, and the stand-in against what it must refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../standin/mod.rs"]
mod standin;

mod bodies;
mod failures;
mod messages;
mod protocol;
mod uploads;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use standin::{Dialect, PHONE_NUMBER_ID, StandIn, TOKEN};
use wamedia::node::Secret;
use wamedia::node::upstream::{Body, Source, Timeouts, Upstream, UpstreamConfig, UpstreamError};

const DIALECTS: [Dialect; 2] = [Dialect::CloudApi, Dialect::Dialog360];

/// Waits that no healthy exchange comes near.
const PATIENT: Timeouts =
    Timeouts { connect: Duration::from_secs(60), answer: Duration::from_secs(60), idle: Duration::from_secs(60) };
/// Waits for what never comes.
const IMPATIENT: Timeouts =
    Timeouts { connect: Duration::from_secs(60), answer: Duration::from_millis(300), idle: Duration::from_millis(300) };

fn config(dialect: Dialect, base: String, token: &str, timeouts: Timeouts) -> UpstreamConfig {
    let secret = Secret::new(token.to_owned());
    match dialect {
        Dialect::CloudApi => {
            UpstreamConfig::CloudApi { base, phone_number_id: PHONE_NUMBER_ID.to_owned(), token: secret, timeouts }
        }
        Dialect::Dialog360 => UpstreamConfig::Dialog360 { base, api_key: secret, timeouts },
    }
}

/// A stand-in and a client of it.
async fn pair(dialect: Dialect, timeouts: Timeouts) -> (StandIn, Upstream) {
    let server = StandIn::start(dialect).await;
    let upstream = Upstream::new(config(dialect, server.base(), TOKEN, timeouts)).unwrap();
    (server, upstream)
}

/// Bytes as a source of several pieces.
fn source(bytes: &[u8]) -> Source {
    let pieces: Vec<_> = bytes.chunks(64 * 1024).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces).boxed()
}

async fn whole(body: Body) -> Result<Vec<u8>, UpstreamError> {
    body.try_fold(Vec::new(), |mut all, piece| async move {
        all.extend_from_slice(&piece);
        Ok(all)
    })
    .await
}

/// Bytes without a pattern that could hide a piece that is missing or twice there.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}
