//! The text format of Prometheus before OpenMetrics (0.0.4), which `promtool`, node_exporter and older scrapers read.

use std::collections::HashSet;

/// The media type of that text.
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The same figures in the classic form: there a counter's family has the name of its samples, with `_total`, a unit is part
/// of the name alone, and no mark stands at the end.
pub fn from_open_metrics(text: &str) -> String {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: HashSet<&str> = types.filter_map(|line| line.strip_suffix(" counter")).collect();
    let mut classic = String::with_capacity(text.len());
    for line in text.lines() {
        let words = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        match words {
            None if line == "# EOF" => continue,
            Some(("UNIT", _)) => continue,
            Some((what @ ("HELP" | "TYPE"), rest)) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let suffix = if counters.contains(name) { "_total" } else { "" };
                classic.extend(["# ", what, " ", name, suffix, " ", rest]);
            }
            _ => classic.push_str(line),
        }
        classic.push('\n');
    }
    classic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_units_are_told_the_classic_way() {
        let open = "# HELP a_bytes Bytes.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total 1\n\
                    # HELP b Of a kind.\n# TYPE b gauge\nb{kind=\"# EOF\"} 2\n# EOF\n";
        let classic = "# HELP a_bytes_total Bytes.\n# TYPE a_bytes_total counter\na_bytes_total 1\n\
                       # HELP b Of a kind.\n# TYPE b gauge\nb{kind=\"# EOF\"} 2\n";
        assert_eq!(from_open_metrics(open), classic);
    }
}
