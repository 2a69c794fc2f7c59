//! What can go wrong, in words that say what to do, and the exit status of each.

use std::path::PathBuf;

use crate::table::Tone;

/// Exit status: the answer is bad news.
pub(crate) const EXIT_BAD_NEWS: u8 = 1;
/// Exit status: the command makes no sense as given.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Exit status: the collector cannot be reached, or does not allow or manage it.
pub(crate) const EXIT_UNREACHABLE: u8 = 3;

/// Where the file of `--ca` comes from.
const GET_AUTHORITY: &str = "on the collector: pitwatch-collector authority > pitwatch-ca.pem";

/// How like a name must be to be suggested, of 1, and how many are.
const SIMILAR_MIN: f64 = 0.8;
const SIMILAR_MAX: usize = 3;

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Nobody said where the collector is, and none runs here.
    #[error("no collector is known here: there is no {}", path.display())]
    NoCollector {
        /// Where a local collector would have written its address.
        path: PathBuf,
    },
    /// The local collector's file is there but closed.
    #[error("cannot read {} ({reason})", path.display())]
    LocalFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An address that is none.
    #[error("{0:?} is no address of a collector")]
    Address(String),
    /// A collector is known, but no token for it.
    #[error("there is no token for the collector at {at}")]
    NoToken {
        /// Its address.
        at: String,
    },
    /// The file of `--ca` is of no use.
    #[error("no authority can be read from {} ({reason})", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// No connection.
    #[error("cannot reach the collector at {at} ({reason})")]
    Unreachable {
        /// Its address.
        at: String,
        /// Why not.
        reason: String,
    },
    /// The token is not known, or its role is not enough.
    #[error("the collector does not allow it: {0}")]
    NotAllowed(String),
    /// The request is wrong.
    #[error("{0}")]
    Refused(String),
    /// A query that is wrong.
    #[error("{message}")]
    Query {
        /// What the collector says.
        message: String,
        /// The query.
        query: String,
    },
    /// The collector could not answer.
    #[error("the collector at {at} could not answer: {message}")]
    Failed {
        /// Its address.
        at: String,
        /// What it says.
        message: String,
    },
    /// An answer that this program does not understand.
    #[error("the collector at {at} answered something else than expected ({reason})")]
    Unexpected {
        /// Its address.
        at: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that the collector does not know.
    #[error("there is no {kind} {name:?}")]
    NoSuch {
        /// Of what it is the name.
        kind: &'static str,
        /// The name.
        name: String,
        /// Names that are like it.
        like: Vec<String>,
    },
    /// An argument that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file that cannot be written.
    #[error("cannot write {} ({reason})", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The terminal does not do what it must.
    #[error("cannot draw in this terminal ({0})")]
    Terminal(String),
}

/// Names that one may have meant, the likeliest first.
pub(crate) fn similar<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> = known.map(|one| (strsim::jaro_winkler(name, one), one)).collect();
    scored.retain(|(score, _)| *score > SIMILAR_MIN);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.into_iter().take(SIMILAR_MAX).map(|(_, one)| one.to_owned()).collect()
}

