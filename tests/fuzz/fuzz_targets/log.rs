//! A write-ahead log's segment: header and records, as recovery reads them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_history::wal::record::{self, Header, Parsed};

fuzz_target!(|input: &[u8]| {
    let _ = Header::parse(input);
    let mut rest = input;
    while let Parsed::Record(_, bytes) = record::parse(rest) {
        assert!(bytes > 0 && bytes <= rest.len(), "a record longer than its file");
        rest = &rest[bytes..];
    }
});
