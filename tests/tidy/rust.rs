//! The oldest Rust that Cargo.toml promises.

use std::process::Command;

use serde_json::Value;

use crate::assert_tidy;
use crate::sources::root;

/// `1.89` and `1.89.0` as numbers.
fn version(text: &str) -> Vec<u64> {
    let mut numbers: Vec<u64> =
        text.split('.').map(|part| part.parse().unwrap_or_else(|e| panic!("{text}: {e}"))).collect();
    numbers.resize(3, 0);
    numbers
}

/// Every package that is built on Linux, for tests too, with the Rust it asks for.
fn packages() -> Vec<(String, Option<String>)> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", &platform])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let used: Vec<&Value> = told["resolve"]["nodes"].as_array().unwrap().iter().map(|node| &node["id"]).collect();
    let packages = told["packages"].as_array().unwrap().iter().filter(|package| used.contains(&&package["id"]));
    let named = |package: &Value| format!("{} {}", package["name"], package["version"]);
    packages.map(|package| (named(package), package["rust_version"].as_str().map(str::to_owned))).collect()
}

#[test]
fn no_dependency_needs_a_newer_rust_than_is_promised() {
    let promised = version(env!("CARGO_PKG_RUST_VERSION"));
    let packages = packages();
    assert!(packages.len() > 100, "{} packages are not all", packages.len());
    let newer = packages.iter().filter_map(|(name, needed)| {
        let needed = needed.as_deref()?;
        (version(needed) > promised)
            .then(|| format!("{name} needs Rust {needed}; mend: take an older version of it, or promise a newer Rust"))
    });
    assert_tidy(&newer.collect::<Vec<_>>());
}

#[test]
fn versions_are_compared_by_their_numbers() {
    assert!(version("1.100") > version("1.89.1") && version("1.89") == version("1.89.0"));
}
