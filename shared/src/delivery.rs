//! The delivery protocol's state machines, sans-IO: time, bytes and disks are handed in.
//!
//! - [`framing`]: how marks and payloads stand on a lane's stream.
//! - [`sender`]: what the agent keeps until it is acknowledged, and what it drops at its limits.
//! - [`receiver`]: what the collector accepts, and when it may acknowledge.
//!
//! The rules they keep together: an ack for a mark means that it and all before it are durable; a frame goes on a
//! chain only right after the frame before it; where frames were dropped, a new chain begins.

pub mod framing;
pub mod receiver;
pub mod sender;

pub use framing::{FrameReader, FrameWriter, FramingError};
pub use receiver::{Receiver, Verdict};
pub use sender::{Backlog, Frame, NoBacklog, Sender, SenderLimits};
