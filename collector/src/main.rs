//! The collector's command line: initialise, run, check the configuration.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use pitwatch_collector::config::Config;
use pitwatch_collector::run;
use tokio::sync::{oneshot, watch};

/// Keeps history, answers queries, evaluates rules and sends alerts, for a fleet of Pitwatch agents.
#[derive(Debug, Parser)]
#[command(version, after_help = "Then: `pitwatch token create` makes a token with which an agent enrols.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the data directory and the certificate authority. `run` does it too.
    Init {
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
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file; without it everything has its default.
    #[arg(long, value_name = "FILE", env = "PITWATCH_COLLECTOR_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn load(&self) -> anyhow::Result<Config> {
        let path = self.config.clone().unwrap_or_else(|| "/etc/pitwatch/collector.toml".into());
        Ok(Config::load(&path, self.config.is_none())?)
    }
}

fn main() -> ExitCode {
    match act(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Init { file } => {
            let config = file.load()?;
            let authority = run::init(&config)?;
            println!("{}: ready; authority {}", config.data_dir.display(), authority.fingerprint());
            Ok(())
        }
        Command::CheckConfig { file } => {
            let config = file.load()?;
            let rules = pitwatch_collector::alerts::rules::check(&config.alerting)?;
            println!("good: {rules} rules, {} receivers", config.alerting.receivers.len());
            Ok(())
        }
        Command::Run { file } => {
            let config = file.load()?;
            tracing_subscriber::fmt().with_max_level(config.log_level).with_writer(io::stderr).with_ansi(false).init();
            rustls::crypto::ring::default_provider()
                .install_default()
                .map_err(|_| anyhow::anyhow!("another TLS provider is installed"))?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .context("no async runtime")?;
            runtime.block_on(async {
                let (stop, stopped) = watch::channel(false);
                tokio::spawn(async move {
                    signalled().await;
                    let _ = stop.send(true);
                });
                let (ready, _addresses) = oneshot::channel();
                run::run(config, stopped, ready).await
            })
        }
    }
}

/// Returns when the process is asked to stop.
async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
