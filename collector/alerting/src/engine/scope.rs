//! Which instances an evaluation is about.

use std::sync::Arc;

use rustc_hash::FxHashSet;

/// Values of the label `instance`; series without one are those of `""`.
pub type Instances = FxHashSet<Arc<str>>;

/// The instances whose rows an evaluation needs.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// All there are.
    All,
    /// These.
    Only(&'a Instances),
    /// All but these.
    Except(&'a Instances),
}

/// Which rules of a group run, and over which instances those that can be evaluated by instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round<'a> {
    /// Whether those run that need every series.
    pub(super) whole: bool,
    /// Where those run that need one instance's series at a time, if they do.
    pub(super) by_instance: Option<Scope<'a>>,
}
