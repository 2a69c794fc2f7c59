//! Suite: blackbox.
