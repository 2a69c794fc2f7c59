//! Parts of a rollup file without their checksums.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_history::rollup::format;

fuzz_target!(|input: &[u8]| {
    let _ = format::Footer::parse(input, input.len() as u64);
    if let Some((&count, rest)) = input.split_first() {
        let count = usize::from(count);
        let [_, pages, times, _] = format::try_parts(rest, count);
        assert!([pages, times].iter().all(|found| *found == 0 || *found == count));
    }
});
