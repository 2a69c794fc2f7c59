//! A command line as text for people, without its secrets.
//!
//! What looks like a secret becomes `***`: the value of a name that says so (`--password=…`, `token: …`, `-p …` of
//! programs known for it), the password of a URL, what follows `Bearer`, and words that look like keys by themselves.
//! It rather takes away too much than too little; what it cannot know (`-x hunter2` of a program of your own) stays,
//! and so `command_lines = false` keeps all of it on the host.

use super::super::parse;

/// Longest text made of a command line, in bytes.
pub(super) const COMMAND_MAX_BYTES: usize = 256;
/// What stands where a secret stood.
const HIDDEN: &str = "***";
/// Parts of names whose values are secrets.
const SECRET_NAMES: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "credential",
    "auth",
    "cookie",
    "private",
    "access-key",
];
/// Ends of names whose values are secrets: as parts they are in too many others.
const SECRET_ENDS: [&str; 3] = ["pass", "key", "dsn"];
/// Options whose value is a secret, by the program that has them: its name's beginning.
const SECRET_OPTIONS: [(&str, &str); 10] = [
    ("mysql", "-p"),
    ("mariadb", "-p"),
    ("mongo", "-p"),
    ("sshpass", "-p"),
    ("redis-cli", "-a"),
    ("curl", "-u"),
    ("wget", "-u"),
    ("ldap", "-w"),
    ("openssl", "-k"),
    ("vault", "-t"),
];
/// Beginnings of keys that are known by their form.
const KEY_FORMS: [&str; 11] =
    ["ghp_", "gho_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "sk-", "sk_live_", "akia", "eyj", "pwe1_"];
/// A word of letters and digits mixed that is this long is taken for a key.
const KEY_MIN_BYTES: usize = 32;
/// A word may be a known key's form from this length on.
const FORM_MIN_BYTES: usize = 16;

/// The text of a command line as /proc has it: arguments that end with a nought byte each.
pub(super) fn command(raw: &[u8]) -> String {
    let raw = raw.strip_suffix(b"\0").unwrap_or(raw);
    let mut out = String::new();
    let (mut program, mut hide_next) = (String::new(), false);
    for (at, argument) in raw.split(|byte| *byte == 0).enumerate() {
        let argument = parse::text(argument, 4 * COMMAND_MAX_BYTES);
        if at == 0 {
            program = argument.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        } else {
            out.push(' ');
        }
        // `-p VALUE`, but not `--token --next`.
        if hide_next && !argument.starts_with('-') {
            out.push_str(HIDDEN);
            hide_next = false;
            continue;
        }
        let option = SECRET_OPTIONS.iter().find(|(of, option)| program.starts_with(of) && argument.starts_with(option));
        hide_next = match option {
            Some((_, option)) if argument.len() > option.len() && !argument.starts_with("--") => {
                out.push_str(option);
                out.push_str(HIDDEN);
                continue;
            }
            Some((_, option)) if argument == *option => true,
            _ => at > 0 && names_a_secret(argument.trim_start_matches('-')) && !argument.contains(['=', ':', '/']),
        };
        out.push_str(&redacted(&argument));
        if out.len() > COMMAND_MAX_BYTES {
            break;
        }
    }
    out.truncate(out.floor_char_boundary(COMMAND_MAX_BYTES));
    out
}

/// Whether the value of `name` is a secret.
fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part)) || SECRET_ENDS.iter().any(|end| name.ends_with(end))
}

/// One argument: words, which may be names with values, URLs and keys.
fn redacted(argument: &str) -> String {
    let mut out = String::with_capacity(argument.len());
    let mut hide_next = false;
    let mut rest = argument;
    while !rest.is_empty() {
        let separators = rest.find(|c: char| !is_separator(c)).unwrap_or(rest.len());
        out.push_str(&rest[..separators]);
        rest = &rest[separators..];
        let end = rest.find(is_separator).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        // `scheme://user:password@host`: everything from `//` to the last `@` before the path.
        if let Some((shown, after)) = url_login(word) {
            out.push_str(shown);
            out.push_str(HIDDEN);
            rest = &rest[after..];
            hide_next = false;
            continue;
        }
        let is_scheme = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
        if hide_next && matches!(word, ":" | "=") {
            // `"password":"x"` and `password = x`: the sign stands between.
            out.push_str(word);
        } else if hide_next || looks_like_a_key(word) {
            out.push_str(HIDDEN);
            // `Authorization: Bearer x`: the secret is still to come.
            hide_next = is_scheme;
        } else if let Some((name, value)) = word.split_once([':', '=']) {
            let sign = &word[name.len()..=name.len()];
            out.push_str(name);
            out.push_str(sign);
            if names_a_secret(name) {
                // `token: value` and `"password":"value"` have it in the next word.
                hide_next = value.is_empty();
                out.push_str(if value.is_empty() { "" } else { HIDDEN });
            } else {
                out.push_str(&redacted(value));
            }
        } else {
            // `"password" : "x"`, `Authorization Bearer x`.
            hide_next = is_scheme;
            hide_next |= names_a_secret(word) && tail.trim_start_matches(['"', '\'', ' ']).starts_with([':', '=']);
            out.push_str(word);
        }
        rest = tail;
    }
    out
}

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '"' | '\'' | '`' | '&' | '?' | ';' | ',' | '{' | '}' | '(' | ')' | '[' | ']' | '<' | '>')
}

