//! One picture of a volume: the same on a terminal and on paper.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Gauge, Paragraph, Row, Table};

use super::Look;
use super::pace::{self, Asked};
use crate::cli::output::{media_count, printable, size, time};
use crate::clock::short;
use crate::control::Hello;
use crate::volume::{Growth, ScrubStatus};

/// What is to be drawn.
pub struct Picture<'a> {
    /// How it is.
    pub look: &'a Look,
    /// How it was at the look before.
    pub before: Option<&'a Look>,
    /// What the daemon says of itself.
    pub hello: Option<&'a Hello>,
}

fn percent(part: u64, whole: u64) -> u16 {
    let hundredths = u128::from(part) * 100 / u128::from(whole.max(1));
    u16::try_from(hundredths.min(100)).unwrap_or(100)
}

/// A time in the unit that fits it.
fn brief(time: Duration) -> String {
    match time.as_nanos() {
        0..1_000 => format!("{} ns", time.as_nanos()),
        1_000..1_000_000 => format!("{} µs", time.as_micros()),
        1_000_000..1_000_000_000 => format!("{} ms", time.as_millis()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

fn warned(is_bad: bool) -> Style {
    if is_bad { Style::new().fg(Color::Red).add_modifier(Modifier::BOLD) } else { Style::new() }
}

impl Picture<'_> {
    /// Draws it into all of a frame; what does not fit is left out from the end.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let upper = self.facts();
        let heights = [
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(u16::try_from(upper.len()).unwrap_or(u16::MAX)),
            Constraint::Length(1),
            Constraint::Min(0),
        ];
        let [head, gauge, facts, _gap, lower] = Layout::vertical(heights).areas(frame.area());
        frame.render_widget(self.head(), head);
        frame.render_widget(self.fill(), gauge);
        frame.render_widget(Paragraph::new(upper), facts);
        let [left, right] = Layout::horizontal([Constraint::Min(52), Constraint::Percentage(42)]).areas(lower);
        self.requests(frame, left);
        frame.render_widget(Paragraph::new(self.media()).block(Block::bordered().title(" media and work ")), right);
    }

    fn head(&self) -> Line<'static> {
        let overview = &self.look.overview;
        let place = self.hello.map_or("not served", |hello| hello.mount.as_deref().unwrap_or("served without a mount"));
        let state = printable(&overview.status.state);
        let is_bad = state != "ok";
        Line::from(vec![
            Span::styled("wamedia ", Style::new().add_modifier(Modifier::BOLD)),
            Span::raw(format!("{}  {}  ", printable(place), time(overview.now))),
            Span::styled(state, warned(is_bad)),
        ])
    }

    fn fill(&self) -> Gauge<'static> {
        let (used, size_bytes) = (self.look.overview.status.used_bytes, self.look.overview.growth.size_bytes);
        let percent = percent(used, size_bytes);
        let color = match percent {
            0..80 => Color::Green,
            80..90 => Color::Yellow,
            _ => Color::Red,
        };
        let label = format!("{} of {} ({percent} %)", size(used), size(size_bytes));
        Gauge::default().percent(percent).label(label).gauge_style(Style::new().fg(color)).use_unicode(true)
    }

    fn facts(&self) -> Vec<Line<'static>> {
        let overview = &self.look.overview;
        let status = &overview.status;
        let quota = status.max_bytes.map_or_else(|| "no quota".to_owned(), |max| format!("quota {}", size(max)));
        let mut lines = vec![
            Line::from(format!(
                "{quota}, reserve {}, disk free {} of which {} stay free",
                size(status.reserved_bytes),
                size(status.backing_free_bytes),
                size(status.floor_bytes)
            )),
            Line::from(growth(&overview.growth)),
        ];
        let mount = &overview.mount;
        lines.push(Line::from(match pace::bytes(self.look, self.before) {
            Some((read, written)) => format!("reading {}/s, writing {}/s", size(read), size(written)),
            None => format!("read {}, written {} since the start", size(mount.read_bytes), size(mount.written_bytes)),
        }));
        let bad = [
            (status.refused_writes, "writes refused"),
            (overview.forged, "frames that are not what was written"),
            (status.scrub.damaged_media, "media damaged"),
        ];
        for (count, what) in bad.into_iter().filter(|(count, _)| *count > 0) {
            lines.push(Line::styled(format!("{count} {what}"), warned(true)));
        }
        lines
    }

    fn requests(&self, frame: &mut Frame<'_>, area: Rect) {
        let asked = pace::requests(self.look, self.before);
        let rows = asked.iter().map(|of: &Asked<'_>| {
            Row::new([
                Cell::from(of.operation),
                Cell::from(of.rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"))),
                Cell::from(brief(of.mean)),
                Cell::from(of.most.map_or_else(|| "> 16 s".to_owned(), brief)),
                Cell::from(of.count.to_string()),
                Cell::from(of.failures.to_string()).style(warned(of.failures > 0)),
            ])
        });
        let head = Row::new(["request", "a second", "mean", "99 of 100", "in all", "failed"])
            .style(Style::new().add_modifier(Modifier::BOLD));
        let widths = [15, 8, 8, 9, 9, 6].map(Constraint::Length);
        let title = if asked.is_empty() { " requests: none yet " } else { " requests " };
        let table = Table::new(rows, widths).header(head).block(Block::bordered().title(title));
        frame.render_widget(table, area);
    }

    fn media(&self) -> Vec<Line<'static>> {
        let (status, node) = (&self.look.overview.status, &self.look.node);
        let mut lines = vec![
            Line::from(format!("{}, {}", media_count(status.media), size(status.used_bytes))),
            Line::from(format!("expired {} ({})", status.expired, size(status.expired_bytes))),
            Line::from(format!("held {}", status.held)),
        ];
        if let Some(oldest) = status.oldest {
            lines.push(Line::from(format!("oldest {}", time(oldest))));
        }
        for (kind, count, bytes) in &status.by_kind {
            lines.push(Line::from(format!("  {kind} {count} ({})", size(*bytes))));
        }
        lines.push(Line::from(scrub(&status.scrub, status.used_bytes)));
        for queue in node.queues.iter().filter(|queue| queue.jobs > 0 || queue.dead_letters > 0) {
            let oldest = short(Duration::from_secs(queue.oldest_secs));
            let text = format!("{}: {} wait, {oldest}; {} given up", queue.topic, queue.jobs, queue.dead_letters);
            lines.push(Line::styled(text, warned(queue.dead_letters > 0)));
        }
        if let Some(upstream) = &node.upstream {
            let text = match (&upstream.last_failure, upstream.is_failing) {
                (Some((_, what)), true) => format!("upstream fails: {}", printable(what)),
                _ => format!("upstream: {} answered, {} failed", upstream.answered, upstream.failed),
            };
            lines.push(Line::styled(text, warned(upstream.is_failing)));
        }
        lines
    }
}

fn growth(growth: &Growth) -> String {
    match (growth.bytes_a_day, growth.full_at) {
        (None, _) => "growth is not known before six hours have been seen".to_owned(),
        (Some(bytes), Some(when)) => format!("grows by {} a day, full on {}", size(bytes.unsigned_abs()), time(when)),
        (Some(bytes), None) if bytes < 0 => format!("shrinks by {} a day", size(bytes.unsigned_abs())),
        (Some(0), None) => "does not grow".to_owned(),
        (Some(bytes), None) => format!("grows by {} a day, not full within ten years", size(bytes.unsigned_abs())),
    }
}

fn scrub(scrub: &ScrubStatus, used: u64) -> String {
    match (&scrub.run, &scrub.last) {
        (Some(run), _) if scrub.is_running => format!("scrub: {} %", percent(run.bytes, used)),
        (Some(run), _) => format!("scrub: stopped at {} %", percent(run.bytes, used)),
        (None, Some(last)) => format!("scrub: ended {}", time(last.finished)),
        (None, None) => "scrub: none yet".to_owned(),
    }
}
