//! Receivers: what is known of each platform, the bytes that it takes, and what its answers mean.
//!
//! Sans-IO: [`build`] makes a [`Delivery`] of a message, [`judge`] an outcome of an answer. Limits of the platforms are
//! in [`crate::limits`] and docs/reference/receivers.md.
//!
//! - [`story`]: a message as people read it, before any platform's markup;
//! - [`markup`]: that as text of a platform, shortened by meaning;
//! - `slack`, `chat` (Mattermost, Rocket.Chat, Discord, Telegram, Teams, Google Chat), `email`: for people;
//! - `webhook`, `alertmanager`, `pagerduty`: for programs.

mod alertmanager;
mod chat;
mod email;
pub mod markup;
mod pagerduty;
mod slack;
pub mod story;
mod webhook;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use webhook::annotations;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::dispatch::Outcome;
use crate::limits;
use crate::message::{Detail, Frame, Message};
use crate::template::{Library, Template, url_query_escape};

/// Somebody that can be told.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Its name.
    pub name: Arc<str>,
    /// How it is told; each for itself.
    pub integrations: Vec<Integration>,
}

/// One way to tell a receiver.
#[derive(Clone, Debug)]
pub struct Integration {
    /// The platform, with its settings.
    pub kind: Kind,
    /// Whether it hears of the end.
    pub send_resolved: bool,
    /// How it is reached.
    pub http: HttpOptions,
}

/// How a receiver is reached.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// Who we are.
    pub authorization: Option<Authorization>,
    /// Which certificates it may have.
    pub tls: TlsOptions,
    /// A proxy.
    pub proxy_url: Option<String>,
}

/// Which certificates a server may have.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// A file of further authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// Trust any certificate.
    pub insecure: bool,
}

/// Who we are to a receiver.
#[derive(Clone, Debug)]
pub enum Authorization {
    /// `Authorization: SCHEME CREDENTIALS`
    Scheme {
        /// Such as `Bearer`.
        scheme: String,
        /// The token.
        credentials: Secret,
    },
    /// A name and a password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// A text that is never printed, or the file that holds it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The text.
    Text(String),
    /// The file; read each time, so that it may be changed.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Templates that stand for the title and the text; our own layout, where there are none.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// The title.
    pub title: Option<Template>,
    /// The text.
    pub text: Option<Template>,
}

/// A platform, with its settings.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Slack.
    Slack(Box<Slack>),
    /// Mattermost's incoming webhook.
    Mattermost(MarkdownHook),
    /// Rocket.Chat's incoming webhook.
    RocketChat(MarkdownHook),
    /// Discord's webhook.
    Discord(Discord),
    /// A bot of Telegram.
    Telegram(Telegram),
    /// Microsoft Teams' workflow webhook.
    Teams(Teams),
    /// Google Chat's webhook.
    GoogleChat(GoogleChat),
    /// Alertmanager's JSON.
    Webhook(Webhook),
    /// An Alertmanager.
    Alertmanager(Alertmanager),
    /// PagerDuty's Events v2.
    PagerDuty(Box<PagerDuty>),
    /// E-mail.
    Email(Box<Email>),
}

/// Slack: an incoming webhook, or an app's token.
#[derive(Clone, Debug)]
pub struct Slack {
    /// Where to post.
    pub post: SlackPost,
    /// The channel; a webhook has its own.
    pub channel: Option<String>,
    /// Who seems to write.
    pub username: Option<Template>,
    /// With what picture.
    pub icon_emoji: Option<Template>,
    /// The bar's colour.
    pub color: Option<Template>,
    /// What stands before.
    pub pretext: Option<Template>,
    /// Where the title leads.
    pub title_link: Option<Template>,
    /// Title and text.
    pub texts: Texts,
}

