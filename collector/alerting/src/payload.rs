//! The bodies that receivers take, as text ready to post.
//!
//! - [`slack`]: a Slack-compatible message, in the layout that people read at night;
//! - [`webhook`]: Alertmanager's webhook JSON, version 4.

pub mod slack;
pub mod webhook;

use crate::notification::Notification;
use crate::template::url_query_escape;

/// What a body needs beside the notification.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// The receiver's name.
    pub receiver: &'a str,
    /// Where people reach this collector, without a slash at the end; empty if nowhere.
    pub external_url: &'a str,
}

impl Frame<'_> {
    /// The page of an alert, if there is one to link to.
    fn alert_url(&self, notification: &Notification) -> Option<String> {
        let base = Some(self.external_url).filter(|url| !url.is_empty())?;
        Some(format!("{base}/alerts/{}", notification.alert_key))
    }

    /// The page that shows the rule's expression; Alertmanager's `generatorURL`.
    fn expr_url(&self, notification: &Notification) -> String {
        match self.external_url {
            "" => String::new(),
            base => format!("{base}/graph?g0.expr={}&g0.tab=1", url_query_escape(&notification.expr)),
        }
    }
}

/// A value for people: three significant figures, large and small ones in powers of ten.
fn figure(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    if !(1e-3..1e9).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    let decimals = match magnitude {
        m if m >= 99.95 => 0,
        m if m >= 9.995 => 1,
        m if m >= 0.9995 => 2,
        m if m >= 0.09995 => 3,
        m if m >= 0.009_995 => 4,
        _ => 5,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests;
