//! Real programs in network namespaces joined by a veth pair; needs root and iproute2.
//!
//! - `namespaces`: two namespaces, a collector in one and an agent in the other, gone when dropped.
//! - `link`: the link is cut for a minute; the agent's address changes.

// The helpers of these tests are not in test functions, where clippy.toml allows it.
#![allow(clippy::unwrap_used)]

#[path = "network/link.rs"]
mod link;
#[path = "network/namespaces.rs"]
mod namespaces;
