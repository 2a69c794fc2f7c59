//! The agent's command line: enrol, run, check the configuration, print the signals once.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use pitwatch_agent::arguments::{Arguments, Command, ConfigFile};
use pitwatch_agent::config::Config;
use pitwatch_agent::doctor;
use pitwatch_agent::exposition;
use pitwatch_agent::link::enroll::enroll;
use pitwatch_agent::reload::Reloader;
use pitwatch_agent::run;
use pitwatch_agent::signals::{Now, Signals, SignalsConfig};
use pitwatch_shared::identity::{AgentName, EnrollToken};
use tokio::sync::watch;

/// Between the two looks of `once`: processes' shares of a CPU need two. Milliseconds.
const ONCE_PAUSE_MS: u64 = 500;
/// How long `once` waits for what may hang, each time.
const ONCE_PATIENCE: Duration = Duration::from_secs(2);
/// Names of signals that one line tells.
const NAMES_SHOWN: usize = 3;

fn main() -> ExitCode {
    match act(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Enroll { collector, token, name, file } => {
            enrol(collector.as_deref(), &token, name.as_deref(), &file)?;
        }
        Command::Run { file } => {
            let config = Config::load(&file.config)?;
            tracing_subscriber::fmt().with_max_level(config.log_level).with_writer(io::stderr).with_ansi(false).init();
            runtime()?.block_on(async {
                let (stop, stopped) = watch::channel(false);
                tokio::spawn(async move {
                    signalled().await;
                    let _ = stop.send(true);
                });
                let wanted = Arc::new(AtomicBool::new(false));
                tokio::spawn(hung_up(wanted.clone()));
                let (reloader, config) = Reloader::start(&file.config, config, wanted, Now::read().ts_ms);
                run::run(config, reloader, stopped).await
            })?;
        }
        Command::CheckConfig { file } => {
            let config = Config::load(&file.config)?;
            println!("{}: good (agent {}, collector {})", file.config.display(), config.name, config.collector);
            for (label, metrics) in config.labels_of_signals() {
                println!(
                    "  labels.{label}: {} signals have a label of this name and keep their own: {}",
                    metrics.len(),
                    few(&metrics)
                );
            }
        }
        Command::Doctor { config } => return examine(config),
        Command::Once { config } => once(config)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The first names of a list, and whether there are more.
fn few(names: &[&str]) -> String {
    let shown = &names[..names.len().min(NAMES_SHOWN)];
    format!("{}{}", shown.join(", "), if shown.len() < names.len() { ", …" } else { "" })
}

fn examine(config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let config = config.map(|path| Config::load(&path)).transpose()?;
    let findings = doctor::examine(config.as_ref());
    let missing = findings.iter().filter(|finding| matches!(finding.state, doctor::State::Missing { .. })).count();
    for finding in &findings {
        println!("{finding}");
    }
    println!("{} checks, {missing} missing", findings.len());
    Ok(if missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn enrol(collector: Option<&str>, token: &str, name: Option<&str>, file: &ConfigFile) -> anyhow::Result<()> {
    let token: EnrollToken = token.parse()?;
    let config = Config::load_over(&file.config, |variable| match variable {
        "PITWATCH_AGENT_COLLECTOR" => collector.map(str::to_owned),
        "PITWATCH_AGENT_NAME" => name.map(str::to_owned),
        _ => None,
    })?;
    let name: AgentName = config.name.clone();
    let collector = config.collector.to_string();
    let identity = runtime()?.block_on(enroll(&collector, &token, &name))?;
    identity.save(&config.data_dir)?;
    println!("enrolled {name} at {collector}; key and certificate are in {}", config.data_dir.display());
    println!("next: systemctl enable --now pitwatch-agent   (or: pitwatch-agent run)");
    Ok(())
}

fn once(config: Option<PathBuf>) -> anyhow::Result<()> {
    let (config, labels) = match config {
        Some(path) => {
            let config = Config::load(&path)?;
            (config.signals, config.labels)
        }
        None => (SignalsConfig::default(), vec![("job".to_owned(), "node".to_owned())]),
    };
    let mut signals = Signals::new(&config, &labels);
    signals.be_patient(ONCE_PATIENCE);
    for round in 0..2 {
        if round > 0 {
            std::thread::sleep(Duration::from_millis(ONCE_PAUSE_MS));
        }
        for id in 0..signals.groups().len() {
            signals.gather(id as u16, Now::read());
        }
    }
    let mut out = io::stdout().lock();
    exposition::write(&mut out, signals.tables()).and_then(|()| out.flush()).context("cannot write the signals")
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no async runtime")
}

/// Asks for the configuration to be read anew at every SIGHUP, for ever.
async fn hung_up(wanted: Arc<AtomicBool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        wanted.store(true, Ordering::Relaxed);
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
