//! The store from outside.
//!
//! - `common`: sources that play agents, and the plain model.
//! - `model`: random operations against the model.

#[path = "suite/common.rs"]
mod common;
#[path = "suite/model.rs"]
mod model;
