//! What the agent and the collector share, free of sockets, files and clocks.
//!
//! In reading order:
//! - [`model`]: labels, samples, metric types, lanes and marks.
//! - [`limits`]: every bound of the wire and of the model, with units.
//! - [`codec`]: lane frames: schema frames and sample frames, encoder and decoder.
//! - [`wire`]: bincode's format, the one place that knows which library writes it.
//! - [`control`]: the messages of the control stream and of enrolment.
//! - [`events`]: what happened on a host, as a frame and as a line of history.
//! - [`delivery`]: the sender's and the receiver's state machines, sans-IO.
//! - [`identity`]: fingerprints, enrolment tokens, certificates.
//! - [`settings`]: configuration files: every mistake at once, each with its line.

pub mod codec;
pub mod control;
pub mod delivery;
pub mod events;
pub mod identity;
pub mod limits;
pub mod model;
pub mod settings;
pub mod wire;

/// An error and its sources in one line.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
