#![no_main]

#[path = "../checks.rs"]
mod checks;
#[path = "../heap.rs"]
mod heap;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::node_file(data);
});
