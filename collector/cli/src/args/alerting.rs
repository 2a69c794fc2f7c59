//! The part of the command line that is about rules, alerts, silences, incidents and routes.

use std::path::PathBuf;

use clap::Subcommand;

use super::{ListArgs, ListFormat};

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
    /// Change a silence: what is not said stays as it is
    Edit(SilenceEditArgs),
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

/// Arguments of `silence edit`.
#[derive(Debug, clap::Args)]
pub(crate) struct SilenceEditArgs {
    /// Its id, from `pitwatch silence list`
    pub(crate) id: String,
    /// Other matchers, in the place of its own: the silence gets another id then
    #[arg(value_name = "MATCHER")]
    pub(crate) matchers: Vec<String>,
    /// How long from now, or from its start if that is to come
    #[arg(short = 'd', long = "for", value_name = "DURATION", conflicts_with = "until")]
    pub(crate) duration: Option<String>,
    /// Until when, such as 09:00 or '2026-03-01 09:00'
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// From when
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<String>,
    /// Only then, again and again: days of the week and a time of the day; may be given more than once
    #[arg(long, value_name = "WHEN", conflicts_with = "once")]
    pub(crate) every: Vec<String>,
    /// No longer again and again: from its start to its end
    #[arg(long)]
    pub(crate) once: bool,
    /// Whose clock --every goes by; this host's if left out
    #[arg(long, value_name = "ZONE", requires = "every")]
    pub(crate) zone: Option<String>,
    /// Why
    #[arg(short, long)]
    pub(crate) comment: Option<String>,
    /// Who
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
