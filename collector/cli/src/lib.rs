//! `pitwatch`: asks the collector and answers for people at a terminal and for scripts.
//!
//! In reading order:
//! - `args`: the command line, and its help.
//! - `connect`: finding the collector and asking it; `answers`: the shapes of what it says.
//! - `commands`: one module a command: ask, arrange, judge.
//! - `top`: the fleet, live.
//! - `table`, `plot`, `units`, `clock`: how things are written.
//! - `error`: what can go wrong, and what to do then.

mod answers;
mod args;
mod clock;
mod commands;
mod connect;
mod error;
mod plot;
mod table;
mod top;
mod units;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::args::Args;
use crate::clock::Clock;
use crate::commands::Screen;
use crate::error::CliError;

/// Columns where nobody says how many there are.
const DEFAULT_WIDTH: usize = 100;

/// The command line, for completions and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    Args::command()
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    install_crypto();
    let wants_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (is_terminal, width) = (io::stdout().is_terminal(), terminal_width());
    let columns = is_terminal.then_some(width);
    let screen = Screen { clock: Clock::system(), color: wants_color && is_terminal, width, columns };
    match run(&args, &screen) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // Nothing is left to do for a message that cannot be written.
            let _ = io::stderr().write_all(error.to_text(wants_color && io::stderr().is_terminal()).as_bytes());
            ExitCode::from(error.exit_status())
        }
    }
}

fn run(args: &Args, screen: &Screen) -> Result<u8, CliError> {
    let report = match commands::alone(&args.command) {
        Some(report) => report?,
        None => {
            let client = connect::Client::new(connect::find(&args.given())?)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| CliError::Usage(format!("cannot start: {error}")))?;
            runtime.block_on(commands::run(&args.command, &client, screen))?
        }
    };
    for warning in &report.warnings {
        let _ = writeln!(io::stderr(), "note: {}", table::one_line(warning));
    }
    let _ = io::stderr().write_all(report.remarks.as_bytes());
    // A reader that has enough, such as `head`, is no error of ours.
    let _ = io::stdout().write_all(report.text.as_bytes());
    Ok(if report.is_bad_news { error::EXIT_BAD_NEWS } else { 0 })
}

/// Makes ring the process' cryptography; a second call changes nothing.
fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let asked = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    columns.or_else(asked).filter(|columns| *columns > 0).unwrap_or(DEFAULT_WIDTH)
}
