//! Control messages: whatever can be read must come back from its own bytes.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use pitwatch_shared::control::{self, Enroll, EnrollAnswer, Hello, ToAgent, ToCollector, Welcome};
use pitwatch_shared::wire::{self, Format, Message};

fuzz_target!(|input: &[u8]| {
    if let Some((length, _)) = input.split_first_chunk::<{ control::LENGTH_BYTES }>() {
        drop(control::message_length(*length));
    }
    drop(control::decode_hello(input));
    comes_back::<Hello>(input);
    comes_back::<Welcome>(input);
    comes_back::<ToCollector>(input);
    comes_back::<ToAgent>(input);
    comes_back::<Enroll>(input);
    comes_back::<EnrollAnswer>(input);
});

fn comes_back<T>(input: &[u8])
where
    T: Message + wincode::SchemaWrite<Format, Src = T> + PartialEq + Debug,
{
    let Ok(message) = wire::decode::<T>(input) else { return };
    let bytes = wire::encode(&message).expect("what was read is within the limits");
    let again = wire::decode::<T>(&bytes).expect("what was written can be read");
    assert_eq!(again, message);
}
