//! The commands: each asks the collector, arranges the answer and judges whether it is bad news.

mod agents;
mod alerts;
mod doctor;
mod events;
pub(crate) mod host;
mod hosts;
mod incidents;
mod pages;
mod query;
mod routes;
mod rules;
mod silences;
mod status;
mod tokens;

use crate::args::{AgentsCommand, Command, ListArgs, ListFormat, RulesCommand, TokenCommand};
use crate::clock::Clock;
use crate::connect::{Answer, Client};
use crate::error::CliError;
use crate::table::{Cell, Table, Tone};

pub(crate) use hosts::full_tone;
pub(crate) use query::seconds_text;

/// The path of the collector's own endpoints.
const OWN: [&str; 3] = ["api", "v1", "pitwatch"];

/// For whom is written: the time, and what the terminal can do.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    /// Now.
    pub(crate) clock: Clock,
    /// Whether to colour.
    pub(crate) color: bool,
    /// Columns of a chart.
    pub(crate) width: usize,
    /// Columns of the terminal, if it is one.
    pub(crate) columns: Option<usize>,
}

/// What a command says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// For standard output.
    pub(crate) text: String,
    /// For standard error, as it is.
    pub(crate) remarks: String,
    /// For standard error, each as a warning.
    pub(crate) warnings: Vec<String>,
    /// Whether a script should take notice.
    pub(crate) is_bad_news: bool,
}

impl Report {
    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// Runs a command that needs no collector; `None` if it needs one.
pub(crate) fn alone(command: &Command) -> Option<Result<Report, CliError>> {
    match command {
        Command::Completions { shell } => Some(Ok(pages::completions(*shell))),
        Command::Man { dir } => Some(pages::manual(dir)),
        Command::Routes(command) => Some(Ok(routes::run(command))),
        Command::Rules(args) => match args.command.as_ref()? {
            RulesCommand::Check { files } => Some(Ok(rules::files::check(files))),
            RulesCommand::Test { files, pitwatch } => Some(Ok(rules::files::test(files, *pitwatch))),
            RulesCommand::Preview(_) | RulesCommand::Reload => None,
        },
        _ => None,
    }
}

/// Runs a command that asks the collector.
pub(crate) async fn run(command: &Command, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    match command {
        Command::Query(args) => query::run(args, client, screen).await,
        Command::Hosts(args) => list(*args, client.get(&own(&["hosts"])).await?, screen, hosts::arrange),
        Command::Host(args) => host::run(args, client, screen).await,
        Command::Top(args) => crate::top::run(args, client, screen).await,
        Command::Doctor(args) => doctor::run(args, client, screen).await,
        Command::Alerts(args) => match &args.command {
            None => list(args.list, client.get(&own(&["alerts"])).await?, screen, alerts::arrange),
            Some(command) => alerts::act(command, client).await,
        },
        Command::Silence(command) => silences::run(command, client, screen).await,
        Command::Incidents(args) => incidents::run(args, client, screen).await,
        Command::Routes(_) => alone(command).unwrap_or(Ok(Report::default())),
        Command::Events(args) => events::run(args, client, screen).await,
        Command::Rules(args) => match &args.command {
            None => list(args.list, client.get(&["api", "v1", "rules"]).await?, screen, rules::arrange),
            Some(RulesCommand::Preview(args)) => rules::preview::run(args, client, screen).await,
            Some(RulesCommand::Reload) => rules::reload(client).await,
            Some(RulesCommand::Check { .. } | RulesCommand::Test { .. }) => {
                alone(command).unwrap_or(Ok(Report::default()))
            }
        },
        Command::Status(args) => status::run(args.output, client, screen).await,
        Command::Agents(AgentsCommand::List(args)) => {
            list(*args, client.get(&own(&["agents"])).await?, screen, agents::arrange)
        }
        Command::Agents(AgentsCommand::Revoke { name }) => agents::revoke(name, client).await,
        Command::Token(TokenCommand::Create(args)) => tokens::create(args, client, screen).await,
        Command::Token(TokenCommand::List(args)) => {
            list(*args, client.get(&own(&["tokens"])).await?, screen, tokens::arrange)
        }
        Command::Token(TokenCommand::Revoke { id }) => tokens::revoke(id, client).await,
        Command::Completions { .. } | Command::Man { .. } => alone(command).unwrap_or(Ok(Report::default())),
    }
}

pub(crate) fn own<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    OWN.iter().chain(rest).copied().collect()
}

/// Writes a list in the format asked for. `arrange` makes the table and tells whether it is bad news.
fn list<T>(
    args: ListArgs,
    answer: Answer<T>,
    screen: &Screen,
    arrange: impl FnOnce(&T, &Screen) -> (Table, bool),
) -> Result<Report, CliError> {
    let (table, is_bad_news) = arrange(&answer.data, screen);
    let text = match args.output {
        ListFormat::Table => table.to_text(screen.color, screen.columns),
        ListFormat::Csv => table.to_csv(),
        ListFormat::Json => with_line_feed(answer.body),
    };
    Ok(Report { text, warnings: answer.warnings, is_bad_news, ..Report::default() })
}

fn with_line_feed(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// A moment as an age for people.
fn age(ms: Option<i64>, screen: &Screen) -> Cell {
    Cell::maybe(ms, |ms| screen.clock.age(*ms))
}

/// A name and how many: `2 firing`, `1 receiver`.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `3 hosts: 1 well, 2 silent`; kinds of which there are none are left out.
pub(crate) fn tally(total: String, kinds: &[(usize, &str)]) -> String {
    let parts: Vec<String> = kinds.iter().filter(|(n, _)| *n > 0).map(|(n, kind)| format!("{n} {kind}")).collect();
    if parts.is_empty() { total } else { format!("{total}: {}", parts.join(", ")) }
}

/// A state with its mark: shape and word, so that colour is never needed.
fn state(word: &str) -> Cell {
    let (mark, tone) = state_mark(word);
    Cell::with_exact(format!("{mark} {word}"), word).tone(tone)
}

/// The mark of a state, and how it stands out.
pub(crate) fn state_mark(word: &str) -> (&'static str, Tone) {
    match word {
        "alerting" | "firing" | "err" | "revoked" | "failing" => ("✖", Tone::Red),
        "silent" | "away" | "pending" | "no_data" => ("…", Tone::Amber),
        "well" | "connected" | "ok" | "inactive" => ("✔", Tone::Faint),
        _ => ("·", Tone::Plain),
    }
}
