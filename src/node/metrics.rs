//! `/metrics` for Prometheus, and the same for people at `/v1/stats`.
//!
//! Names and units follow Prometheus's conventions ("Metric and label naming"): base units, `_total` for what only grows.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::core::{Core, blocking};
use super::envelope::{ApiError, Meta};
use super::queue::Topic;
use crate::error::Result;
use crate::volume::{Status, Volume};

/// The media type of the text that OpenMetrics scrapers read.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    method: String,
    path: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Way {
    method: String,
    path: String,
}

/// What the node counts while it runs.
pub(super) struct Metrics {
    answers: Family<Answered, Counter>,
    durations: Family<Way, Histogram, fn() -> Histogram>,
    pub received: Counter,
    pub given: Counter,
}

/// From half a millisecond to half a minute.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 17))
}

impl Metrics {
    pub fn new() -> Metrics {
        Metrics {
            answers: Family::default(),
            durations: Family::new_with_constructor(durations),
            received: Counter::default(),
            given: Counter::default(),
        }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("http_answers", "Answers of the HTTP API", self.answers.clone());
        registry.register_with_unit(
            "http_answer_duration",
            "Time from the head of a request to the head of its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        let received = "Bytes of media that were uploaded and stored";
        registry.register_with_unit("media_received", received, Unit::Bytes, self.received.clone());
        let given = "Bytes of media that were given to clients";
        registry.register_with_unit("media_given", given, Unit::Bytes, self.given.clone());
    }
}

/// Counts an answer, under the path of its route.
pub async fn count(State(core): State<Arc<Core>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let path = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().as_str();
    // A method is the client's word: only the known ones become labels.
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let method = if known.contains(&method) { method.to_owned() } else { "other".to_owned() };
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let metrics = &core.metrics;
    metrics.answers.get_or_create(&Answered { method: method.clone(), path: path.clone(), status }).inc();
    metrics.durations.get_or_create(&Way { method, path }).observe(begun.elapsed().as_secs_f64());
    response
}

type Sum = Gauge<u64, AtomicU64>;

fn gauge(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, value: u64) {
    let gauge = Sum::default();
    gauge.set(value);
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, gauge),
        None => registry.register(name, help, gauge),
    }
}

fn by(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    label: &'static str,
    values: Vec<(String, u64)>,
) {
    let family: Family<[(&'static str, String); 1], Sum> = Family::default();
    for (word, value) in values {
        family.get_or_create(&[(label, word)]).set(value);
    }
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, family),
        None => registry.register(name, help, family),
    }
}

const TOPICS: [(Topic, &str); 6] = [
    (Topic::Event, "notification"),
    (Topic::Webhook, "webhook"),
    (Topic::Download, "download"),
    (Topic::Send, "send"),
    (Topic::Settle, "settle"),
    (Topic::Gc, "gc"),
];

fn describe_volume(registry: &mut Registry, status: &Status, now: i64) {
    let bytes = || Some(Unit::Bytes);
    gauge(registry, "volume_used", "Bytes of media", bytes(), status.used_bytes);
    if let Some(max) = status.max_bytes {
        gauge(registry, "volume_quota", "Bytes the volume may hold", bytes(), max);
    }
    gauge(registry, "volume_reserved", "Bytes of the quota that are kept for classes", bytes(), status.reserved_bytes);
    gauge(registry, "volume_media", "Media", None, status.media);
    if let Some(max) = status.max_media {
        gauge(registry, "volume_media_quota", "Media the volume may hold", None, max);
    }
    gauge(registry, "volume_expired_media", "Media past their retention", None, status.expired);
    gauge(registry, "volume_expired", "Bytes of media past their retention", bytes(), status.expired_bytes);
    gauge(registry, "volume_held_media", "Media that are held", None, status.held);
    gauge(registry, "volume_backing_free", "Free bytes of the backing file system", bytes(), status.backing_free_bytes);
    gauge(registry, "volume_backing_floor", "Bytes of it that are never used", bytes(), status.floor_bytes);
    let is_well = u64::from(status.state == "ok");
    gauge(registry, "volume_writable", "1 when the volume takes writes, 0 when it is poisoned", None, is_well);
    let oldest = status.oldest.map_or(0, |at| u64::try_from(now - at.secs).unwrap_or(0));
    gauge(registry, "volume_oldest_age", "Age of the oldest medium", Some(Unit::Seconds), oldest);
    gauge(
        registry,
        "volume_scrub_damaged_media",
        "Media that the last scrub found damaged",
        None,
        status.scrub.damaged_media,
    );
    let media = status.by_kind.iter().map(|(kind, count, _)| (kind.clone(), *count)).collect();
    by(registry, "volume_kind_media", "Media of a kind", None, "kind", media);
    let sizes = status.by_kind.iter().map(|(kind, _, bytes)| (kind.clone(), *bytes)).collect();
    by(registry, "volume_kind", "Bytes of media of a kind", bytes(), "kind", sizes);
    let refused = Counter::<u64>::default();
    refused.inc_by(status.refused_writes);
    registry.register("volume_refused_writes", "Writes refused by quota, reserve or floor since the start", refused);
}

