//! `/metrics` for Prometheus, and the same for people at `/v1/stats`.
//!
//! Names and units follow Prometheus's conventions ("Metric and label naming"): base units, `_total` for what only grows.

mod classic;
mod volume;

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::core::{Core, blocking};
use super::envelope::{ApiError, Meta};
use super::figures::{TOPICS, figures};
use super::queue::Topic;
use crate::error::{Error, Kind, Result};
use crate::volume::Volume;
use classic::{CLASSIC, from_open_metrics};
use volume::Figures;

/// The media type of the text that OpenMetrics scrapers read.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What it is asked for by.
const OPEN_METRICS_TYPE: &str = "application/openmetrics-text";

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

/// Everything that is counted, in the text form of OpenMetrics.
///
/// # Errors
/// Those of [`Volume::overview`].
pub fn open_metrics(core: &Core) -> Result<String> {
    let figures = Figures { overview: core.volume.overview()?, node: figures(core)? };
    let mut registry = Registry::with_prefix("wamedia");
    registry.register_collector(Box::new(figures));
    core.metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Error::new(Kind::Io, "metrics").with_source(error))?;
    Ok(text)
}

/// The same in the classic text form.
///
/// # Errors
/// As [`open_metrics`].
pub fn classic(core: &Core) -> Result<String> {
    open_metrics(core).map(|text| from_open_metrics(&text))
}

/// Everything that is counted, in the text form that is asked for: OpenMetrics when `Accept` names it, else the classic one.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "get_metrics",
    tag = "health",
    params(("Accept" = Option<String>, Header, description = "`application/openmetrics-text` for that form.")),
    responses(
        (status = 200, description = "The figures.", content(
            (String = "text/plain"),
            (String = "application/openmetrics-text"),
        )),
    ),
    security(("bearer" = []), ("d360" = []))
)]
pub async fn metrics(State(core): State<Arc<Core>>, headers: HeaderMap) -> std::result::Result<Response, ApiError> {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let is_open = accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with(OPEN_METRICS_TYPE));
    let text = blocking(move || if is_open { open_metrics(&core) } else { classic(&core) }).await?;
    Ok(([(CONTENT_TYPE, if is_open { OPEN_METRICS } else { CLASSIC })], text).into_response())
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
