//! docs/openapi.json is what the routes say.

use std::fs;

use wamedia::node::router::document;

#[test]
fn the_openapi_document_in_docs_is_that_of_the_routes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let document = document();
    let wanted = document.to_pretty_json().expect("JSON") + "\n";
    if std::env::var_os("WAMEDIA_WRITE").is_some() {
        fs::write(path, &wanted).expect("docs can be written");
    }
    let kept = fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == wanted,
        "docs/openapi.json is not what the routes say; write it anew: WAMEDIA_WRITE=1 cargo test --release --test tidy"
    );
    let mut ids: Vec<&str> = Vec::new();
    for item in document.paths.paths.values() {
        let operations = [&item.get, &item.put, &item.post, &item.delete, &item.head, &item.patch];
        ids.extend(operations.into_iter().flatten().filter_map(|operation| operation.operation_id.as_deref()));
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "every operation has an id of its own");
}
