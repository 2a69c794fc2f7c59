//! Processes of their own: this test binary, started again with its orders in the environment.

use std::env;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio, abort};
use std::thread;
use std::time::Duration;

use pitwatch_collector::state::{self, Engine, StateError};

use crate::workload;

const ORDERS_VAR: &str = "PITWATCH_STATE_TEST_CHILD";
/// A child that takes longer hangs.
const CHILD_TIMEOUT: Duration = Duration::from_secs(20);
/// The line that acknowledges a batch begins so; `trace` looks for it.
pub(crate) const ACK: &str = "ACK ";
/// A clean close and a new open after so many batches.
const REOPEN_EVERY_BATCHES: u64 = 60;

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Commits batches and acknowledges each.
    Commit { batches: u64 },
    /// The same without the fsync that makes the acknowledgement true, to show that it is missed.
    CommitUnsafely { batches: u64 },
    /// Commits each batch until it is taken, over failures of the disk.
    CommitPersistently { batches: u64 },
    /// Opens the store and checks that it holds what `acked` to `begun` batches leave, and that it goes on from there.
    Check { acked: u64, begun: u64 },
    /// Opens the store, says so, and waits for its stdin to end.
    Hold,
    /// Opens the store, expecting that there is no room.
    OpenFull,
}

/// Who does it, where.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) task: Task,
    pub(crate) engine: Engine,
    pub(crate) dir: PathBuf,
    pub(crate) seed: u64,
}

impl Orders {
    /// The command that follows them, behind `wrapper` (such as strace) if there is one.
    pub(crate) fn command(&self, wrapper: &[String]) -> Command {
        let exe = env::current_exe().expect("this binary has a path");
        let mut words: Vec<String> = wrapper.to_vec();
        words.push(exe.to_str().expect("a path in UTF-8").to_owned());
        words.extend(["child::follow_orders", "--exact", "--nocapture", "--test-threads=1"].map(str::to_owned));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env(ORDERS_VAR, self.to_text()).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, wrapper: &[String]) -> Finished {
        let output = self.command(wrapper).output();
        Finished(output.unwrap_or_else(|error| panic!("cannot start {wrapper:?}: {error}")))
    }

    fn to_text(&self) -> String {
        let (task, a, b) = match self.task {
            Task::Commit { batches } => ("commit", batches, 0),
            Task::CommitUnsafely { batches } => ("commit-unsafely", batches, 0),
            Task::CommitPersistently { batches } => ("commit-persistently", batches, 0),
            Task::Check { acked, begun } => ("check", acked, begun),
            Task::Hold => ("hold", 0, 0),
            Task::OpenFull => ("open-full", 0, 0),
        };
        format!("{task} {a} {b} {} {} {}", self.engine, self.seed, self.dir.display())
    }

    fn from_text(text: &str) -> Self {
        let words: Vec<&str> = text.splitn(6, ' ').collect();
        let number = |word: &str| word.parse::<u64>().expect("a number");
        let (a, b) = (number(words[1]), number(words[2]));
        let task = match words[0] {
            "commit" => Task::Commit { batches: a },
            "commit-unsafely" => Task::CommitUnsafely { batches: a },
            "commit-persistently" => Task::CommitPersistently { batches: a },
            "check" => Task::Check { acked: a, begun: b },
            "hold" => Task::Hold,
            "open-full" => Task::OpenFull,
            other => panic!("no task {other}"),
        };
        Self { task, engine: words[3].parse().expect("an engine"), dir: words[5].into(), seed: number(words[4]) }
    }
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Finished(Output);

impl Finished {
    /// What is wrong, if anything is.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        if !self.0.status.success() {
            return Err(format!("{}: {}", self.0.status, self.last_words()));
        }
        // A filter that matches no test succeeds as well.
        if !self.stdout().contains("DONE") { Err("it did nothing".to_owned()) } else { Ok(()) }
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// The number after `word` at the beginning of a line.
    pub(crate) fn number(&self, word: &str) -> u64 {
        let stdout = self.stdout();
        let line = stdout.lines().find_map(|line| line.strip_prefix(word));
        line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("no {word:?} in {stdout}"))
    }

    fn last_words(&self) -> String {
        let stderr = String::from_utf8_lossy(&self.0.stderr);
        let telling = |line: &&str| !line.contains("RUST_BACKTRACE") && !line.trim().is_empty();
        stderr.lines().filter(telling).take(4).collect::<Vec<_>>().join(" / ")
    }
}

