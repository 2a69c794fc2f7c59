//! A log file: footer, index, and a chunk of lines without its checksum; the first bytes say what the chunk claims.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_history::logs::{format, try_lines};

fuzz_target!(|input: &[u8]| {
    let _ = format::Footer::parse(input, input.len() as u64);
    let _ = format::try_index(input, u64::MAX);
    if let [lines, low, high, data @ ..] = input {
        let raw_bytes = usize::from(*low) | usize::from(*high) << 8;
        if let Some(found) = try_lines(data, 0, 1000, usize::from(*lines), raw_bytes) {
            assert_eq!(found.len(), usize::from(*lines));
        }
    }
});
