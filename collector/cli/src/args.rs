//! The command line: what may be written (`alerting`: of rules, alerts, silences, incidents and routes), and the help that
//! teaches it (`examples`).

mod alerting;
mod examples;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::connect::{COLLECTOR_DIR, Given};
pub(crate) use alerting::*;
use examples::*;

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
    /// The authority that the collector's certificate is of, in PEM; those that this host trusts if left out
    #[arg(long, global = true, value_name = "FILE", env = "PITWATCH_CA", hide_env_values = true)]
    ca: Option<PathBuf>,
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
        Given {
            collector: some(&self.collector),
            token: some(&self.token),
            ca: self.ca.clone().filter(|path| !path.as_os_str().is_empty()),
            dir: self.collector_dir.clone(),
        }
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
        assert!(
            parse("pitwatch silence edit 7f --for 4h").is_ok() && parse("pitwatch silence edit 7f a=b c=d").is_ok()
        );
        assert!(parse("pitwatch silence edit 7f --for 4h --until 09:00").is_err());
        assert!(parse("pitwatch incidents show 7").is_ok() && parse("pitwatch routes test a.yml x=y").is_ok());
        assert!(parse("pitwatch").is_err());
    }
}
