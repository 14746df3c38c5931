#![no_main]

#[path = "../src/bodies.rs"]
mod bodies;
#[path = "../src/forge.rs"]
mod forge;
#[path = "../src/script.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::run("keys", bytes));
