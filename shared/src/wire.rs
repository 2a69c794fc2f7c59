//! Bincode format.
