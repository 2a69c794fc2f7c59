//! The collector's command line: initialise, run, check the configuration; back up, restore, verify.

use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use pitwatch_collector::arguments::{Arguments, Command, ConfigFile, Output};
use pitwatch_collector::authority::{self, Authority};
use pitwatch_collector::backup;
use pitwatch_collector::clock::unix_ms;
use pitwatch_collector::config::Config;
use pitwatch_collector::meter::Meter;
use pitwatch_collector::{run, verify};
use tokio::sync::{oneshot, watch};

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
                Command::Init { .. }
                | Command::Authority { .. }
                | Command::Run { .. }
                | Command::CheckConfig { .. } => ExitCode::FAILURE,
            }
        }
    }
}

fn act(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init { file } => {
            let config = load(file)?;
            let authority = run::init(&config)?;
            println!("{}: ready; authority {}", config.data_dir.display(), authority.fingerprint());
        }
        Command::Authority { file } => {
            let data_dir = load(file)?.data_dir;
            anyhow::ensure!(
                data_dir.join(authority::FILE).exists(),
                "{} has no authority: `pitwatch-collector init` makes it",
                data_dir.display()
            );
            print!("{}", Authority::open(&data_dir, unix_ms() / 1000)?.certificate_pem());
        }
        Command::CheckConfig { file } => {
            let config = load(file)?;
            let rules = pitwatch_collector::alerts::rules::check(&config.alerting)?;
            let (routing, _) = pitwatch_collector::alerts::routing::load(&config.alerting)?;
            for remark in &routing.remarks {
                eprintln!("{remark}");
            }
            println!("good: {rules} rules, {} receivers", routing.receivers.len());
        }
        Command::Run { file } => serve(load(file)?)?,
        Command::Backup { dir, file } => back_up(&load(file)?, dir)?,
        Command::Restore { dir, leave_out_damaged, file } => {
            let config = load(file)?;
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
                    None => verify::data_dir(&load(file)?, &mut meter)?,
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

fn load(file: &ConfigFile) -> anyhow::Result<Config> {
    let path = file.config.clone().unwrap_or_else(|| "/etc/pitwatch/collector.toml".into());
    Ok(Config::load(&path, file.config.is_none())?)
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
