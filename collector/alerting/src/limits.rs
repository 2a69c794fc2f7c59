//! Every bound of alerting, next to its neighbours, with its unit in its name.

/// Largest rule file in bytes.
pub const RULE_FILE_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Most YAML nodes of one rule file, aliases counted each time they are used.
pub const YAML_NODES_MAX: usize = 1_000_000;
/// Deepest nesting of a rule file.
pub const YAML_DEPTH_MAX: usize = 32;
/// Most mistakes listed for one file; more are summed up in one line.
pub const RULE_ERRORS_MAX: usize = 100;

/// Most things that one alert may depend on.
pub const DEPENDENCIES_MAX: usize = 16;

/// Deepest nesting of a template's blocks and parentheses.
pub const TEMPLATE_DEPTH_MAX: usize = 32;
/// Largest text that one template may yield in bytes.
pub const TEMPLATE_OUTPUT_MAX_BYTES: usize = 16 * 1024;
/// Most steps (nodes executed, loop turns included) of one template.
pub const TEMPLATE_STEPS_MAX: usize = 20_000;
/// Most rows of a query within a template.
pub const TEMPLATE_ROWS_MAX: usize = 1_000;
/// Largest compiled pattern of `match` and `reReplaceAll` in bytes.
pub const TEMPLATE_REGEX_MAX_BYTES: usize = 1024 * 1024;
/// Widest padding and precision of a `printf` verb in characters.
pub const PRINTF_WIDTH_MAX: usize = 256;

/// Most rows that one rule's expression may give, and so most alerts of one rule at once.
pub const ROWS_PER_RULE_MAX: usize = 100_000;
/// Data arriving wakes a group of the default interval no sooner than this after its last evaluation.
pub const DATA_WAKE_MIN_GAP_MS: i64 = 100;
/// How long a pending alert whose data is missing keeps its `for` clock.
pub const PENDING_NO_DATA_MAX_MS: i64 = 5 * 60 * 1000;
/// Nothing was evaluated for longer than this: pending alerts begin anew.
pub const FOR_OUTAGE_MAX_MS: i64 = 60 * 60 * 1000;
/// After an outage a pending alert fires no sooner than the outage lasted, and at most this later.
pub const FOR_GRACE_MAX_MS: i64 = 10 * 60 * 1000;

/// Most deliveries that wait for one receiver; beyond it the oldest is dropped and counted.
pub const DELIVERIES_PER_RECEIVER_MAX: usize = 100_000;
/// How long a delivery is tried before it is given up and counted.
pub const DELIVERY_AGE_MAX_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// The first retry comes within this time; each further one may take twice as long.
pub const BACKOFF_FIRST_MS: i64 = 500;
/// The longest wait between two tries of our own choice.
pub const BACKOFF_MAX_MS: i64 = 60 * 1000;
/// The longest `Retry-After` that is honoured; a receiver that asks for more is tried after this.
pub const RETRY_AFTER_MAX_MS: i64 = 60 * 60 * 1000;

/// Slack: most characters of a section's text.
pub const SLACK_SECTION_MAX_CHARS: usize = 3_000;
/// Slack: most blocks of a message.
pub const SLACK_BLOCKS_MAX: usize = 50;
/// Slack: characters of a whole message that are known to pass (undocumented; 13,200 were seen to).
pub const SLACK_MESSAGE_MAX_CHARS: usize = 12_000;
/// Longest link that is sent; a longer one is replaced by a word, never cut.
pub const LINK_MAX_CHARS: usize = 1_000;
/// Longest reason of a failed delivery that is kept, in bytes.
pub const REASON_MAX_BYTES: usize = 512;

const _: () = assert!(BACKOFF_FIRST_MS < BACKOFF_MAX_MS && BACKOFF_MAX_MS < RETRY_AFTER_MAX_MS);
const _: () = assert!(RETRY_AFTER_MAX_MS < DELIVERY_AGE_MAX_MS);
const _: () =
    assert!(2 * LINK_MAX_CHARS < SLACK_SECTION_MAX_CHARS && SLACK_SECTION_MAX_CHARS < SLACK_MESSAGE_MAX_CHARS);