impl CliError {
    /// The program's exit status.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            CliError::Address(_)
            | CliError::Authority { .. }
            | CliError::Usage(_)
            | CliError::Refused(_)
            | CliError::NoSuch { .. }
            | CliError::File { .. }
            | CliError::Query { .. } => EXIT_USAGE,
            _ => EXIT_UNREACHABLE,
        }
    }

    /// What to try, with a word before each.
    fn hints(&self) -> Vec<(&'static str, String)> {
        let elsewhere = ("elsewhere?", "pitwatch --collector HOST:4718 … or PITWATCH_COLLECTOR".to_owned());
        let is_running = ("is it running?", "systemctl status pitwatch-collector".to_owned());
        match self {
            CliError::NoCollector { .. } => vec![is_running, elsewhere],
            CliError::LocalFile { .. } => vec![
                ("as its owner?", "sudo pitwatch …".to_owned()),
                ("with a token?", "pitwatch --collector HOST:4718 --token … or PITWATCH_TOKEN".to_owned()),
            ],
            CliError::Address(_) => vec![("write", "HOST:PORT, or http://HOST:PORT, or https://HOST:PORT".to_owned())],
            CliError::Authority { .. } => vec![("whence?", GET_AUTHORITY.to_owned())],
            CliError::NoToken { .. } => vec![
                ("have one?", "pitwatch --token … or PITWATCH_TOKEN".to_owned()),
                ("need one?", "on the collector: pitwatch token create --role viewer --for NAME".to_owned()),
            ],
            CliError::Unreachable { reason, at } => {
                let mut hints = vec![is_running, elsewhere];
                hints.splice(..0, unreachable(reason, at));
                hints
            }
            CliError::NotAllowed(_) => {
                vec![("need a token?", "on the collector: pitwatch token create --role ROLE --for NAME".to_owned())]
            }
            CliError::Query { query, .. } => vec![("the query", query.clone())],
            CliError::Failed { .. } => vec![("what is wrong?", "pitwatch status".to_owned())],
            CliError::Unexpected { .. } => {
                vec![("same version?", "pitwatch --version, and pitwatch-collector --version there".to_owned())]
            }
            CliError::Usage(_) => vec![("help", "pitwatch --help, pitwatch COMMAND --help".to_owned())],
            CliError::NoSuch { kind, like, .. } => {
                let meant = like.iter().map(|name| ("did you mean?", name.clone()));
                meant.chain([("all of them", format!("pitwatch {kind}s"))]).collect()
            }
            CliError::Terminal(_) => vec![("without one?", "pitwatch hosts".to_owned())],
            CliError::Refused(_) | CliError::File { .. } => Vec::new(),
        }
    }

    /// The message and its hints.
    pub(crate) fn to_text(&self, color: bool) -> String {
        let hints = self.hints();
        let width = hints.iter().map(|(word, _)| word.len()).max().unwrap_or(0);
        let mut out = format!("{} {self}\n", Tone::Red.paint("error:", color));
        for (word, text) in hints {
            out.push_str(&format!("  {word:width$}   {text}\n"));
        }
        out
    }
}

/// What a failed connection tells about its cause.
fn unreachable(reason: &str, at: &str) -> Option<(&'static str, String)> {
    let (host, port) = at.rsplit_once(':')?;
    let is_here = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
    if reason.contains("refused") && !is_here {
        let text =
            format!("nothing on {host} takes port {port}: [http] listen in its collector.toml is 127.0.0.1 by default");
        return Some(("it is up", text));
    }
    if reason.contains("no answer to a connection") {
        return Some(("a firewall?", format!("TCP port {port} from here to {host}")));
    }
    if reason.contains("lookup") || reason.contains("resolve") || reason.contains("Name or service") {
        return Some(("the name?", format!("{host} is not known here")));
    }
    if reason.contains("certificate") || reason.contains("UnknownIssuer") {
        let (word, text) = match reason {
            reason if reason.contains("not valid for") || reason.contains("NotValidForName") => (
                "by another name?",
                format!("give the name that its certificate has, or put {host} into [http] names on the collector"),
            ),
            reason if reason.contains("expired") => {
                ("its certificate", "is past its end: put a new one where [http] certificate says".to_owned())
            }
            _ => ("its own authority?", format!("pitwatch --ca FILE … or PITWATCH_CA; {GET_AUTHORITY}")),
        };
        return Some((word, text));
    }
    if reason.contains("InvalidContentType") || reason.contains("corrupt message") {
        return Some(("no TLS there?", format!("pitwatch --collector http://{at}")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let unreachable =
            CliError::Unreachable { at: "127.0.0.1:4718".to_owned(), reason: "connection refused".to_owned() };
        insta::assert_snapshot!(unreachable.to_text(false), @"
        error: cannot reach the collector at 127.0.0.1:4718 (connection refused)
          is it running?   systemctl status pitwatch-collector
          elsewhere?       pitwatch --collector HOST:4718 … or PITWATCH_COLLECTOR
        ");
        let query = CliError::Query {
            message: "1:5: parse error: unexpected end of input".to_owned(),
            query: "sum(".to_owned(),
        };
        insta::assert_snapshot!(query.to_text(false), @"
        error: 1:5: parse error: unexpected end of input
          the query   sum(
        ");
        assert_eq!((query.exit_status(), unreachable.exit_status()), (2, 3));
        let known = ["db-eu-3", "db-eu-4", "lobby-1"];
        let typo =
            CliError::NoSuch { kind: "host", name: "db-eu3".to_owned(), like: similar("db-eu3", known.into_iter()) };
        insta::assert_snapshot!(typo.to_text(false), @r#"
        error: there is no host "db-eu3"
          did you mean?   db-eu-3
          did you mean?   db-eu-4
          all of them     pitwatch hosts
        "#);
    }
}
