//! `pitwatch`: see the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    pitwatch_cli::main()
}
