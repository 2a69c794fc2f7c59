//! Skeleton.
pub mod spool;
