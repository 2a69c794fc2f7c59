//! The command line of Pitwatch.
fn main() {}
