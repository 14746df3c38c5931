//! The figures of a volume, its mount, and the node's work, read when they are asked for.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::node::figures::NodeFigures;
use crate::volume::{BOUNDS, MountFigures, OperationFigures, Overview};

/// What one scrape tells.
#[derive(Debug)]
pub struct Figures {
    /// Of the volume and its mount.
    pub overview: Overview,
    /// Of the node.
    pub node: NodeFigures,
}

/// Writes families of one value or of several.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        let metric = ConstGauge::new(value);
        metric.encode(self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?)
    }

    /// A gauge that is only there when there is something to tell.
    fn known(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: Option<u64>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.gauge(name, help, unit, value))
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        let metric = ConstCounter::new(value);
        metric.encode(self.0.encode_descriptor(name, help, unit, MetricType::Counter)?)
    }

    fn each<'v>(
        &mut self,
        (name, help, kind): (&str, &str, MetricType),
        unit: Option<&Unit>,
        label: &str,
        values: impl Iterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        for (word, value) in values {
            let labels = [(label, word)];
            let sample = family.encode_family(&labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value).encode(sample)?,
                _ => ConstGauge::new(value).encode(sample)?,
            }
        }
        Ok(())
    }

    fn durations(&mut self, name: &str, help: &str, operations: &[OperationFigures]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for figures in operations {
            let labels = [("operation", figures.operation.as_str())];
            let mut sample = family.encode_family(&labels)?;
            // What is longer than all bounds stands last.
            let bounds = BOUNDS.iter().map(|nanos| seconds(*nanos)).chain([f64::INFINITY]);
            let classes: Vec<(f64, u64)> = bounds.zip(figures.classes.iter().copied()).collect();
            sample.encode_histogram::<NoLabelSet>(seconds(figures.nanos), figures.count(), &classes, None)?;
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure is no more exact than that")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn secs_of(secs: i64) -> u64 {
    u64::try_from(secs).unwrap_or(0)
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut to = Writer(encoder);
        // An info, as OpenMetrics has it, is nothing that the classic form knows.
        let version = [(env!("CARGO_PKG_VERSION"), 1)];
        to.each(
            ("build_info", "1, with the version of wamedia", MetricType::Gauge),
            None,
            "version",
            version.into_iter(),
        )?;
        self.volume(&mut to)?;
        self.scrub(&mut to)?;
        mount(&self.overview.mount, &mut to)?;
        self.node(&mut to)
    }
}

impl Figures {
    fn volume(&self, to: &mut Writer<'_>) -> fmt::Result {
        let (status, bytes) = (&self.overview.status, Some(&Unit::Bytes));
        to.gauge("volume_used", "Bytes of media", bytes, status.used_bytes)?;
        to.known("volume_quota", "Bytes the volume may hold", bytes, status.max_bytes)?;
        let size = self.overview.growth.size_bytes;
        to.gauge("volume_size", "Bytes of room for media, as df shows it", bytes, size)?;
        to.gauge("volume_reserved", "Bytes of the quota that are kept for classes", bytes, status.reserved_bytes)?;
        to.gauge("volume_media", "Media", None, status.media)?;
        to.known("volume_media_quota", "Media the volume may hold", None, status.max_media)?;
        to.gauge("volume_directories", "Directories", None, status.directories)?;
        to.gauge("volume_expired_media", "Media past their retention", None, status.expired)?;
        to.gauge("volume_expired", "Bytes of media past their retention", bytes, status.expired_bytes)?;
        to.gauge("volume_held_media", "Media that are held", None, status.held)?;
        to.gauge("volume_backing_free", "Free bytes of the backing file system", bytes, status.backing_free_bytes)?;
        to.gauge("volume_backing_floor", "Bytes of it that are never used", bytes, status.floor_bytes)?;
        let is_well = u64::from(status.state == "ok");
        to.gauge("volume_writable", "1 when the volume takes writes, 0 when it is poisoned", None, is_well)?;
        let oldest = status.oldest.map_or(0, |at| secs_of(self.overview.now.secs.saturating_sub(at.secs)));
        to.gauge("volume_oldest_age", "Age of the oldest medium", Some(&Unit::Seconds), oldest)?;
        let media = status.by_kind.iter().map(|(kind, count, _)| (kind.as_str(), *count));
        to.each(("volume_kind_media", "Media of a kind", MetricType::Gauge), None, "kind", media)?;
        let sizes = status.by_kind.iter().map(|(kind, _, bytes)| (kind.as_str(), *bytes));
        to.each(("volume_kind", "Bytes of media of a kind", MetricType::Gauge), bytes, "kind", sizes)?;
        to.counter(
            "volume_refused_writes",
            "Writes refused by quota, reserve or floor since the start",
            None,
            status.refused_writes,
        )?;
        let purged = &status.sweep;
        to.counter("volume_purged_media", "Expired media removed by schedule or mark", None, purged.purged_media)?;
        to.counter("volume_purged", "Bytes of them", bytes, purged.purged_bytes)?;
        to.counter(
            "volume_authentication_failures",
            "Sealed bytes that were not what had been written, since the start",
            None,
            self.overview.forged,
        )
    }

