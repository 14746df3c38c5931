//! `wamedia top`.

use std::io::IsTerminal;

use serde::Serialize;

use super::Outcome;
use crate::cli::args::Top;
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::target::Target;
use crate::cli::top::{self, Look};
use crate::cli::views::StatusView;
use crate::clock::Timestamp;
use crate::node::figures::NodeFigures;

/// Shows how a volume is doing and what is asked of it: live, or once.
///
/// # Errors
/// Those of [`Session`]; `Io` when the terminal cannot be used.
pub fn run(args: &Top, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target.target)?.whole()?;
    let mut session = Session::open(&target, &args.target.keys, environment)?;
    let shown = if args.output.json {
        Look::take(&mut session).and_then(|look| output::json(&view(&look, &target, &session)))
    } else if args.once || session.hello().is_none() || !std::io::stdout().is_terminal() {
        Look::take(&mut session).and_then(|look| output::line(&top::once(&look, session.hello())))
    } else {
        top::live(&mut session, args.interval)
    };
    let closed = session.close();
    shown.and(closed)?;
    Ok(Exit::Success)
}

#[derive(Serialize)]
struct View<'a> {
    status: StatusView<'a>,
    growth: GrowthView,
    requests: Vec<RequestView<'a>>,
    read_bytes: u64,
    written_bytes: u64,
    authentication_failures: u64,
    node: &'a NodeFigures,
}

#[derive(Serialize)]
struct GrowthView {
    size_bytes: u64,
    bytes_a_day: Option<i64>,
    full_at: Option<String>,
    samples: Vec<SampleView>,
}

#[derive(Serialize)]
struct SampleView {
    at: String,
    used_bytes: u64,
    media: u64,
}

#[derive(Serialize)]
struct RequestView<'a> {
    operation: &'a str,
    count: u64,
    seconds: f64,
    failures: u64,
}

#[allow(clippy::cast_precision_loss, reason = "a sum of times is no more exact than that")]
fn view<'a>(look: &'a Look, target: &'a Target, session: &'a Session) -> View<'a> {
    let (overview, growth) = (&look.overview, &look.overview.growth);
    let sample = |sample: &crate::volume::Sample| SampleView {
        at: Timestamp { secs: sample.secs, nanos: 0 }.rfc3339(),
        used_bytes: sample.used_bytes,
        media: sample.media,
    };
    View {
        status: StatusView::new(&overview.status, target.store.to_str().unwrap_or_default(), session.hello()),
        growth: GrowthView {
            size_bytes: growth.size_bytes,
            bytes_a_day: growth.bytes_a_day,
            full_at: growth.full_at.map(Timestamp::rfc3339),
            samples: growth.samples.iter().map(sample).collect(),
        },
        requests: overview
            .mount
            .operations
            .iter()
            .map(|of| RequestView {
                operation: &of.operation,
                count: of.count(),
                seconds: of.nanos as f64 / 1e9,
                failures: of.failures,
            })
            .collect(),
        read_bytes: overview.mount.read_bytes,
        written_bytes: overview.mount.written_bytes,
        authentication_failures: overview.forged,
        node: &look.node,
    }
}
