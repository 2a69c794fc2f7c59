//! The collector's command line: initialise, run, check the configuration; back up, restore, verify.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use pitwatch_collector::backup;
use pitwatch_collector::config::Config;
use pitwatch_collector::meter::Meter;
use pitwatch_collector::{run, verify};
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
enum Output {
    Table,
    Json,
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

/// Something could not be done; what was found by those commands that look for something is `FAILURE`.
const NOT_DONE: u8 = 3;

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    match act(&command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:#}");
            match command {
                Command::Backup { .. } | Command::Restore { .. } | Command::Verify { .. } => ExitCode::from(NOT_DONE),
                Command::Init { .. } | Command::Run { .. } | Command::CheckConfig { .. } => ExitCode::FAILURE,
            }
        }
    }
}

fn act(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init { file } => {
            let config = file.load()?;
            let authority = run::init(&config)?;
            println!("{}: ready; authority {}", config.data_dir.display(), authority.fingerprint());
        }
        Command::CheckConfig { file } => {
            let config = file.load()?;
            let rules = pitwatch_collector::alerts::rules::check(&config.alerting)?;
            let (routing, _) = pitwatch_collector::alerts::routing::load(&config.alerting)?;
            for remark in &routing.remarks {
                eprintln!("{remark}");
            }
            println!("good: {rules} rules, {} receivers", routing.receivers.len());
        }
        Command::Run { file } => serve(file.load()?)?,
        Command::Backup { dir, file } => back_up(&file.load()?, dir)?,
        Command::Restore { dir, leave_out_damaged, file } => {
            let config = file.load()?;
            let restored = backup::restore(dir, &config, *leave_out_damaged, &mut Meter::new("restoring"))?;
            for path in &restored.left_out {
                eprintln!("warning: {} is damaged in the backup and was left out", path.display());
            }
            let (files, bytes) = (restored.files, restored.bytes);
            println!("{}: restored, {files} files, {bytes} bytes", config.data_dir.display());
        }
        Command::Verify { dir, output, file } => {
            let report = {
                let mut meter = Meter::new("verifying");
                match dir {
                    Some(dir) => verify::backup(dir, &mut meter)?,
                    None => verify::data_dir(&file.load()?, &mut meter)?,
                }
            };
            match output {
                Output::Table => print!("{}", report.to_text()),
                Output::Json => println!("{}", serde_json::to_string(&report)?),
            }
            return Ok(if report.sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn back_up(config: &Config, dir: &std::path::Path) -> anyhow::Result<()> {
    use_ring()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no async runtime")?;
    let mut meter = Meter::new("copying");
    let copied = runtime.block_on(backup::backup(config, dir, &mut meter))?;
    drop(meter);
    for warning in &copied.warnings {
        eprintln!("warning: {warning}");
    }
    let backup::Copied { files, bytes, copied_files, copied_bytes, .. } = copied;
    println!("{}: {files} files, {bytes} bytes; copied {copied_files} files, {copied_bytes} bytes", dir.display());
    Ok(())
}

fn serve(config: Config) -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_max_level(config.log_level).with_writer(io::stderr).with_ansi(false).init();
    use_ring()?;
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

fn use_ring() -> anyhow::Result<()> {
    let installed = rustls::crypto::ring::default_provider().install_default();
    installed.map_err(|_| anyhow::anyhow!("another TLS provider is installed"))
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