fn text_of(core: &Core) -> Result<String> {
    let status = core.volume.status()?;
    let mut registry = Registry::with_prefix("wamedia");
    describe_volume(&mut registry, &status, core.volume.now().secs);
    let waiting = TOPICS.iter().map(|(topic, word)| ((*word).to_owned(), core.jobs.count(*topic) as u64)).collect();
    by(&mut registry, "jobs", "Work that is still to be done", None, "topic", waiting);
    let dead = TOPICS.iter().map(|(topic, word)| ((*word).to_owned(), core.jobs.dead_count(*topic) as u64)).collect();
    by(&mut registry, "dead_letters", "Work that was given up", None, "topic", dead);
    core.metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry)
        .map_err(|error| crate::error::Error::new(crate::error::Kind::Io, "metrics").with_source(error))?;
    Ok(text)
}

/// Everything that is counted, in the text form of OpenMetrics.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "get_metrics",
    tag = "health",
    responses(
        (status = 200, description = "The text form of OpenMetrics 1.0.", body = String, content_type = "application/openmetrics-text"),
    ),
    security(("bearer" = []), ("d360" = []))
)]
pub async fn metrics(State(core): State<Arc<Core>>) -> std::result::Result<Response, ApiError> {
    let text = blocking(move || text_of(&core)).await?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

/// How much work of a kind there is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// The kind of work.
    pub topic: String,
    /// Pieces that are still to be done.
    pub jobs: u64,
}

/// The figures of a volume and its node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// Bytes of media.
    pub used_bytes: u64,
    /// Bytes the volume may hold, if that is bounded.
    pub max_bytes: Option<u64>,
    /// Media.
    pub media: u64,
    /// Media past their retention.
    pub expired: u64,
    /// Bytes of them.
    pub expired_bytes: u64,
    /// Media that are held.
    pub held: u64,
    /// Writes refused since the start.
    pub refused_writes: u64,
    /// Bytes uploaded and stored since the start.
    pub received_bytes: u64,
    /// Bytes given to clients since the start.
    pub given_bytes: u64,
    /// Work that is still to be done.
    pub waiting: Vec<Waiting>,
    /// Work that was given up.
    pub dead_letters: u64,
}

/// The answer with the figures.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatsAnswer {
    /// The figures.
    pub stats: Stats,
    /// As in every answer.
    pub meta: Meta,
}

fn stats_of(core: &Core, volume: &Volume) -> Result<Stats> {
    let status = volume.status()?;
    let waiting =
        |(topic, word): &(Topic, &str)| Waiting { topic: (*word).to_owned(), jobs: core.jobs.count(*topic) as u64 };
    Ok(Stats {
        used_bytes: status.used_bytes,
        max_bytes: status.max_bytes,
        media: status.media,
        expired: status.expired,
        expired_bytes: status.expired_bytes,
        held: status.held,
        refused_writes: status.refused_writes,
        received_bytes: core.metrics.received.get(),
        given_bytes: core.metrics.given.get(),
        waiting: TOPICS.iter().map(waiting).collect(),
        dead_letters: TOPICS.iter().map(|(topic, _)| core.jobs.dead_count(*topic) as u64).sum(),
    })
}

/// The figures of the volume and the node.
#[utoipa::path(
    get,
    path = "/v1/stats",
    operation_id = "get_stats",
    tag = "health",
    responses(
        (status = 200, description = "The figures.", body = StatsAnswer),
    ),
    security(("bearer" = []), ("d360" = []))
)]
pub async fn stats(State(core): State<Arc<Core>>) -> std::result::Result<Json<StatsAnswer>, ApiError> {
    let stats = blocking(move || stats_of(&core, &core.volume)).await?;
    Ok(Json(StatsAnswer { stats, meta: Meta::new() }))
}
