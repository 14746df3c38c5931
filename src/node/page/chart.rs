//! How full the volume was, as a drawing without a script.

use maud::{Markup, html};

use crate::volume::Growth;
use crate::words::{size, time};

/// The drawing's own units.
const WIDTH: u64 = 600;
const HEIGHT: u64 = 160;

/// `part` of `whole` on a scale of `length`.
fn scaled(part: u64, whole: u64, length: u64) -> u64 {
    let scaled = u128::from(part) * u128::from(length) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(length).min(length)
}

/// A line through the samples, below a line for the room; nothing while there are fewer than two.
pub fn growth(growth: &Growth) -> Markup {
    let (Some(first), Some(last)) = (growth.samples.first(), growth.samples.last()) else { return html! {} };
    let span = u64::try_from(last.secs - first.secs).unwrap_or(0);
    if span == 0 {
        return html! {};
    }
    let most = growth.samples.iter().map(|sample| sample.used_bytes).max().unwrap_or(0);
    // A volume that is nearly empty shows how it grows, not how empty it is.
    let top = growth.size_bytes.min(most.saturating_mul(4)).max(most).max(1);
    let place = |secs: i64, bytes: u64| {
        let x = scaled(u64::try_from(secs - first.secs).unwrap_or(0), span, WIDTH);
        format!("{x},{}", HEIGHT - scaled(bytes, top, HEIGHT))
    };
    let line: Vec<String> = growth.samples.iter().map(|sample| place(sample.secs, sample.used_bytes)).collect();
    let from = time(crate::clock::Timestamp { secs: first.secs, nanos: 0 });
    let to = time(crate::clock::Timestamp { secs: last.secs, nanos: 0 });
    let title = format!("From {} on {from} to {} on {to}", size(first.used_bytes), size(last.used_bytes));
    html! {
        figure {
            svg.chart viewBox=(format!("-4 -4 {} {}", WIDTH + 8, HEIGHT + 8)) role="img" aria-label=(title) {
                title { (title) }
                @if top == growth.size_bytes {
                    line.room x1="0" y1="0" x2=(WIDTH) y2="0" {}
                }
                line.ground x1="0" y1=(HEIGHT) x2=(WIDTH) y2=(HEIGHT) {}
                polyline.use points=(line.join(" ")) {}
            }
            figcaption { (title) "; the top is " (size(top)) "." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Sample;

    #[test]
    fn a_line_needs_two_points_and_stays_within_its_drawing() {
        let at = |secs, used_bytes| Sample { secs, used_bytes, media: 1 };
        let draw = |samples: &[Sample]| {
            growth(&Growth { samples: samples.to_vec(), size_bytes: 1000, ..Growth::default() }).into_string()
        };
        assert_eq!(draw(&[]) + &draw(&[at(0, 1)]), "");
        assert!(draw(&[at(0, 0), at(3600, 500), at(7200, 1000)]).contains("points=\"0,160 300,80 600,0\""));
        assert!(draw(&[at(0, 0), at(7200, u64::MAX)]).contains("points=\"0,160 600,0\""));
        assert!(draw(&[at(0, 0), at(7200, 0)]).contains("points=\"0,160 600,160\""));
    }
}