/// Starts a child that holds the store in `dir` open, and waits until it does.
pub(crate) fn holder(engine: Engine, dir: &Path) -> Child {
    let orders = Orders { task: Task::Hold, engine, dir: dir.to_owned(), seed: 0 };
    let mut child = orders.command(&[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.as_mut().expect("piped")).lines();
    assert!(lines.any(|line| line.expect("text").contains("HOLDING")), "the child could not open the store");
    child
}

#[test]
fn follow_orders() {
    let Ok(text) = env::var(ORDERS_VAR) else { return };
    let orders = Orders::from_text(&text);
    // By itself: what strace traces outlives a strace that is killed.
    thread::spawn(|| {
        thread::sleep(CHILD_TIMEOUT);
        eprintln!("it hung for {CHILD_TIMEOUT:?}");
        abort();
    });
    // Ends the line that the test runner began.
    say("");
    match orders.task {
        Task::Commit { batches } => commit(&orders, batches),
        Task::CommitUnsafely { batches } => commit_unsafely(&orders, batches),
        Task::CommitPersistently { batches } => commit_persistently(&orders, batches),
        Task::Check { acked, begun } => check(&orders, acked, begun),
        Task::Hold => {
            let _state = state::open(orders.engine, &orders.dir).expect("it opens");
            say("HOLDING");
            stdin().lines().for_each(drop);
        }
        Task::OpenFull => match state::open(orders.engine, &orders.dir) {
            Err(StateError::DiskFull { .. }) => say("DONE"),
            other => panic!("instead of no room: {other:?}"),
        },
    }
}

/// One write to stdout: under strace its place among the others is that of the acknowledgement.
fn say(line: &str) {
    let mut stdout = stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes()).expect("stdout takes it");
    stdout.flush().expect("stdout takes it");
}

fn commit(orders: &Orders, batches: u64) {
    let mut state = state::open(orders.engine, &orders.dir).expect("it opens");
    for number in 1..=batches {
        state.commit(&workload::batch(orders.seed, number)).expect("it commits");
        say(&format!("{ACK}{number}"));
        if number % REOPEN_EVERY_BATCHES == 0 {
            drop(state);
            state = state::open(orders.engine, &orders.dir).expect("it opens again");
        }
    }
    say("DONE");
}

fn commit_unsafely(orders: &Orders, batches: u64) {
    drop(state::open(orders.engine, &orders.dir).expect("it opens"));
    match orders.engine {
        Engine::Redb => {
            let database = redb::Database::open(orders.dir.join("state.redb")).expect("it opens");
            for number in 1..=batches {
                let mut write = database.begin_write().expect("it begins");
                write.set_durability(redb::Durability::None).expect("it may");
                for (table, key, value) in workload::batch(orders.seed, number).iter() {
                    let definition = redb::TableDefinition::<&[u8], &[u8]>::new(table.name());
                    let mut table = write.open_table(definition).expect("it is there");
                    match value {
                        Some(value) => table.insert(key, value).expect("it puts"),
                        None => table.remove(key).expect("it deletes"),
                    };
                }
                write.commit().expect("it commits");
                say(&format!("{ACK}{number}"));
            }
        }
        #[cfg(feature = "sled")]
        Engine::Sled => {
            let config = sled::Config::new().path(orders.dir.join("state.sled")).segment_size(4 * 1024 * 1024);
            let db = config.open().expect("it opens");
            for number in 1..=batches {
                let mut sled_batch = sled::Batch::default();
                for (table, key, value) in workload::batch(orders.seed, number).iter() {
                    let tree_key = [&[table as u8], key].concat();
                    match value {
                        Some(value) => sled_batch.insert(tree_key, value),
                        None => sled_batch.remove(tree_key),
                    }
                }
                db.apply_batch(sled_batch).expect("it commits");
                db.flush().expect("it flushes");
                say(&format!("{ACK}{number}"));
            }
        }
        #[cfg(not(feature = "sled"))]
        Engine::Sled => unreachable!("sled is not built in"),
    }
    say("DONE");
}

fn commit_persistently(orders: &Orders, batches: u64) {
    const TRIES_MAX: u64 = 2_000;
    const RETRY_PAUSE: Duration = Duration::from_millis(2);
    let state = state::open(orders.engine, &orders.dir).expect("it opens");
    let (mut full, mut failed, mut unread) = (0, 0, 0);
    for number in 1..=batches {
        while let Err(error) = state.commit(&workload::batch(orders.seed, number)) {
            match error {
                StateError::DiskFull { .. } => full += 1,
                _ => failed += 1,
            }
            assert!(full + failed < TRIES_MAX, "it does not recover: {error:?}");
            match workload::counter(&*state) {
                Ok(done) => assert!(done == number || done + 1 == number, "after a failure batch {done} of {number}"),
                Err(_) => unread += 1,
            }
            thread::sleep(RETRY_PAUSE);
        }
        say(&format!("{ACK}{number}"));
        assert_eq!(workload::counter(&*state).expect("it reads"), number);
    }
    say(&format!("FULL {full}"));
    say(&format!("FAILED {failed}"));
    say(&format!("UNREAD {unread}"));
    say("DONE");
}

fn check(orders: &Orders, acked: u64, begun: u64) {
    let open = || state::open(orders.engine, &orders.dir).unwrap_or_else(|error| panic!("it does not open: {error:?}"));
    let state = open();
    let done = workload::check(&*state, orders.seed, acked, begun);
    state.commit(&workload::batch(orders.seed, done + 1)).expect("it goes on");
    drop(state);
    workload::check(&*open(), orders.seed, done + 1, done + 1);
    say("DONE");
}
