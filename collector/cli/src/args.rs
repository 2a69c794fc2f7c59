//! The command line: what may be written, and the help that teaches it.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::connect::{COLLECTOR_DIR, Given};

const EXAMPLES: &str = "\
Examples:
  pitwatch hosts                                  every host, the worst first
  pitwatch top                                    the same, live
  pitwatch host db-eu-3 --time -2h                one host, two hours ago: who did it?
  pitwatch alerts                                 what is wrong now
  pitwatch query 'node_load1'                     one value a series, now
  pitwatch query 'topk(3, rate(node_network_receive_bytes_total[1m]))'
  pitwatch query 'node_load1' --range 1h -o plot  a chart in the terminal
  pitwatch query 'node_load1' --time -2h          two hours ago
  pitwatch token create --name db-eu-3            a line to paste on the new host
  pitwatch doctor                                 what is wrong with Pitwatch itself
  pitwatch hosts -o json | jq '.data.hosts[].name'

On the collector's host the address and a token are found by themselves.
From elsewhere: PITWATCH_COLLECTOR=HOST:4718 PITWATCH_TOKEN=pwa1_… pitwatch hosts

Exit status: 0 good, 1 the answer is bad news, 2 usage, 3 cannot reach or not allowed.";

const QUERY_EXAMPLES: &str = "\
Examples:
  pitwatch query 'node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes'
      memory that is left on every host, as a share
  pitwatch query 'topk(5, sum by (instance) (rate(node_cpu_seconds_total{mode!=\"idle\"}[1m])))'
      the five busiest hosts
  pitwatch query 'node_load1{instance=\"db-eu-3\"}' --range 6h --step 1m -o csv > load.csv
  pitwatch query 'rate(node_disk_written_bytes_total[1m])' --range 15m -o plot
  pitwatch query 'up' --time 2026-03-01T02:14:00Z
  pitwatch query 'count by (__name__) ({__name__!=\"\"})' --explain
      what it touches, and how long each stage takes

Times: now, -5m (ago), seconds since 1970, or a date such as 2026-03-01T02:14:00Z or '2026-03-01 02:14'.";

const EVENTS_EXAMPLES: &str = "\
Examples:
  pitwatch events                                  the last 100 of the last week
  pitwatch events --host db-eu-3 --since 2h
  pitwatch events --kind oom_kill --kind disk_error --since 30d -o csv
  pitwatch events --severity critical -o json | jq '.data.events[].summary'

