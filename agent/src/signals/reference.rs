//! docs/reference/signals.md.
