//! A block file: whole, its index, and a column without its checksum.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_history::block;

fuzz_target!(|input: &[u8]| {
    let _ = block::format::parse_whole(input);
    let _ = block::try_index(input, input.len() as u64);
    if let Some((&count, column)) = input.split_first() {
        let count = usize::from(count);
        if let Some(values) = block::try_column(column, count) {
            assert_eq!(values.len(), count);
        }
    }
});
