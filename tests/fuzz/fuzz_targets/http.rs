//! Answers of HTTP in any pieces: within the limit, or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_agent::apps::http::Response;

const MAX_BYTES: usize = 1000;

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    let mut response = Response::new(MAX_BYTES);
    for part in bytes.chunks(usize::from(step) + 1) {
        match response.feed(part) {
            Ok(false) => {}
            Ok(true) => break,
            Err(_) => return,
        }
    }
    if let Ok(body) = response.end() {
        assert!(body.len() <= MAX_BYTES);
    }
});