/// What may be shown of a URL with a login, and where its `@` is: `https://user:` of `https://user:pass@host/`.
fn url_login(word: &str) -> Option<(&str, usize)> {
    let begin = word.find("://")? + 3;
    let authority = word[begin..].find('/').map_or(word.len(), |at| begin + at);
    let at = begin + word[begin..authority].rfind('@')?;
    let shown = word[begin..at].find(':').map_or(begin, |colon| begin + colon + 1);
    Some((&word[..shown], at))
}

/// A word that is a key by its form or by its look.
fn looks_like_a_key(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    if word.len() >= FORM_MIN_BYTES && KEY_FORMS.iter().any(|form| lower.starts_with(form)) {
        return true;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_' | b'-');
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    word.len() >= KEY_MIN_BYTES && word.trim_end_matches('=').bytes().all(plain) && letters >= 6 && digits >= 4
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(arguments: &[&str]) -> String {
        command(format!("{}\0", arguments.join("\0")).as_bytes())
    }

    #[test]
    fn secrets_are_hidden() {
        for arguments in [
            &["app", "--password=hunter2"][..],
            &["app", "--password", "hunter2"],
            &["app", "-db-pass=hunter2"],
            &["app", "DB_PASSWORD=hunter2"],
            &["app", "--api-key:hunter2"],
            &["app", "--auth-token", "hunter2"],
            &["app", "postgres://game:hunter2@db/x"],
            &["app", "--dsn=postgres://game:hunter2@db/x"],
            &["app", "--url=https://hunter2@host/x"],
            &["app", "redis://:hunter2@cache:6379"],
            &["app", "https://host/x?token=hunter2&a=1"],
            &["app", "-H", "Authorization: Bearer hunter2"],
            &["app", "{\"user\":\"a\",\"password\":\"hunter2\"}"],
            &["app", "{\"password\" : \"hunter2\"}"],
            &["/usr/bin/mysqldump", "-phunter2", "db"],
            &["mysql", "-p", "hunter2"],
            &["redis-cli", "-a", "hunter2"],
            &["curl", "-u", "admin:hunter2"],
            &["sh", "-c", "PGPASSWORD=hunter2 psql"],
            &["java", "-Djavax.net.ssl.keyStorePassword=hunter2", "-jar", "x.jar"],
        ] {
            let text = of(arguments);
            assert!(!text.contains("hunter2") && text.contains(HIDDEN), "{arguments:?}: {text}");
        }
        for key in ["ghp_abcdefghijklmnop1234", "eyJhbGciOiJIUzI1NiJ9.e30.x1", "0123456789abcdef0123456789abcdef"] {
            assert!(!of(&["app", key]).contains(key), "{key}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for arguments in [
            &["/usr/bin/java", "-Xmx4g", "-jar", "/opt/game/lobby.jar", "--port=8080"][..],
            &["nginx:", "worker", "process"],
            &["postgres:", "game", "lobby", "10.0.0.7(51234)", "idle"],
            &["/usr/bin/python3", "/usr/share/unattended-upgrades/unattended-upgrade-shutdown"],
            &["app", "--config", "/etc/app.toml", "--passive", "https://host:8443/path?a=1"],
        ] {
            assert_eq!(of(arguments), arguments.join(" "));
        }
        assert_eq!(of(&["app", "--url=https://me:x1@h:1/p", "--verbose"]), "app --url=https://me:***@h:1/p --verbose");
        assert_eq!(command(b""), "");
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_bounded_text(raw in prop::collection::vec(any::<u8>(), 0..3000)) {
            let text = command(&raw);
            prop_assert!(text.len() <= COMMAND_MAX_BYTES);
            prop_assert!(!text.chars().any(char::is_control));
        }

        #[test]
        fn a_secret_of_any_form_is_hidden(secret in "[a-zA-Z0-9!#$%^*~.+=-]{6,40}", name in "(--)?(db_|My)?(password|secret|token)") {
            prop_assume!(!"password secret token db_ My ***".contains(&secret));
            let text = of(&["app", &format!("{name}={secret}"), "end"]);
            prop_assert!(!text.contains(&secret), "{}", text);
            prop_assert!(text.ends_with(" end"));
        }
    }
}
