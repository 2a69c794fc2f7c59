//! Who sends frames: agents, whose name becomes the `instance` label, and the collector's own parts.

use std::sync::Arc;

/// A sender of frames. Its lanes are numbered apart from those of every other source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceName {
    /// What it is.
    pub kind: SourceKind,
    /// Its name, unique among its kind.
    pub name: Arc<str>,
}

/// Whose labels a source may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKind {
    /// An agent: every series is given the label `instance` with the source's name, whatever the frame says.
    Agent,
    /// A part of the collector: labels are taken as given.
    Internal,
}

impl SourceName {
    /// The agent of that name.
    #[must_use]
    pub fn agent(name: &str) -> Self {
        Self { kind: SourceKind::Agent, name: name.into() }
    }

    /// The collector's part of that name.
    #[must_use]
    pub fn internal(name: &str) -> Self {
        Self { kind: SourceKind::Internal, name: name.into() }
    }
}