impl Slack {
    /// An incoming webhook that looks as the platform has it.
    #[must_use]
    pub fn hook(url: Secret) -> Self {
        Self {
            post: SlackPost::Hook { url },
            channel: None,
            username: None,
            icon_emoji: None,
            color: None,
            pretext: None,
            title_link: None,
            texts: Texts::default(),
        }
    }
}

/// Where to post to Slack.
#[derive(Clone, Debug)]
pub enum SlackPost {
    /// An incoming webhook.
    Hook {
        /// Its address.
        url: Secret,
    },
    /// `chat.postMessage` and `chat.update`.
    App {
        /// The app's token.
        token: Secret,
        /// The address of `chat.postMessage`.
        api_url: String,
        /// Whether what ends is written into the message that told of it.
        update: bool,
    },
}

/// An incoming webhook that takes Slack's oldest form, with Markdown in it.
#[derive(Clone, Debug)]
pub struct MarkdownHook {
    /// Its address.
    pub url: Secret,
    /// Another channel than its own.
    pub channel: Option<String>,
    /// Who seems to write.
    pub username: Option<String>,
    /// Title and text.
    pub texts: Texts,
}

/// Discord.
#[derive(Clone, Debug)]
pub struct Discord {
    /// The webhook's address.
    pub url: Secret,
    /// What stands before the embed.
    pub content: Option<Template>,
    /// Who seems to write.
    pub username: Option<String>,
    /// Title and text.
    pub texts: Texts,
}

/// Telegram.
#[derive(Clone, Debug)]
pub struct Telegram {
    /// The API, without a slash at the end.
    pub api_url: String,
    /// The bot's token.
    pub token: Secret,
    /// The chat.
    pub chat_id: String,
    /// The thread in it.
    pub thread_id: Option<i64>,
    /// Without a sound.
    pub quiet: bool,
    /// What markup `message` uses.
    pub parse_mode: String,
    /// The text.
    pub message: Option<Template>,
}

/// Microsoft Teams.
#[derive(Clone, Debug)]
pub struct Teams {
    /// The workflow's address.
    pub url: Secret,
    /// Title and text.
    pub texts: Texts,
}

/// Google Chat.
#[derive(Clone, Debug)]
pub struct GoogleChat {
    /// The webhook's address.
    pub url: Secret,
    /// Title and text.
    pub texts: Texts,
}

/// Alertmanager's JSON.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its address.
    pub url: Secret,
    /// Most alerts of one message; further ones are only counted in it.
    pub max_alerts: Option<usize>,
}

/// An Alertmanager.
#[derive(Clone, Debug)]
pub struct Alertmanager {
    /// Its address, without `/api/v2/alerts`.
    pub url: Secret,
}

/// PagerDuty.
#[derive(Clone, Debug)]
pub struct PagerDuty {
    /// The events' address.
    pub url: String,
    /// The integration's key.
    pub routing_key: Secret,
    /// `critical`, `error`, `warning` or `info`.
    pub severity: Option<Template>,
    /// The summary.
    pub description: Option<Template>,
    /// The component.
    pub component: Option<Template>,
    /// The group.
    pub group: Option<Template>,
    /// The class.
    pub class: Option<Template>,
}

/// E-mail.
#[derive(Clone, Debug, Default)]
pub struct Email {
    /// Addresses, separated by commas.
    pub to: String,
    /// Our address.
    pub from: String,
    /// The server, `HOST:PORT`.
    pub smarthost: String,
    /// Our name to it.
    pub hello: String,
    /// The account.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Send nothing unless the connection is encrypted.
    pub require_tls: bool,
    /// Whether the connection begins encrypted; if it is not said, it does on port 465.
    pub implicit_tls: Option<bool>,
    /// Which certificates the server may have.
    pub tls: TlsOptions,
    /// The subject.
    pub subject: Option<Template>,
    /// HTML and text.
    pub texts: Texts,
}

impl Email {
    /// Alertmanager's defaults.
    #[must_use]
    pub fn unset() -> Self {
        Self { hello: "localhost".to_owned(), require_tls: true, ..Self::default() }
    }
}

