#![no_main]

#[path = "../src/bodies.rs"]
mod bodies;
#[path = "../src/forge.rs"]
mod forge;
#[path = "../src/script.rs"]
mod script;

// Parsers of other crates may panic behind the wall that `media` puts them behind; the fuzzer would take that for an end.

libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| bodies::run("media", bytes));
