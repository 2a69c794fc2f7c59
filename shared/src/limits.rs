//! Every bound of the model and of the wire, next to its neighbours, with its unit in its name.
//!
//! Nothing that comes from the network, a log or a config may make a process allocate past one of these.

/// Longest label name in bytes.
pub const LABEL_NAME_MAX_BYTES: usize = 256;
/// Longest label value in bytes.
pub const LABEL_VALUE_MAX_BYTES: usize = 4096;
/// Most labels of one series, the metric name among them.
pub const LABELS_PER_SERIES_MAX: usize = 64;
/// Largest sum of a series' names and values in bytes.
pub const LABELS_MAX_BYTES: usize = 16 * 1024;

/// Most groups (sets of series sampled together) of one lane.
pub const GROUPS_PER_LANE_MAX: u16 = 64;
/// Most slots of one group, live and retired: a slot index is below this.
pub const SLOTS_PER_GROUP_MAX: u32 = 200_000;
/// Most series that one schema frame may add.
pub const SERIES_PER_SCHEMA_FRAME_MAX: usize = 10_000;

/// Largest payload of one lane frame in bytes.
pub const FRAME_PAYLOAD_MAX_BYTES: usize = 1024 * 1024;
/// Largest control message in bytes.
pub const CONTROL_MESSAGE_MAX_BYTES: usize = 64 * 1024;
/// Longest text of settings that the collector sends an agent, in bytes.
pub const SETTINGS_MAX_BYTES: usize = 32 * 1024;
/// Longest agent name in bytes.
pub const AGENT_NAME_MAX_BYTES: usize = 128;
/// Longest enrolment token text in bytes.
pub const TOKEN_MAX_BYTES: usize = 512;
/// Longest reason text that one side sends the other in bytes.
pub const REASON_MAX_BYTES: usize = 1024;

const _: () = assert!(LABEL_NAME_MAX_BYTES + LABEL_VALUE_MAX_BYTES <= LABELS_MAX_BYTES);
const _: () = assert!(LABELS_MAX_BYTES * 8 < FRAME_PAYLOAD_MAX_BYTES);
const _: () = assert!(SETTINGS_MAX_BYTES + 16 < CONTROL_MESSAGE_MAX_BYTES);
const _: () = assert!(REASON_MAX_BYTES + TOKEN_MAX_BYTES + AGENT_NAME_MAX_BYTES < CONTROL_MESSAGE_MAX_BYTES);