impl Kind {
    /// The platform's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Slack(_) => "slack",
            Self::Mattermost(_) => "mattermost",
            Self::RocketChat(_) => "rocketchat",
            Self::Discord(_) => "discord",
            Self::Telegram(_) => "telegram",
            Self::Teams(_) => "msteams",
            Self::GoogleChat(_) => "googlechat",
            Self::Webhook(_) => "webhook",
            Self::Alertmanager(_) => "alertmanager",
            Self::PagerDuty(_) => "pagerduty",
            Self::Email(_) => "email",
        }
    }

    /// Whether people read it; they get one message where there are many.
    #[must_use]
    pub fn is_for_people(&self) -> bool {
        !matches!(self, Self::Webhook(_) | Self::Alertmanager(_) | Self::PagerDuty(_))
    }

    /// Most alerts of one message. PagerDuty has an event for each.
    #[must_use]
    pub fn alerts_max(&self) -> usize {
        match self {
            Self::PagerDuty(_) => 1,
            Self::Webhook(Webhook { max_alerts: Some(_), .. }) => limits::GROUP_ALERTS_MAX,
            kind if kind.is_for_people() => limits::GROUP_ALERTS_MAX,
            _ => limits::PROGRAM_ALERTS_MAX,
        }
    }

    /// The least time between two messages, as the platform asks.
    #[must_use]
    pub fn min_gap_ms(&self) -> i64 {
        match self {
            Self::Slack(_) | Self::Mattermost(_) | Self::RocketChat(_) | Self::GoogleChat(_) => 1_000,
            Self::Discord(_) => 500,
            // Twenty a minute in a group.
            Self::Telegram(_) => 3_000,
            Self::Teams(_) => 250,
            Self::Email(_) => 1_000,
            Self::Webhook(_) | Self::Alertmanager(_) | Self::PagerDuty(_) => 0,
        }
    }
}

/// What is to be sent.
pub enum Delivery {
    /// A request.
    Http(HttpRequest),
    /// A mail.
    Mail(Mail),
}

/// A request; always a POST of JSON. Not printed: its address and headers may be secrets.
pub struct HttpRequest {
    /// Where to.
    pub url: String,
    /// Headers beside `Content-Type`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

/// A mail.
pub struct Mail {
    /// Its subject.
    pub subject: String,
    /// As text.
    pub text: String,
    /// As HTML.
    pub html: String,
    /// The same for every mail about the group, so that they are shown together.
    pub thread: String,
}

/// Why there is nothing to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A secret cannot be read now.
    #[error("{0}")]
    Secret(String),
    /// A template of the configuration fails on this message.
    #[error("{0}")]
    Template(String),
}

/// Reads secrets.
pub type Reveal<'a> = &'a dyn Fn(&Secret) -> Result<String, String>;

/// What a message becomes for a platform.
///
/// # Errors
/// [`BuildError`]
pub fn build(
    integration: &Integration,
    message: &Message,
    frame: &Frame,
    library: &Library,
    place: Option<&str>,
    reveal: Reveal<'_>,
) -> Result<Delivery, BuildError> {
    let reveal: Open<'_> = &|secret| reveal(secret).map_err(BuildError::Secret);
    let templates = Templates { library, message, frame };
    let mut request = match &integration.kind {
        Kind::Slack(slack) => slack::request(slack, &templates, place, reveal)?,
        Kind::Mattermost(hook) => chat::mattermost(hook, &templates, reveal)?,
        Kind::RocketChat(hook) => chat::rocket_chat(hook, &templates, reveal)?,
        Kind::Discord(discord) => chat::discord(discord, &templates, reveal)?,
        Kind::Telegram(telegram) => chat::telegram(telegram, &templates, reveal)?,
        Kind::Teams(teams) => chat::teams(teams, &templates, reveal)?,
        Kind::GoogleChat(google) => chat::google_chat(google, &templates, reveal)?,
        Kind::Webhook(hook) => webhook::request(hook, message, frame, reveal)?,
        Kind::Alertmanager(other) => alertmanager::request(other, message, frame, reveal)?,
        Kind::PagerDuty(duty) => pagerduty::request(duty, &templates, reveal)?,
        Kind::Email(email) => return email::mail(email, &templates).map(Delivery::Mail),
    };
    match &integration.http.authorization {
        Some(Authorization::Scheme { scheme, credentials }) => {
            request.headers.push(("authorization", format!("{scheme} {}", reveal(credentials)?)));
        }
        Some(Authorization::Basic { user, password }) => {
            let pair = format!("{user}:{}", reveal(password)?);
            request.headers.push(("authorization", format!("Basic {}", STANDARD.encode(pair))));
        }
        None => {}
    }
    Ok(Delivery::Http(request))
}

