//! Who hears of what: Alertmanager's file, or the plain list of receivers of the collector's own configuration.

use std::path::Path;

use anyhow::Context as _;
use pitwatch_alerting::Routing;
use pitwatch_alerting::receivers::{
    Discord, GoogleChat, HttpOptions, Integration, Kind, MarkdownHook, Receiver, Slack, Teams, Texts, Webhook,
};
use pitwatch_alerting::template::Library;

use super::rules::{self, Fingerprint};
use crate::config::{AlertingConfig, ReceiverConfig, ReceiverKind};

/// Largest file of routing, templates or authorities, in bytes.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Most files of templates.
const TEMPLATE_FILES_MAX: usize = 200;

/// The routing that the configuration means, and the templates that its messages call by name.
///
/// # Errors
/// Every mistake in the files.
pub fn load(config: &AlertingConfig) -> anyhow::Result<(Routing, Library)> {
    let Some(path) = &config.alertmanager_config else {
        let repeat_ms = i64::try_from(config.repeat_interval.as_millis()).unwrap_or(i64::MAX);
        let receivers = config.receivers.iter().map(receiver).collect();
        return Ok((Routing::plain(receivers, repeat_ms), Library::default()));
    };
    let name = path.display().to_string();
    let text = read(path)?;
    let variable = |name: &str| std::env::var(name).ok();
    let routing = Routing::parse(&name, &text, &variable).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    if let Some(fallback) = &config.fallback_receiver {
        let known = routing.receiver(fallback).is_some();
        anyhow::ensure!(known, "alerting.fallback_receiver: {name} has no receiver {fallback:?}");
    }
    let mut library = Library::default();
    for file in templates(path, &routing.template_files)? {
        library.add(&read(&file)?).with_context(|| file.display().to_string())?;
    }
    Ok((routing, library))
}

/// What tells that one of the files changed: the configuration's, and those that its patterns of templates mean.
///
/// # Errors
/// One of them cannot be read.
pub(super) fn fingerprint(config: &AlertingConfig, patterns: &[String]) -> anyhow::Result<Fingerprint> {
    let Some(path) = &config.alertmanager_config else { return Ok(Vec::new()) };
    let mut paths = vec![path.clone()];
    paths.extend(templates(path, patterns)?);
    rules::seen(paths)
}

/// The files that the patterns of a configuration mean.
fn templates(config: &Path, patterns: &[String]) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let dir = config.parent().unwrap_or(Path::new("/"));
    let mut files = Vec::new();
    for pattern in patterns {
        files.extend(matching(dir, pattern)?);
    }
    Ok(files)
}

/// A file that the configuration names.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let about = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(about.len() <= FILE_MAX_BYTES, "{}: over {FILE_MAX_BYTES} bytes", path.display());
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The files of a pattern: a path, whose last part may have `*` in it; relative to the configuration's directory.
fn matching(dir: &Path, pattern: &str) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let whole = dir.join(pattern);
    let last = whole.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
    if !last.contains('*') {
        return Ok(vec![whole]);
    }
    let dir = whole.parent().unwrap_or(Path::new("/"));
    let entries = std::fs::read_dir(dir).with_context(|| format!("templates: cannot read {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| fits(&last, name)) {
            anyhow::ensure!(files.len() < TEMPLATE_FILES_MAX, "templates: more than {TEMPLATE_FILES_MAX} files");
            files.push(dir.join(name));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a name fits a pattern of texts with `*` between them.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// 32 random bytes.
///
/// # Errors
/// The system has none.
pub(super) fn random_key() -> anyhow::Result<[u8; 32]> {
    use ring::rand::SecureRandom as _;
    let mut key = [0; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(key)
}

fn receiver(config: &ReceiverConfig) -> Receiver {
    let (url, texts) = (config.url.clone(), Texts::default());
    let hook = || MarkdownHook { url: url.clone(), channel: None, username: None, texts: Texts::default() };
    let kind = match config.kind {
        ReceiverKind::Slack => Kind::Slack(Box::new(Slack::hook(url))),
        ReceiverKind::Mattermost => Kind::Mattermost(hook()),
        ReceiverKind::RocketChat => Kind::RocketChat(hook()),
        ReceiverKind::Discord => Kind::Discord(Discord { url, content: None, username: None, texts }),
        ReceiverKind::Teams => Kind::Teams(Teams { url, texts }),
        ReceiverKind::GoogleChat => Kind::GoogleChat(GoogleChat { url, texts }),
        ReceiverKind::Webhook => Kind::Webhook(Webhook { url, max_alerts: None }),
    };
    let integration = Integration { kind, send_resolved: true, http: HttpOptions::default() };
    Receiver { name: config.name.as_str().into(), integrations: vec![integration] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_names() {
        for (pattern, name) in [("*.tmpl", "a.tmpl"), ("a*", "a"), ("a*c*e", "abcde"), ("x", "x"), ("*", "")] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.tmpl", "a.txt"), ("a*c", "ab"), ("ab*", "a"), ("x", "xy")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
