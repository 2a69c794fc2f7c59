//! `pitwatch completions` and `pitwatch man`: what shells and `man` want to know, made from the command line itself.

use std::io;
use std::path::Path;

use clap_complete::Shell;

use super::Report;
use crate::error::CliError;

/// The script that completes a command line in a shell.
pub(super) fn completions(shell: Shell) -> Report {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::command(), "pitwatch", &mut script);
    Report::text(String::from_utf8_lossy(&script))
}

/// Writes a page for the program and one for each of its commands.
pub(super) fn manual(dir: &Path) -> Result<Report, CliError> {
    let failed = |error: io::Error| CliError::File { path: dir.to_owned(), reason: error.to_string() };
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(crate::command(), dir).map_err(failed)?;
    Ok(Report::text(format!("{}: read them with `man -l {}`\n", dir.display(), dir.join("pitwatch.1").display())))
}