/// Reads secrets, and says what failed.
pub(crate) type Open<'a> = &'a dyn Fn(&Secret) -> Result<String, BuildError>;

/// What an answer means, and where the platform keeps the message. Only what blames the message itself is final: a wrong
/// address or a missing permission is for an operator to put right, and the message waits until then.
#[must_use]
pub fn judge(kind: &Kind, status: u16, retry_after: Option<&str>, body: &str) -> (Outcome, Option<String>) {
    let json = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
    let reason = || format!("HTTP {status}: {}", body.trim());
    let in_body = json["retry_after"].as_f64().or_else(|| json["parameters"]["retry_after"].as_f64());
    let in_head = retry_after.and_then(|text| text.trim().parse::<f64>().ok());
    #[expect(clippy::cast_possible_truncation, reason = "float to integer saturates")]
    let retry_after_ms = in_head.or(in_body).map(|secs| (secs * 1000.0).ceil() as i64);
    let retry = |reason: String| Outcome::Retry { reason, retry_after_ms };
    match status {
        // Slack's methods say in the body whether they did it.
        200..=299 if matches!(kind, Kind::Slack(_)) && json["ok"] == false => {
            let error = json["error"].as_str().unwrap_or("no reason given").to_owned();
            match &*error {
                "msg_too_long"
                | "msg_blocks_too_long"
                | "invalid_blocks"
                | "no_text"
                | "message_not_found"
                | "cant_update_message"
                | "edit_window_closed" => (Outcome::Refused { reason: error }, None),
                _ => (retry(error), None),
            }
        }
        200..=299 => {
            let place = match (json["channel"].as_str(), json["ts"].as_str()) {
                (Some(channel), Some(ts)) => Some(format!("{channel} {ts}")),
                _ => None,
            };
            (Outcome::Delivered, place)
        }
        400 | 413 | 422 => (Outcome::Refused { reason: reason() }, None),
        _ => (retry(reason()), None),
    }
}

/// The templates of a configuration over one message.
pub(crate) struct Templates<'a> {
    pub(crate) library: &'a Library,
    pub(crate) message: &'a Message,
    pub(crate) frame: &'a Frame,
}

impl Templates<'_> {
    /// The text of a template, if there is one; the short form of a message has none.
    pub(crate) fn maybe(&self, template: Option<&Template>) -> Result<Option<String>, BuildError> {
        let template = template.filter(|_| self.message.detail == Detail::Full);
        let text = template.map(|template| template.render_message(self.library, self.message, self.frame));
        let text = text.transpose().map_err(|error| BuildError::Template(error.to_string()))?;
        Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    }
}

/// The page of a rule's expression; Alertmanager's `generatorURL`.
pub(crate) fn expr_url(external_url: &str, expr: &str) -> String {
    match external_url {
        "" => String::new(),
        base => format!("{base}/graph?g0.expr={}&g0.tab=1", url_query_escape(expr)),
    }
}

#[cfg(test)]
mod tests;
