//! Manual pages and completions of the three programs: every command is in them, and the tools that read them take them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use pitwatch_tests::programs::path;

const PROGRAMS: [&str; 3] = ["pitwatch", "pitwatch-agent", "pitwatch-collector"];

/// The commands that a program's own help lists.
fn commands(program: &str) -> BTreeSet<String> {
    let help = Command::new(path(program).unwrap()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let list = list.split("\n\n").next().unwrap();
    let words = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    words.filter_map(|line| line.split_whitespace().next()).filter(|word| *word != "help").map(str::to_owned).collect()
}

/// What bash offers after this line, by the script alone.
fn offered(script: &Path, line: &[&str]) -> BTreeSet<String> {
    let program = line[0];
    // How the script calls its function is its own affair: bash was told.
    let ask = format!(
        "source {script:?}; told=$(complete -p {program}); function=${{told#*-F }}; function=${{function%% *}}; \
         COMP_WORDS=({words} ''); COMP_CWORD={count}; $function {program} '' {last}; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words = line.join(" "),
        count = line.len(),
        last = line[line.len() - 1],
    );
    let output = Command::new("bash").args(["--noprofile", "--norc", "-c", &ask]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_program_has_its_pages_and_completions() {
    let temp = tempfile::tempdir().unwrap();
    let made = Command::new(path("pitwatch-pages").unwrap()).arg(temp.path()).status().unwrap();
    assert!(made.success());
    for program in PROGRAMS {
        let commands = commands(program);
        assert!(commands.len() >= 5, "{program}: {commands:?}");
        let manual = temp.path().join("man/man1");
        let page = fs::read_to_string(manual.join(format!("{program}.1"))).unwrap();
        for command in &commands {
            let own = manual.join(format!("{program}-{command}.1"));
            assert!(own.is_file(), "{own:?}");
            let listed = format!("{program}-{command}(1)").replace('-', "\\-");
            assert!(page.contains(&listed), "{listed} in {page}");
        }
        let script = temp.path().join("bash-completion/completions").join(program);
        let offered = offered(&script, &[program]);
        assert!(commands.is_subset(&offered), "{program}: {commands:?} in {offered:?}");
        let zsh = fs::read_to_string(temp.path().join(format!("zsh/site-functions/_{program}"))).unwrap();
        let fish = fs::read_to_string(temp.path().join(format!("fish/vendor_completions.d/{program}.fish"))).unwrap();
        assert!(zsh.starts_with(&format!("#compdef {program}")), "{zsh}");
        for command in &commands {
            assert!(zsh.contains(command) && fish.contains(&format!("-a \"{command}\"")), "{program}: {command}");
        }
    }
}
