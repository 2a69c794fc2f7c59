//! A lane's stream, in pieces as the transport hands them over: frames or one error, and never more held than arrived.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_shared::delivery::FrameReader;

fuzz_target!(|input: &[u8]| {
    let Some((&piece, stream)) = input.split_first() else { return };
    let mut reader = FrameReader::new();
    let mut taken = 0;
    for bytes in stream.chunks(usize::from(piece).max(1)) {
        reader.extend(bytes);
        loop {
            match reader.next_frame() {
                Ok(Some((_, payload))) => taken += payload.len(),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert!(taken <= stream.len());
});
