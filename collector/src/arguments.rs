//! The collector's command line: what may be written. What it does is the program's.

#![allow(missing_docs, reason = "clap takes a doc comment for help, and refuses one on what is flattened")]

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Keeps history, answers queries, evaluates rules and sends alerts, for a fleet of Pitwatch agents.
#[derive(Debug, Parser)]
#[command(version, after_help = "Then: `pitwatch token create` makes a token with which an agent enrols.")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the data directory and the certificate authority. `run` does it too.
    Init {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Print the authority's certificate: what clients of HTTP trust where no other certificate is configured.
    #[command(after_help = "Example:\n  pitwatch-collector authority > pitwatch-ca.pem\n  \
        pitwatch --collector watch.example.com:4718 --ca pitwatch-ca.pem --token … hosts")]
    Authority {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Serve agents and people until stopped.
    Run {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Check the configuration file and the rules, and say everything that is wrong with them.
    CheckConfig {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Copy everything that the collector needs into a directory, whether it runs or not. Again into the same directory,
    /// it copies only what is new.
    Backup {
        /// The backup's directory.
        dir: PathBuf,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Put a backup into an empty data directory.
    Restore {
        /// The backup's directory.
        dir: PathBuf,
        /// Do without files of history that are damaged in the backup.
        #[arg(long)]
        leave_out_damaged: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Read everything, check every checksum, decode every column, and say what is damaged. Status 1 if anything is.
    Verify {
        /// A backup to verify, instead of the data directory.
        dir: Option<PathBuf>,
        /// How to say it.
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
        #[command(flatten)]
        file: ConfigFile,
    },
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, clap::Args)]
pub struct ConfigFile {
    /// The configuration file; without it everything has its default.
    #[arg(long, value_name = "FILE", env = "PITWATCH_COLLECTOR_CONFIG")]
    pub config: Option<PathBuf>,
}
