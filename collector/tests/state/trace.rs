//! A process's system calls on files, as `strace` wrote them down, in the order in which they began and ended.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::child::{ACK, Orders};

/// Everything that may change a file or its name, or tell where a write goes.
const CALLS: &str = "open,openat,creat,close,dup,dup2,dup3,fcntl,lseek,write,pwrite64,writev,pwritev,pwritev2,truncate,\
                     ftruncate,fallocate,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,\
                     mkdir,mkdirat,fsync,fdatasync,sync,syncfs,sync_file_range,mmap,copy_file_range,sendfile,splice,\
                     io_uring_setup";

/// One moment of a call.
#[derive(Debug)]
pub(crate) enum Moment {
    /// It was made: a write may be on its way to the disk from now on.
    Begin,
    /// It returned this; negative is an error.
    End(i64),
}

/// A call of `thread`.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) thread: u32,
    pub(crate) name: String,
    pub(crate) args: Vec<Arg>,
}

/// One argument of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arg {
    /// A string or buffer, whole.
    Bytes(Vec<u8>),
    /// Anything else, as printed.
    Word(String),
}

impl Call {
    pub(crate) fn word(&self, at: usize) -> &str {
        match self.args.get(at) {
            Some(Arg::Word(word)) => word,
            other => panic!("{} has {other:?} as argument {at}", self.name),
        }
    }

    pub(crate) fn number(&self, at: usize) -> i64 {
        self.word(at).parse().unwrap_or_else(|_| panic!("{} has {} as argument {at}", self.name, self.word(at)))
    }

    pub(crate) fn bytes(&self, at: usize) -> &[u8] {
        match self.args.get(at) {
            Some(Arg::Bytes(bytes)) => bytes,
            other => panic!("{} has {other:?} as argument {at}", self.name),
        }
    }

    /// The number of the batch that this call acknowledges.
    pub(crate) fn ack(&self) -> Option<u64> {
        if self.name != "write" || self.word(0) != "1" {
            return None;
        }
        let text = std::str::from_utf8(self.bytes(1)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(ACK))?.parse().ok()
    }
}

/// The command that runs another one under strace with `options`.
pub(crate) fn strace(options: &[&str]) -> Vec<String> {
    let there = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(
        there.is_ok_and(|status| status.success()),
        "this test needs strace to see the engine's system calls: apt-get install strace"
    );
    ["strace", "-f"].iter().chain(options).map(ToString::to_string).collect()
}

/// Runs a child under strace, with `faults` in its calls; returns where its calls are written.
pub(crate) fn record(orders: &Orders, faults: &[&str], scratch: &Path) -> PathBuf {
    let path = scratch.join("trace");
    let trace = format!("trace={CALLS}");
    let mut options =
        vec!["-xx", "-s", "67108864", "-e", &trace, "-e", "signal=none", "-o", path.to_str().expect("UTF-8")];
    faults.iter().for_each(|fault| options.extend(["-e", fault]));
    let wrapper = strace(&options);
    let finished = orders.run(&wrapper);
    if let Err(reason) = finished.verdict() {
        panic!("the traced {:?} failed: {reason}", orders.task);
    }
    path
}

/// Calls `each` with every moment of every call, in order, until it returns false.
pub(crate) fn replay(trace: &Path, each: &mut dyn FnMut(&Call, Moment) -> bool) {
    let mut lines = BufReader::with_capacity(1 << 20, File::open(trace).expect("the trace is there"));
    let mut line = String::new();
    let mut unfinished: HashMap<u32, Call> = HashMap::new();
    while {
        line.clear();
        lines.read_line(&mut line).expect("the trace is text") > 0
    } {
        let (thread, rest) = line.trim_end().split_once(' ').expect("a thread id");
        let (thread, rest) = (thread.parse().expect("a thread id"), rest.trim_start());
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        let go_on = if let Some(resumed) = rest.strip_prefix("<... ") {
            let (_, end) = resumed.split_once(" resumed>").expect("a resumed call");
            let call = unfinished.remove(&thread).expect("it was begun");
            each(&call, Moment::End(result(end)))
        } else if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            let call = call(thread, begun);
            let go_on = each(&call, Moment::Begin);
            unfinished.insert(thread, call);
            go_on
        } else {
            let (begun, _) = rest.split_once(") ").unwrap_or_else(|| panic!("not a call: {}", head(rest)));
            let call = call(thread, begun);
            each(&call, Moment::Begin) && each(&call, Moment::End(result(rest)))
        };
        if !go_on {
            return;
        }
    }
}

fn head(text: &str) -> &str {
    &text[..text.len().min(200)]
}

/// The number after the last `= `.
fn result(text: &str) -> i64 {
    let (_, result) = text.rsplit_once("= ").unwrap_or_else(|| panic!("no result: {}", head(text)));
    let number = result.split(' ').next().unwrap_or(result);
    // An address, of which only the success matters, or `?` of a call that a dying process never ended.
    number.parse().unwrap_or(if number.starts_with("0x") { 0 } else { -1 })
}

/// Parses `name(args`, with or without the closing bracket.
fn call(thread: u32, text: &str) -> Call {
    let (name, mut rest) = text.split_once('(').unwrap_or_else(|| panic!("not a call: {}", head(text)));
    let mut args = Vec::new();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (hex, after) = quoted.split_once('"').expect("a closing quote");
            assert!(!after.starts_with("..."), "strace cut {name}'s bytes short");
            args.push(Arg::Bytes(unhex(hex)));
            rest = after.strip_prefix(", ").unwrap_or("");
        } else {
            let (word, after) = rest.split_once(", ").unwrap_or((rest, ""));
            args.push(Arg::Word(word.to_owned()));
            rest = after;
        }
    }
    Call { thread, name: name.to_owned(), args }
}

/// Decodes `\x41\x42`.
fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        other => panic!("{other:#x} is not a hex digit"),
    };
    text.as_bytes().chunks_exact(4).map(|four| (digit(four[2]) << 4) | digit(four[3])).collect()
}

#[test]
fn calls_are_read_as_strace_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    std::fs::write(
        &path,
        "12 openat(AT_FDCWD, \"\\x2f\\x61\", O_RDWR|O_CREAT|O_CLOEXEC, 0666) = 3\n\
         12 pwrite64(3, \"\\x41\\x00\", 2, 4096 <unfinished ...>\n\
         13 fdatasync(3)          = -1 EIO (Input/output error) (INJECTED)\n\
         12 <... pwrite64 resumed>) = 2\n\
         12 write(1, \"\\x41\\x43\\x4b\\x20\\x37\\x0a\", 6) = 6\n\
         12 +++ exited with 0 +++\n",
    )
    .unwrap();
    let mut seen = Vec::new();
    replay(&path, &mut |call, moment| {
        seen.push(format!("{} {} {:?} {:?}", call.thread, call.name, moment, call.ack()));
        if call.name == "pwrite64" {
            assert_eq!((call.number(0), call.bytes(1), call.number(3)), (3, &b"A\0"[..], 4096));
        }
        true
    });
    let expected = [
        "12 openat Begin None",
        "12 openat End(3) None",
        "12 pwrite64 Begin None",
        "13 fdatasync Begin None",
        "13 fdatasync End(-1) None",
        "12 pwrite64 End(2) None",
        "12 write Begin Some(7)",
        "12 write End(6) Some(7)",
    ];
    assert_eq!(seen, expected);
}
