//! Manual pages and completions of every program, made from the command lines that the programs themselves read, for packages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser};
use clap_complete::Shell;

/// Writes man/man1, bash-completion/completions, zsh/site-functions and fish/vendor_completions.d below a directory, as they
/// stand below /usr/share.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where they go, such as target/share
    dir: PathBuf,
}

fn main() -> ExitCode {
    match write(&Arguments::parse().dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(dir: &Path) -> anyhow::Result<()> {
    let programs = [
        ("pitwatch", pitwatch_cli::command()),
        ("pitwatch-agent", pitwatch_agent::arguments::Arguments::command()),
        ("pitwatch-collector", pitwatch_collector::arguments::Arguments::command()),
    ];
    let made = |below: &str| {
        let dir = dir.join(below);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display())).map(|()| dir)
    };
    let manual = made("man/man1")?;
    let shells = [
        (Shell::Bash, made("bash-completion/completions")?),
        (Shell::Zsh, made("zsh/site-functions")?),
        (Shell::Fish, made("fish/vendor_completions.d")?),
    ];
    for (name, command) in programs {
        // The agent and the collector are told by their crates' names otherwise.
        let mut command = command.name(name).bin_name(name);
        clap_mangen::generate_to(command.clone(), &manual)
            .with_context(|| format!("cannot write into {}", manual.display()))?;
        for (shell, dir) in &shells {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command, name, &mut script);
            // bash-completion looks for a file of the program's name.
            let file = match shell {
                Shell::Bash => name.to_owned(),
                Shell::Zsh => format!("_{name}"),
                _ => format!("{name}.fish"),
            };
            let path = dir.join(file);
            std::fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