Kinds: reboot, oom_kill, disk_error, clock_step, filesystem_readonly, unit_failed, unit_recovered,
process_started, process_stopped, process_crashed, process_oom_killed, config_refused, config_reloaded, self_limit.
In rules: increase(pitwatch_events_total{kind=\"oom_kill\"}[5m]) > 0";

const TOKEN_EXAMPLES: &str = "\
Examples:
  pitwatch token create --name db-eu-3             one agent may enrol, as db-eu-3, within 1 h
  pitwatch token create --ttl 1d                   one agent may enrol under any free name
  pitwatch token create --role viewer --for grafana
      a token for the HTTP API; roles are writer, viewer, operator and admin";

const RULES_EXAMPLES: &str = "\
Examples:
  pitwatch rules                                  every rule, those that fail first
  pitwatch rules check /etc/pitwatch/rules/*.yml  before they are put in place
  pitwatch rules test tests/*.yml                 promtool's unit tests, with the same verdicts
  pitwatch rules preview new.yml --since 7d       would have fired how often, where
  pitwatch rules reload                           the collector does so by itself when a file changes

Exit status of check and test: 0 all good, 1 mistakes or failures.";

const ALERTS_EXAMPLES: &str = "\
Examples:
  pitwatch alerts                                 what is wrong now, with each alert's fingerprint
  pitwatch alerts ack 53a9953278b50841 -c 'on it' nobody is told again until it is over
  pitwatch alerts assign 53a9953278b50841 ann
  pitwatch alerts comment 53a9953278b50841 'waits for the vendor'";

const SILENCE_EXAMPLES: &str = "\
Examples:
  pitwatch silence preview 'instance=~db-.*'      what it would hold back now
  pitwatch silence add HostDiskFull instance=db-3 --for 2h --comment 'disk swap'
  pitwatch silence add role=game --every 'sat,sun 02:00-04:00' --zone Europe/Berlin --comment 'weekly maintenance'
  pitwatch silence list --all
  pitwatch silence expire ID

Matchers: label=value, label!=value, label=~pattern, label!~pattern; a first word alone is the alert's name.
amtool works too: amtool --alertmanager.url=http://x:TOKEN@127.0.0.1:4718 silence query";

const HOST_EXAMPLES: &str = "\
Examples:
  pitwatch host db-eu-3              how it is, and who works on it
  pitwatch host db-eu-3 --time -2h   the same two hours ago: who did it?
  pitwatch host db-eu-3 -o json | jq '.processes[0]'

Exit status 1 if the host is not well now.";

const TOP_HELP: &str = "\
Keys: ↑ ↓ or j k choose, Enter opens the host, Esc goes back, / filters, s sorts by the next column, ? help, q quits.
Where standard output is no terminal, it is written once. No colour with NO_COLOR.";

const DOCTOR_HELP: &str = "\
Looks at: whether the collector is ready and its disk has room, what it lost or refused, rules that fail, receivers that
take nothing, agents that are away, late, wrong in their clock or version, certificates near their end, spools that grow.
On an agent's own host, `pitwatch-agent doctor` looks from the other side.

Exit status: 0 nothing found, 1 something is wrong, 3 the collector cannot be reached (and what was found about that).";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  pitwatch completions bash > ~/.local/share/bash-completion/completions/pitwatch
  pitwatch completions zsh > ~/.zfunc/_pitwatch        (with fpath+=~/.zfunc before compinit)
  pitwatch completions fish > ~/.config/fish/completions/pitwatch.fish";

/// Ask the collector about hosts, alerts and measurements.
#[derive(Debug, Parser)]
#[command(name = "pitwatch", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Args {
    /// The collector, as HOST:PORT or a URL; the local one if left out
    #[arg(long, global = true, value_name = "HOST:PORT", env = "PITWATCH_COLLECTOR", hide_env_values = true)]
    collector: Option<String>,
    /// The API token; the local collector's if left out
    #[arg(long, global = true, value_name = "TOKEN", env = "PITWATCH_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Where the local collector keeps its files
    #[arg(long, global = true, value_name = "DIR", env = "PITWATCH_COLLECTOR_DIR", default_value = COLLECTOR_DIR, hide = true)]
    collector_dir: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// What is said about the collector.
    pub(crate) fn given(&self) -> Given {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Given { collector: some(&self.collector), token: some(&self.token), dir: self.collector_dir.clone() }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Evaluate a PromQL expression, now, at a time, or over a range
    #[command(after_help = QUERY_EXAMPLES)]
    Query(QueryArgs),
    /// List the hosts, the worst first
    Hosts(ListArgs),
    /// One host: vitals, who works on it, what alerts and happened, now or at a time
    #[command(after_help = HOST_EXAMPLES)]
    Host(HostArgs),
    /// The fleet, live: every host with the trend of its vitals, the worst first
    #[command(after_help = TOP_HELP)]
    Top(TopArgs),
    /// List the alerts, firing ones first; acknowledge, assign, comment on one
    #[command(after_help = ALERTS_EXAMPLES)]
    Alerts(AlertsArgs),
    /// Hold alerts back: for a while, or again and again
    #[command(subcommand, after_help = SILENCE_EXAMPLES)]
    Silence(SilenceCommand),
    /// List the incidents (alerts of one cause); show one, take it, close it
    Incidents(IncidentsArgs),
    /// Check an alertmanager.yml, and see who would hear of an alert, without a collector
    #[command(subcommand)]
    Routes(RoutesCommand),
    /// List what happened on hosts, the newest first: reboots, OOM kills, disk errors, units and processes that failed
    #[command(after_help = EVENTS_EXAMPLES)]
    Events(EventsArgs),
    /// List the rules and how their last evaluation went; check, test and preview rule files
    #[command(after_help = RULES_EXAMPLES)]
    Rules(RulesArgs),
    /// The agents and their certificates
    #[command(subcommand)]
    Agents(AgentsCommand),
    /// The tokens of agents that enrol and of people and programs
    #[command(subcommand, after_help = TOKEN_EXAMPLES)]
    Token(TokenCommand),
    /// How the collector itself is
    Status(StatusArgs),
    /// Find what is unwell with the collector and its agents, and say what to do
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Print what completes this command line in a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of this program into a directory
    Man {
        /// Where they go, such as ~/.local/share/man/man1
        dir: PathBuf,
    },
}

/// Arguments of `host`.
#[derive(Debug, clap::Args)]
pub(crate) struct HostArgs {
    /// The host's name
    pub(crate) name: String,
    /// Of when
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true)]
    pub(crate) time: String,
    /// How to write the page
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = PageFormat::Text)]
    pub(crate) output: PageFormat,
}

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    /// How often it asks
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub(crate) every: String,
    /// Only hosts whose name or labels contain this
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
}

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Only what concerns this agent
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// How to write the findings
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = PageFormat::Text)]
    pub(crate) output: PageFormat,
}

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PageFormat {
    /// For people
    Text,
    /// The exact values
    Json,
}

/// Arguments of `query`.
#[derive(Debug, clap::Args)]
pub(crate) struct QueryArgs {
    /// The expression
    pub(crate) expr: String,
    /// When; with --range, when it ends
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true)]
    pub(crate) time: String,
    /// Evaluate over the time before, such as 1h
    #[arg(long, value_name = "DURATION")]
    pub(crate) range: Option<String>,
    /// Distance of the points of a range, such as 10s; chosen by the range if left out
    #[arg(long, value_name = "DURATION")]
    pub(crate) step: Option<String>,
    /// Also say, on standard error, what the query touched and where its time went
    #[arg(long)]
    pub(crate) explain: bool,
    /// Which copy of history answers, whatever that does to the answer: samples, or buckets of a minute or an hour
    #[arg(long, value_name = "TIER", value_parser = ["raw", "1m", "1h"])]
    pub(crate) tier: Option<String>,
    /// How to write the answer; a plot without --range shows the last hour
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = QueryFormat::Table)]
    pub(crate) output: QueryFormat,
}

/// How `query` writes its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueryFormat {
    /// For people, with units
    Table,
    /// The collector's answer, byte for byte
    Json,
    /// The exact values, a line a sample
    Csv,
    /// A chart
    Plot,
}

/// Arguments of `rules`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RulesArgs {
    #[command(flatten)]
    pub(crate) list: ListArgs,
    #[command(subcommand)]
    pub(crate) command: Option<RulesCommand>,
}

/// Commands of `rules`.
#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Check rule files, without a collector: every mistake with its line
    Check {
        /// Rule files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Run unit tests of rules, without a collector: files as `promtool test rules` takes them
    Test {
        /// Test files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Rules mean what they mean in Pitwatch (clear expressions, missing data), not what they mean in Prometheus
        #[arg(long)]
        pitwatch: bool,
    },
    /// Say how often the rules of a file would have fired here, from the collector's history
    Preview(PreviewArgs),
    /// Have the collector take its rule files anew: all, or none if one has a mistake
    Reload,
}

/// Arguments of `rules preview`.
#[derive(Debug, clap::Args)]
pub(crate) struct PreviewArgs {
    /// The rule file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// How far back to look
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    pub(crate) since: String,
    /// Distance of the evaluations; chosen by the span if left out
    #[arg(long, value_name = "DURATION")]
    pub(crate) step: Option<String>,
    /// How to write the list
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    pub(crate) output: ListFormat,
}

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// Of this host only; may be given again
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// Of this kind only; may be given again
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<String>,
    /// Of this severity only; may be given again
    #[arg(long, value_name = "SEVERITY", value_parser = ["info", "warning", "critical"])]
    pub(crate) severity: Vec<String>,
    /// Not before this: 2h (ago), or a time
    #[arg(long, value_name = "TIME", default_value = "7d", allow_hyphen_values = true)]
    pub(crate) since: Option<String>,
    /// Not after this
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) until: Option<String>,
    /// Most events
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// Arguments of `alerts`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AlertsArgs {
    #[command(flatten)]
    pub(crate) list: ListArgs,
    #[command(subcommand)]
    pub(crate) command: Option<AlertsCommand>,
}

/// Commands of `alerts`.
#[derive(Debug, Subcommand)]
pub(crate) enum AlertsCommand {
    /// Say that you have it: nobody is told again until it is over
    Ack {
        /// The alert's fingerprint
        fingerprint: String,
        /// What you are doing about it
        #[arg(short, long, default_value = "")]
        comment: String,
    },
    /// Take that back
    Unack {
        /// The alert's fingerprint
        fingerprint: String,
    },
    /// Give it to somebody
    Assign {
        /// The alert's fingerprint
        fingerprint: String,
        /// Who shall have it
        to: String,
    },
    /// Say something about it, for its incident's timeline
    Comment {
        /// The alert's fingerprint
        fingerprint: String,
        /// What
        text: String,
    },
}

/// Commands of `silence`.
#[derive(Debug, Subcommand)]
pub(crate) enum SilenceCommand {
    /// Hold alerts back that match
    Add(SilenceAddArgs),
    /// List the silences
    List(SilenceListArgs),
    /// End silences now
    Expire {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// List the alerts that would be held back now
    Preview {
        /// Matchers
        #[arg(required = true, value_name = "MATCHER")]
        matchers: Vec<String>,
        #[command(flatten)]
        output: ListArgs,
    },
}

/// Arguments of `silence add`.
#[derive(Debug, clap::Args)]
pub(crate) struct SilenceAddArgs {
    /// Matchers, all of which must hold
    #[arg(required = true, value_name = "MATCHER")]
    pub(crate) matchers: Vec<String>,
    /// How long
    #[arg(short = 'd', long = "for", value_name = "DURATION", conflicts_with = "until")]
    pub(crate) duration: Option<String>,
    /// Until when, such as 09:00 or '2026-03-01 09:00'
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// From when; now if left out
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<String>,
    /// Only then, again and again: days of the week and a time of the day; may be given more than once
    #[arg(long, value_name = "WHEN")]
    pub(crate) every: Vec<String>,
    /// Whose clock --every goes by; this host's if left out
    #[arg(long, value_name = "ZONE", requires = "every")]
    pub(crate) zone: Option<String>,
    /// Why
    #[arg(short, long)]
    pub(crate) comment: String,
    /// Who; your user name if left out
    #[arg(short, long)]
    pub(crate) author: Option<String>,
}

/// Arguments of `silence list`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct SilenceListArgs {
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// Also those that ended
    #[arg(long)]
    pub(crate) all: bool,
}

/// Arguments of `incidents`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct IncidentsArgs {
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// Also those that are over
    #[arg(long)]
    pub(crate) all: bool,
    #[command(subcommand)]
    pub(crate) command: Option<IncidentsCommand>,
}

/// Commands of `incidents`.
#[derive(Debug, Subcommand)]
pub(crate) enum IncidentsCommand {
    /// Show one with its timeline
    Show {
        /// Its number
        id: u64,
        #[command(flatten)]
        output: ListArgs,
    },
    /// Say that you have it, with all its alerts
    Ack {
        /// Its number
        id: u64,
        /// What you are doing about it
        #[arg(short, long, default_value = "")]
        comment: String,
    },
    /// Give it to somebody
    Assign {
        /// Its number
        id: u64,
        /// Who shall have it
        to: String,
    },
    /// Say something, for its timeline
    Comment {
        /// Its number
        id: u64,
        /// What
        text: String,
    },
    /// Close it; it opens again if one of its alerts fires anew
    Close {
        /// Its number
        id: u64,
        /// How it ended
        #[arg(short, long, default_value = "")]
        comment: String,
    },
}

/// Commands of `routes`.
#[derive(Debug, Subcommand)]
pub(crate) enum RoutesCommand {
    /// Check a file, every mistake with its line, and show its tree
    Check {
        /// The alertmanager.yml
        file: PathBuf,
    },
    /// Say which receivers would hear of an alert with these labels
    Test {
        /// The alertmanager.yml
        file: PathBuf,
        /// Labels, such as severity=critical
        #[arg(value_name = "LABEL=VALUE")]
        labels: Vec<String>,
        /// Fail unless it is these, separated by commas
        #[arg(long, value_name = "RECEIVERS")]
        expect: Option<String>,
    },
}

/// Arguments of every list.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// How to write the list
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    pub(crate) output: ListFormat,
}

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people, with units
    Table,
    /// The collector's answer, byte for byte
    Json,
    /// The exact values
    Csv,
}

/// Arguments of `status`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Write the collector's answer, byte for byte
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    pub(crate) output: ListFormat,
}

/// Commands of `agents`.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// List the agents, the worst first
    List(ListArgs),
    /// Take an agent's certificate away and cut its connection
    Revoke {
        /// The agent's name
        name: String,
    },
}

/// Commands of `token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token: for an agent that enrols, or with --role for the HTTP API
    #[command(after_help = TOKEN_EXAMPLES)]
    Create(TokenCreateArgs),
    /// List the tokens, never their secrets
    List(ListArgs),
    /// Delete a token of the HTTP API
    Revoke {
        /// Its id, from `pitwatch token list`
        id: String,
    },
}

/// Arguments of `token create`.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenCreateArgs {
    /// The name that the agent must take
    #[arg(long, value_name = "HOST", conflicts_with = "role")]
    pub(crate) name: Option<String>,
    /// How long it may be used: 1h for agents, without end for the HTTP API
    #[arg(long, value_name = "DURATION")]
    pub(crate) ttl: Option<String>,
    /// A token for the HTTP API: viewer, operator, admin, or writer for remote write
    #[arg(long, value_name = "ROLE", requires = "holder", value_parser = ["writer", "viewer", "operator", "admin"])]
    pub(crate) role: Option<String>,
    /// For whom or what the API token is
    #[arg(long = "for", id = "holder", value_name = "NAME", requires = "role")]
    pub(crate) holder: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        assert!(parse("pitwatch query up --time -5m --range 1h").is_ok());
        assert!(parse("pitwatch hosts -o json --collector x:1 --token t").is_ok());
        assert!(parse("pitwatch token create --role viewer --for grafana").is_ok());
        assert!(parse("pitwatch token create --role viewer").is_err());
        assert!(parse("pitwatch token create --role root --for x").is_err());
        assert!(parse("pitwatch token create --name h --role viewer --for x").is_err());
        assert!(parse("pitwatch hosts -o plot").is_err());
        assert!(parse("pitwatch rules -o csv").is_ok());
        assert!(parse("pitwatch rules check a.yml b.yml").is_ok());
        assert!(parse("pitwatch rules check").is_err());
        assert!(parse("pitwatch rules preview a.yml --since 1d -o json").is_ok());
        assert!(parse("pitwatch alerts -o json").is_ok() && parse("pitwatch alerts ack f -c x").is_ok());
        assert!(parse("pitwatch silence add a=b --for 2h --comment x").is_ok());
        assert!(parse("pitwatch silence add a=b --for 2h").is_err(), "a silence has a reason");
        assert!(parse("pitwatch incidents show 7").is_ok() && parse("pitwatch routes test a.yml x=y").is_ok());
        assert!(parse("pitwatch").is_err());
    }
}
