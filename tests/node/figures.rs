//! What the node says of itself: figures that agree with what was done.

use std::collections::HashMap;

use serde_json::Value;

use crate::served::Served;
use crate::support::machine::can_mount;

/// The values of a scrape by name and labels.
fn scrape(served: &Served) -> HashMap<String, f64> {
    let answer = served.get("/metrics");
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = answer.text().unwrap();
    let values = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
    });
    values.collect()
}

#[test]
fn the_figures_say_what_was_done() {
    if !can_mount("the_figures_say_what_was_done") {
        return;
    }
    let served = Served::start(&["--quota", "100MiB"], &[]);
    let id =
        served.upload("image/jpeg", &std::fs::read(crate::support::samples::dir().join("image/photo.jpg")).unwrap());
    served.upload("text/plain", &[b'a'; 1000]);
    let given = served.get(&format!("/v1/media/{id}")).bytes().unwrap().len() as f64;
    served.get("/v1/media/8d3b2d3c-5a0f-4d3b-9a5e-000000000000");
    let values = scrape(&served);
    assert_eq!(values["wamedia_volume_media"], 2.0);
    assert_eq!(values["wamedia_volume_quota_bytes"], f64::from(100 << 20));
    assert_eq!(values["wamedia_volume_writable"], 1.0);
    assert_eq!(values["wamedia_media_received_bytes_total"], given + 1000.0);
    assert_eq!(values["wamedia_media_given_bytes_total"], given);
    assert_eq!(values["wamedia_jobs{topic=\"webhook\"}"], 0.0);
    let answers = |labels: &str| values[&format!("wamedia_http_answers_total{{{labels}}}")];
    assert_eq!(answers("method=\"POST\",path=\"/v1/media\",status=\"201\""), 2.0);
    assert_eq!(answers("method=\"GET\",path=\"/v1/media/{id}\",status=\"404\""), 1.0);
    assert!(values.keys().all(|name| !name.contains(&id)), "an id is no label");
    let counted = "wamedia_http_answer_duration_seconds_count{method=\"POST\",path=\"/v1/media\"}";
    assert_eq!(values[counted], 2.0);
    let stats: Value = served.get("/v1/stats").json().unwrap();
    assert_eq!(stats["stats"]["media"], 2);
    assert_eq!(stats["stats"]["dead_letters"], 0);
    served.mounted.unmount();
}
