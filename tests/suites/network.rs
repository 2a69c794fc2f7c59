//! Suite: network.
