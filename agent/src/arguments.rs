//! The agent's command line: what may be written. What it does is the program's.

#![allow(missing_docs, reason = "clap takes a doc comment for help, and refuses one on what is flattened")]

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Gathers this host's signals and delivers them to a Pitwatch collector.
#[derive(Debug, Parser)]
#[command(version, after_help = "First: `pitwatch token create` on the collector, then `pitwatch-agent enroll` here.")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrol this host with a one-time token: makes a key here and has it signed by the collector.
    #[command(after_help = "Example:\n  pitwatch-agent enroll --collector watch.example:4717 --token pwe1_…")]
    Enroll {
        /// Where the collector listens for agents.
        #[arg(long, value_name = "HOST:PORT")]
        collector: Option<String>,
        /// The token that `pitwatch token create` printed; or in PITWATCH_TOKEN, out of the process list.
        #[arg(long, env = "PITWATCH_TOKEN", hide_env_values = true)]
        token: String,
        /// This agent's name, its `instance` label; the host's name unless the configuration says otherwise.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Gather and deliver until stopped; SIGHUP, or a change of the file, has the configuration read anew.
    Run {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Check the configuration file and say everything that is wrong with it.
    CheckConfig {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Say what the agent cannot read on this host, and how to allow it; status 1 if something is missing.
    #[command(after_help = "Run it as the agent's own user, or as root to see what the host has at all.")]
    Doctor {
        /// The configuration file, if there is one.
        #[arg(long, value_name = "FILE", env = "PITWATCH_AGENT_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Gather every signal once and print it in the Prometheus text format.
    Once {
        /// Labels, cadences and roots are taken from here if it is given.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub struct ConfigFile {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "PITWATCH_AGENT_CONFIG", default_value = "/etc/pitwatch/agent.toml")]
    pub config: PathBuf,
}
