//! Enrolment tokens, fingerprints and agent names: whatever parses must print and parse again.

#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use pitwatch_shared::identity::{AgentName, EnrollToken, Fingerprint};

fuzz_target!(|text: &str| {
    comes_back::<EnrollToken>(text);
    comes_back::<Fingerprint>(text);
    comes_back::<AgentName>(text);
    // With a check sum that fits, so that the checks behind it are met.
    let body = format!("pwe1_{text}");
    comes_back::<EnrollToken>(&format!("{body}_{:08x}", crc32fast::hash(body.as_bytes())));
});

fn comes_back<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(parsed) = text.parse::<T>() {
        assert!(parsed.to_string().parse::<T>().is_ok_and(|again| again == parsed), "{parsed:?}");
    }
}
