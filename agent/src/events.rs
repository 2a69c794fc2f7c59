//! Events: what happened once on this host, on a lane of their own that is durable from the first moment.
//!
//! In reading order:
//! - [`EventKind`]: every kind and how much it matters; [`Happening`]: one that happened.
//! - [`lane`]: happenings in, numbered frames out, bounded in rate.
//! - [`watch`]: what is looked at every second: `kernel` (its log and its OOM counter), `mounts`, `boot` (restarts and clock
//!   steps).
//! - `noticed`: what sources of signals saw, watched processes and units, as happenings.
//!
//! What it leaves to others: the wire ([`pitwatch_shared::events`]).

mod boot;
mod kernel;
pub mod lane;
mod mounts;
pub(crate) mod noticed;
pub mod watch;

use pitwatch_shared::events::Severity;

pub use self::lane::{EventCounts, EventsLane};
pub use self::watch::Watch;

/// What kinds of events there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The host was restarted.
    Reboot,
    /// The kernel killed a process for want of memory.
    OomKill,
    /// The kernel reports a disk or a filesystem that fails.
    DiskError,
    /// The wall clock was set by more than a little.
    ClockStep,
    /// A filesystem turned read-only.
    FilesystemReadonly,
    /// A unit of systemd failed.
    UnitFailed,
    /// A unit that had failed is active again.
    UnitRecovered,
    /// A watched process is there.
    ProcessStarted,
    /// A watched process is gone.
    ProcessStopped,
    /// A watched process ended by a signal or an error.
    ProcessCrashed,
    /// A watched process was killed for want of memory.
    ProcessOomKilled,
    /// A configuration was refused; the one before goes on.
    ConfigRefused,
    /// A new configuration is in force.
    ConfigReloaded,
    /// The agent keeps to a limit of its own.
    SelfLimit,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Reboot,
        Self::OomKill,
        Self::DiskError,
        Self::ClockStep,
        Self::FilesystemReadonly,
        Self::UnitFailed,
        Self::UnitRecovered,
        Self::ProcessStarted,
        Self::ProcessStopped,
        Self::ProcessCrashed,
        Self::ProcessOomKilled,
        Self::ConfigRefused,
        Self::ConfigReloaded,
        Self::SelfLimit,
    ];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::OomKill => "oom_kill",
            Self::DiskError => "disk_error",
            Self::ClockStep => "clock_step",
            Self::FilesystemReadonly => "filesystem_readonly",
            Self::UnitFailed => "unit_failed",
            Self::UnitRecovered => "unit_recovered",
            Self::ProcessStarted => "process_started",
            Self::ProcessStopped => "process_stopped",
            Self::ProcessCrashed => "process_crashed",
            Self::ProcessOomKilled => "process_oom_killed",
            Self::ConfigRefused => "config_refused",
            Self::ConfigReloaded => "config_reloaded",
            Self::SelfLimit => "self_limit",
        }
    }

    /// How much it matters.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::OomKill | Self::DiskError | Self::FilesystemReadonly => Severity::Critical,
            Self::ProcessCrashed | Self::ProcessOomKilled => Severity::Critical,
            Self::Reboot | Self::ClockStep | Self::UnitFailed | Self::ProcessStopped => Severity::Warning,
            Self::ConfigRefused | Self::SelfLimit => Severity::Warning,
            Self::UnitRecovered | Self::ProcessStarted | Self::ConfigReloaded => Severity::Info,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// What.
    pub kind: EventKind,
    /// When, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// A sentence for people.
    pub summary: String,
    /// Details by name.
    pub labels: Vec<(&'static str, String)>,
}

impl Happening {
    /// A happening without details.
    #[must_use]
    pub fn new(kind: EventKind, time_ms: i64, summary: impl Into<String>) -> Self {
        Self { kind, time_ms, summary: summary.into(), labels: Vec::new() }
    }

    /// With one more detail.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }
}
