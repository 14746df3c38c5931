//! The alert rules and the dashboard in docs/monitoring ask for figures that there are, in a language that Prometheus knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::served::{Served, make_token};
use crate::support::machine::can_mount;
use crate::support::place::{Place, text};
use crate::tools::{feed, promtool};

fn kept(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(kept(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The names of figures in a query.
fn named(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("wamedia_"))
}

fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_alert_fires_when_it_should_and_not_before() {
    let rules = kept("docs/monitoring/alerts.yml");
    feed(promtool(&["check", "rules", text(&rules)]), "");
    let place = Place::new();
    let tests = place.path("alerts_test.yml");
    let cases = read("tests/watching/alerts_test.yml");
    fs::write(&tests, cases.replace("[ALERTS]", &format!("[{:?}]", text(&rules)))).unwrap();
    feed(promtool(&["test", "rules", text(&tests)]), "");
    let rules = read("docs/monitoring/alerts.yml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        let name = format!("alertname: {alert}\n        exp_alerts:\n");
        assert!(cases.contains(&name), "tests/watching/alerts_test.yml never has {alert} fire");
    }
}

#[test]
fn the_dashboard_is_in_a_language_that_prometheus_knows() {
    let dashboard: Value = serde_json::from_str(&read("docs/monitoring/dashboard.json")).unwrap();
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (nth, query) in queries(&dashboard).iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m").replace("$__range", "1d").replace("$instance", "a");
        rules += &format!("      - {{ record: 'panel:{nth}', expr: {} }}\n", serde_json::to_string(&query).unwrap());
    }
    let place = Place::new();
    fs::write(place.path("rules.yml"), rules).unwrap();
    feed(promtool(&["check", "rules", text(&place.path("rules.yml"))]), "");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has an id of its own");
}

#[test]
fn alerts_and_dashboard_ask_for_figures_that_there_are() {
    if !can_mount("alerts_and_dashboard_ask_for_figures_that_there_are") {
        return;
    }
    let place = Place::with_volume(&["--quota", "10MiB"]);
    let token = make_token(&place, "user", "prometheus");
    let upstream = place.path("upstream");
    fs::create_dir(&upstream).unwrap();
    let options = ["--upstream", "directory", "--upstream-directory", text(&upstream)];
    let served = Served::again(place, token, &options);
    served.upload("text/plain", b"text");
    served.place.run(&["scrub", "--rate", "none", text(&served.place.mnt())]).expect_success();
    let scrape = served.get("/metrics").text().unwrap();
    let there: BTreeSet<&str> =
        scrape.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect();
    let dashboard: Value = serde_json::from_str(&read("docs/monitoring/dashboard.json")).unwrap();
    let variables = dashboard["templating"].to_string();
    let mut asked: Vec<String> = queries(&dashboard);
    asked.extend([read("docs/monitoring/alerts.yml"), variables]);
    let mut used = BTreeSet::new();
    for query in &asked {
        for name in named(query) {
            assert!(there.contains(name), "no figure is named {name}: {query}");
            used.insert(name);
        }
    }
    assert!(used.len() > 25, "{used:?}");
    let api = read("docs/API.md");
    for name in &there {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        assert!(api.contains(family), "docs/API.md does not tell of {family}");
    }
    served.mounted.unmount();
}