    fn scrub(&self, to: &mut Writer<'_>) -> fmt::Result {
        let scrub = &self.overview.status.scrub;
        to.gauge("volume_scrub_running", "1 while a scrub runs", None, u64::from(scrub.is_running))?;
        let verified = scrub.run.as_ref().map_or(0, |run| run.bytes);
        to.gauge(
            "volume_scrub_verified",
            "Bytes of media that the scrub under way has verified; of volume_used_bytes",
            Some(&Unit::Bytes),
            verified,
        )?;
        to.gauge("volume_scrub_damaged_media", "Media that scrubs found damaged", None, scrub.damaged_media)?;
        to.known(
            "volume_scrub_last_finished_timestamp",
            "When the last scrub came to its end, since 1970",
            Some(&Unit::Seconds),
            scrub.last.as_ref().map(|last| secs_of(last.finished.secs)),
        )
    }

    fn node(&self, to: &mut Writer<'_>) -> fmt::Result {
        let queues = || self.node.queues.iter();
        let jobs = queues().map(|queue| (queue.topic.as_str(), queue.jobs));
        to.each(("jobs", "Work that is still to be done", MetricType::Gauge), None, "topic", jobs)?;
        let ages = queues().map(|queue| (queue.topic.as_str(), queue.oldest_secs));
        let help = "Time since the oldest work that is still to be done was taken on";
        to.each(("jobs_oldest_age", help, MetricType::Gauge), Some(&Unit::Seconds), "topic", ages)?;
        let dead = queues().map(|queue| (queue.topic.as_str(), queue.dead_letters));
        to.each(("dead_letters", "Work that was given up", MetricType::Gauge), None, "topic", dead)?;
        let calls = self.node.upstream.as_ref().map(|up| [("answered", up.answered), ("failed", up.failed)]);
        let help = "Calls of the upstream by how they ended";
        to.each(("upstream_calls", help, MetricType::Counter), None, "outcome", calls.into_iter().flatten())
    }
}

fn mount(figures: &MountFigures, to: &mut Writer<'_>) -> fmt::Result {
    let help = "Time that requests of the mount took";
    to.durations("mount_request_duration", help, &figures.operations)?;
    let failures = figures.operations.iter().map(|of| (of.operation.as_str(), of.failures));
    let help = "Requests of the mount that failed because of the disk, of damage, or of a poisoned volume";
    to.each(("mount_request_failures", help, MetricType::Counter), None, "operation", failures)?;
    to.counter("mount_read", "Bytes read through the mount", Some(&Unit::Bytes), figures.read_bytes)?;
    to.counter("mount_written", "Bytes written through the mount", Some(&Unit::Bytes), figures.written_bytes)
}
