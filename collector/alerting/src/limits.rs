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
/// The same two for the template of a message, which may tell of many alerts.
pub const MESSAGE_OUTPUT_MAX_BYTES: usize = 1024 * 1024;
/// Most steps of a message's template.
pub const MESSAGE_STEPS_MAX: usize = 1_000_000;
/// Most rows of a query within a template.
pub const TEMPLATE_ROWS_MAX: usize = 1_000;
/// Largest compiled pattern of `match` and `reReplaceAll` in bytes.
pub const TEMPLATE_REGEX_MAX_BYTES: usize = 1024 * 1024;
/// Widest padding and precision of a `printf` verb in characters.
pub const PRINTF_WIDTH_MAX: usize = 256;

/// Most rows that one rule's expression may give.
pub const ROWS_PER_RULE_MAX: usize = 100_000;
/// Most alerts of one rule at once; those that no longer match may stand beside all that do.
pub const ALERTS_PER_RULE_MAX: usize = 2 * ROWS_PER_RULE_MAX;
/// How long a pending alert whose data is missing keeps its `for` clock.
pub const PENDING_NO_DATA_MAX_MS: i64 = 5 * 60 * 1000;
/// Nothing was evaluated for longer than this: pending alerts begin anew.
pub const FOR_OUTAGE_MAX_MS: i64 = 60 * 60 * 1000;
/// After an outage a pending alert fires no sooner than the outage lasted, and at most this later.
pub const FOR_GRACE_MAX_MS: i64 = 10 * 60 * 1000;

/// Most alerts at once that others evaluate and hand in, and most bytes of labels and annotations of each.
pub const OUTSIDE_ALERTS_MAX: usize = 50_000;
/// See [`OUTSIDE_ALERTS_MAX`].
pub const OUTSIDE_ALERT_MAX_BYTES: usize = 8 * 1024;

/// Longest matcher (name and value) in bytes, and most matchers of one route, rule or silence.
pub const MATCHER_MAX_BYTES: usize = 4 * 1024;
/// Most matchers of one list.
pub const MATCHERS_MAX: usize = 64;
/// Most routes of a configuration.
pub const ROUTES_MAX: usize = 2_000;
/// Most receivers of a configuration.
pub const RECEIVERS_MAX: usize = 500;
/// Most integrations of one receiver.
pub const INTEGRATIONS_MAX: usize = 32;

/// Most alerts of one group; further ones are counted and not told.
pub const GROUP_ALERTS_MAX: usize = ROWS_PER_RULE_MAX;
/// A group in which nothing happens is looked at this often, or at its own interval if that is longer.
pub const GROUP_LOOK_MS: i64 = 60 * 1000;
/// Episodes of one stored part of what a line was told: some 24 bytes each, within the state store's largest value.
pub const TOLD_CHUNK: usize = 1_000;
/// From so many groups waiting on, people get one message for all of them.
pub const SUMMARY_GROUPS_MIN: usize = 5;
/// Most alerts that one message to a program has; what is left follows in the next.
pub const PROGRAM_ALERTS_MAX: usize = 1_000;

/// Most silences, ended ones among them.
pub const SILENCES_MAX: usize = 10_000;
/// Longest author and reason of a silence in bytes.
pub const SILENCE_TEXT_MAX_BYTES: usize = 4 * 1024;
/// Most times at which a silence comes again.
pub const RECURRENCES_MAX: usize = 16;
/// How long a silence that has ended is kept.
pub const SILENCE_KEPT_MS: i64 = 5 * 24 * 60 * 60 * 1000;

/// Alerts of one cause belong to one incident until this long after the last was over.
pub const INCIDENT_GAP_MS: i64 = 10 * 60 * 1000;
/// Most alerts of an incident whose keys are kept while they fire; further ones are counted.
pub const INCIDENT_ALERTS_MAX: usize = 200;
/// Most entries of an incident's timeline.
pub const INCIDENT_ENTRIES_MAX: u32 = 2_000;
/// Longest text of an entry in bytes.
pub const INCIDENT_TEXT_MAX_BYTES: usize = 2_000;
/// Most incidents that are kept; the oldest go first.
pub const INCIDENTS_MAX: usize = 10_000;
/// How long an incident is kept when it is over.
pub const INCIDENT_KEPT_MS: i64 = 400 * 24 * 60 * 60 * 1000;

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
/// Mattermost: 16,383 characters of a message are documented.
pub const MATTERMOST_MAX_CHARS: usize = 16_000;
/// Rocket.Chat: its default `Message_MaxAllowedSize` is 5,000.
pub const ROCKET_CHAT_MAX_CHARS: usize = 4_900;
/// Discord: characters before the embed, of its title and of its text.
pub const DISCORD_CONTENT_MAX_CHARS: usize = 2_000;
/// Discord: characters of an embed's title.
pub const DISCORD_TITLE_MAX_CHARS: usize = 256;
/// Discord: characters of an embed's text.
pub const DISCORD_TEXT_MAX_CHARS: usize = 4_096;
/// Telegram: characters of a message.
pub const TELEGRAM_MAX_CHARS: usize = 4_096;
/// Teams: 28 KB of a message are documented, 21 KB were measured; characters of the text, of up to four bytes, with
/// most of them one.
pub const TEAMS_TEXT_MAX_CHARS: usize = 10_000;
/// Google Chat: 4,096 characters of a text message.
pub const GOOGLE_CHAT_MAX_CHARS: usize = 4_000;
/// PagerDuty: characters of a summary.
pub const PAGERDUTY_SUMMARY_MAX_CHARS: usize = 1_024;
/// PagerDuty: an event has room for 512 KB; nobody reads that at night.
pub const PAGERDUTY_DETAILS_MAX_CHARS: usize = 10_000;
/// Mail: characters of a subject.
pub const MAIL_SUBJECT_MAX_CHARS: usize = 200;
/// Mail: characters of a body.
pub const MAIL_MAX_CHARS: usize = 100_000;
/// Most alerts of one message that have a line of their own.
pub const STORY_ALERTS_MAX: usize = 500;
/// Most alerts that are named among those kept quiet.
pub const STORY_ALSO_MAX: usize = 40;
/// Longest link that is sent; a longer one is replaced by a word, never cut.
pub const LINK_MAX_CHARS: usize = 1_000;
/// Longest reason of a failed delivery that is kept, in bytes.
pub const REASON_MAX_BYTES: usize = 512;

const _: () = assert!(BACKOFF_FIRST_MS < BACKOFF_MAX_MS && BACKOFF_MAX_MS < RETRY_AFTER_MAX_MS);
const _: () =
    assert!(2 * LINK_MAX_CHARS < SLACK_SECTION_MAX_CHARS && SLACK_SECTION_MAX_CHARS < SLACK_MESSAGE_MAX_CHARS);
