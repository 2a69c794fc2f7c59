//! Snapshots of a chain: the input gets a checksum that fits, so that the checks behind it are met. What is restored
//! gives the same state again, and takes a payload (the input's tail) without harm.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_shared::codec::{Decoded, Decoder};

const PAYLOAD_MAX_BYTES: usize = 64;

fuzz_target!(|input: &[u8]| {
    let (body, payload) = input.split_at(input.len().saturating_sub(PAYLOAD_MAX_BYTES));
    let mut bytes = body.to_vec();
    bytes.extend(crc32fast::hash(body).to_le_bytes());
    let Ok(mut decoder) = Decoder::restore(&bytes) else { return };
    let mut again = Vec::new();
    decoder.snapshot(&mut again);
    assert!(Decoder::restore(&again).as_ref() == Ok(&decoder), "a snapshot lost something");
    drop(decoder.decode(payload, &mut Decoded::default()));
});
