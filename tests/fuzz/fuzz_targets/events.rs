//! Frames of the events lane: whatever decodes is within its limits, encodes again, and survives as a line of history.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_shared::events::{Event, EventLine};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = Event::decode(bytes) {
        let again = event.encode().ok().and_then(|frame| Event::decode(&frame).ok());
        assert_eq!(again.as_ref(), Some(&event));
        let line = event.to_line("1.2");
        let read = EventLine::parse(&line).expect("a line that was written is read");
        assert_eq!((read.summary, read.labels), (event.summary, event.labels));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = EventLine::parse(text);
    }
});
