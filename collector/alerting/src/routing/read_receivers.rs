//! The receivers of `alertmanager.yml`: each platform's settings, with those of `global` where its own are missing.

use std::sync::Arc;

use super::keys::{self, ABSENT, KINDS};
use super::read::{Fields, Reader};
use crate::limits;
use crate::receivers::{
    Alertmanager, Authorization, Discord, Email, GoogleChat, HttpOptions, Integration, Kind, MarkdownHook, PagerDuty,
    Receiver, Secret, Slack, SlackPost, Teams, Telegram, Texts, TlsOptions, Webhook,
};

/// What `global` says.
#[derive(Default)]
struct Global {
    http: HttpOptions,
    slack_url: Option<Secret>,
    slack_app_token: Option<Secret>,
    slack_app_url: Option<String>,
    telegram_url: Option<String>,
    pagerduty_url: Option<String>,
    email: Email,
}

pub(super) fn all(reader: &mut Reader<'_>, root: &Fields<'_>) -> Vec<Receiver> {
    let global = global(reader, root);
    let mut receivers: Vec<Receiver> = Vec::new();
    for node in reader.list(root, "receivers") {
        let known: Vec<&str> = KINDS.iter().chain(&ABSENT).copied().chain(["name"]).collect();
        let Some(fields) = reader.fields(node, "a receiver", Some(&known)) else { continue };
        let name = reader.text(&fields, "name").map(|(_, name)| name).unwrap_or_default();
        if name.is_empty() || receivers.iter().any(|receiver| *receiver.name == *name) {
            reader.error(fields.line, format!("receiver {name:?}: a name of its own is needed"));
        }
        for kind in ABSENT {
            if let Some((line, _)) = fields.find(kind) {
                let known = KINDS.map(|kind| kind.trim_end_matches("_configs")).join(", ");
                let what =
                    format!("{kind} are not built in: receiver {name:?} is told nothing by them; there are {known}");
                reader.remark(line, what);
            }
        }
        let mut integrations = Vec::new();
        for kind in KINDS {
            for node in reader.list(&fields, kind) {
                integrations.extend(integration(reader, kind, node, &global));
            }
        }
        if receivers.len() >= limits::RECEIVERS_MAX || integrations.len() > limits::INTEGRATIONS_MAX {
            reader.error(fields.line, format!("more than {} receivers", limits::RECEIVERS_MAX));
            break;
        }
        receivers.push(Receiver { name: Arc::from(name), integrations });
    }
    receivers
}

fn global(reader: &mut Reader<'_>, root: &Fields<'_>) -> Global {
    let Some((_, node)) = root.find("global") else { return Global { email: Email::unset(), ..Global::default() } };
    let Some(fields) = reader.fields(node, "global", None) else { return Global::default() };
    let text = |reader: &mut Reader<'_>, key: &str| reader.text(&fields, key).map(|(_, text)| text);
    let mut email = Email::unset();
    smtp(reader, &fields, "smtp_", &mut email);
    Global {
        http: http(reader, &fields, &HttpOptions::default()),
        slack_url: reader.url(&fields, "slack_api_url"),
        slack_app_token: reader.secret(&fields, "slack_app_token"),
        slack_app_url: text(reader, "slack_app_url"),
        telegram_url: text(reader, "telegram_api_url"),
        pagerduty_url: text(reader, "pagerduty_url"),
        email,
    }
}

fn integration(reader: &mut Reader<'_>, kind: &str, node: &crate::yaml::Node, global: &Global) -> Option<Integration> {
    let what = format!("an entry of {kind}");
    let (used, idle) = (keys::used(kind), keys::idle(kind));
    let known: Vec<&str> = used.iter().chain(idle).copied().collect();
    let fields = reader.fields(node, &what, Some(&known))?;
    reader.without_effect(&fields, idle);
    let (read, resolved_by_default) = match kind {
        "slack_configs" => (slack(reader, &fields, global), false),
        "mattermost_configs" => (hook(reader, &fields, Kind::Mattermost), true),
        "rocketchat_configs" if fields.find("token").or_else(|| fields.find("token_file")).is_some() => {
            let instead =
                "make an incoming webhook in Rocket.Chat and give its webhook_url; nothing is told until then";
            reader.remark(fields.line, format!("Rocket.Chat's tokens are not used here: {instead}"));
            return None;
        }
        "rocketchat_configs" => (hook(reader, &fields, Kind::RocketChat), true),
        "discord_configs" => (discord(reader, &fields), true),
        "telegram_configs" => (telegram(reader, &fields, global), true),
        "msteams_configs" | "msteamsv2_configs" => (teams(reader, &fields), true),
        "googlechat_configs" => (google_chat(reader, &fields), true),
        "webhook_configs" => (webhook(reader, &fields), true),
        "alertmanager_configs" => (alertmanager(reader, &fields), true),
        "pagerduty_configs" => (pagerduty(reader, &fields, global), true),
        _ => (email(reader, &fields, global), false),
    };
    let http = http(reader, &fields, &global.http);
    let send_resolved = reader.flag(&fields, "send_resolved").unwrap_or(resolved_by_default);
    Some(Integration { kind: read?, send_resolved, http })
}

fn needed<T>(reader: &mut Reader<'_>, fields: &Fields<'_>, what: &str, value: Option<T>) -> Option<T> {
    if value.is_none() {
        reader.error(fields.line, format!("{what} is missing"));
    }
    value
}

fn texts(reader: &mut Reader<'_>, fields: &Fields<'_>, title: &str, text: &str) -> Texts {
    Texts { title: reader.template(fields, title), text: reader.template(fields, text) }
}

fn slack(reader: &mut Reader<'_>, fields: &Fields<'_>, global: &Global) -> Option<Kind> {
    let url = reader.url(fields, "api_url");
    let token = reader.secret(fields, "app_token");
    let channel = reader.text(fields, "channel").map(|(_, text)| text);
    let app_url = reader.text(fields, "app_url").map(|(_, text)| text).or_else(|| global.slack_app_url.clone());
    let update = reader.flag(fields, "update_message").unwrap_or(true);
    let token = if url.is_some() { token } else { token.or_else(|| global.slack_app_token.clone()) };
    let post = match (token, &channel) {
        (Some(token), Some(_)) => {
            let api_url = app_url.unwrap_or_else(|| "https://slack.com/api/chat.postMessage".to_owned());
            SlackPost::App { token, api_url, update }
        }
        (Some(_), None) => {
            reader.error(fields.line, "channel is missing: an app's token needs to know where to post");
            return None;
        }
        (None, _) => {
            let url = url.or_else(|| global.slack_url.clone());
            SlackPost::Hook { url: needed(reader, fields, "api_url (or global slack_api_url)", url)? }
        }
    };
    Some(Kind::Slack(Box::new(Slack {
        post,
        channel,
        username: reader.template(fields, "username"),
        icon_emoji: reader.template(fields, "icon_emoji"),
        color: reader.template(fields, "color"),
        pretext: reader.template(fields, "pretext"),
        title_link: reader.template(fields, "title_link"),
        texts: texts(reader, fields, "title", "text"),
    })))
}

fn hook(reader: &mut Reader<'_>, fields: &Fields<'_>, kind: fn(MarkdownHook) -> Kind) -> Option<Kind> {
    let url = reader.url(fields, "webhook_url");
    Some(kind(MarkdownHook {
        url: needed(reader, fields, "webhook_url", url)?,
        channel: reader.text(fields, "channel").map(|(_, text)| text),
        username: reader.text(fields, "username").map(|(_, text)| text),
        texts: texts(reader, fields, "title", "text"),
    }))
}

fn discord(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Kind> {
    let url = reader.url(fields, "webhook_url");
    Some(Kind::Discord(Discord {
        url: needed(reader, fields, "webhook_url", url)?,
        content: reader.template(fields, "content"),
        username: reader.text(fields, "username").map(|(_, text)| text),
        texts: texts(reader, fields, "title", "message"),
    }))
}

fn telegram(reader: &mut Reader<'_>, fields: &Fields<'_>, global: &Global) -> Option<Kind> {
    let token = reader.secret(fields, "bot_token");
    let chat = reader.text(fields, "chat_id").map(|(_, text)| text);
    let own_url = reader.text(fields, "api_url").map(|(_, text)| text);
    let parse_mode = reader.text(fields, "parse_mode").map(|(_, text)| text);
    Some(Kind::Telegram(Telegram {
        api_url: own_url
            .or_else(|| global.telegram_url.clone())
            .unwrap_or_else(|| "https://api.telegram.org".to_owned()),
        token: needed(reader, fields, "bot_token", token)?,
        chat_id: needed(reader, fields, "chat_id", chat)?,
        thread_id: reader.number(fields, "message_thread_id"),
        quiet: reader.flag(fields, "disable_notifications").unwrap_or(false),
        parse_mode: parse_mode.unwrap_or_else(|| "HTML".to_owned()),
        message: reader.template(fields, "message"),
    }))
}

fn teams(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Kind> {
    let url = reader.url(fields, "webhook_url");
    Some(Kind::Teams(Teams {
        url: needed(reader, fields, "webhook_url", url)?,
        texts: texts(reader, fields, "title", "text"),
    }))
}

fn google_chat(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Kind> {
    let url = reader.url(fields, "url");
    Some(Kind::GoogleChat(GoogleChat {
        url: needed(reader, fields, "url", url)?,
        texts: texts(reader, fields, "title", "text"),
    }))
}

fn webhook(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Kind> {
    let url = reader.url(fields, "url");
    let max_alerts = reader.number(fields, "max_alerts").and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    Some(Kind::Webhook(Webhook { url: needed(reader, fields, "url", url)?, max_alerts }))
}

fn alertmanager(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Kind> {
    let url = reader.url(fields, "url");
    Some(Kind::Alertmanager(Alertmanager { url: needed(reader, fields, "url", url)? }))
}

fn pagerduty(reader: &mut Reader<'_>, fields: &Fields<'_>, global: &Global) -> Option<Kind> {
    let key = reader.secret(fields, "routing_key");
    if fields.find("service_key").is_some() || fields.find("service_key_file").is_some() {
        let instead = "make an Events v2 integration and give its routing_key; nothing is told until then";
        reader.remark(fields.line, format!("service_key is of PagerDuty's old interface: {instead}"));
        return None;
    }
    let url = reader.text(fields, "url").map(|(_, text)| text).or_else(|| global.pagerduty_url.clone());
    Some(Kind::PagerDuty(Box::new(PagerDuty {
        url: url.unwrap_or_else(|| "https://events.pagerduty.com/v2/enqueue".to_owned()),
        routing_key: needed(reader, fields, "routing_key", key)?,
        severity: reader.template(fields, "severity"),
        description: reader.template(fields, "description"),
        component: reader.template(fields, "component"),
        group: reader.template(fields, "group"),
        class: reader.template(fields, "class"),
    })))
}

fn email(reader: &mut Reader<'_>, fields: &Fields<'_>, global: &Global) -> Option<Kind> {
    let mut email = global.email.clone();
    smtp(reader, fields, "", &mut email);
    let to = reader.text(fields, "to").map(|(_, text)| text);
    email.to = needed(reader, fields, "to", to)?;
    email.from =
        needed(reader, fields, "from (or global smtp_from)", Some(email.from).filter(|from| !from.is_empty()))?;
    let host = Some(email.smarthost).filter(|host| host.contains(':'));
    email.smarthost = needed(reader, fields, "smarthost as HOST:PORT (or global smtp_smarthost)", host)?;
    email.subject = match fields.find("headers") {
        Some((_, node)) => {
            let headers = reader.fields(node, "headers", None)?;
            let key = if headers.find("Subject").is_some() { "Subject" } else { "subject" };
            reader.template(&headers, key)
        }
        None => None,
    };
    email.texts = texts(reader, fields, "html", "text");
    Some(Kind::Email(Box::new(email)))
}

/// The settings of mail with `before` in front of their names.
fn smtp(reader: &mut Reader<'_>, fields: &Fields<'_>, before: &str, email: &mut Email) {
    let key = |name: &str| format!("{before}{name}");
    let mut set = |name: &str, place: &mut String| {
        if let Some((_, text)) = reader.text(fields, &key(name)) {
            *place = text;
        }
    };
    set("from", &mut email.from);
    set("smarthost", &mut email.smarthost);
    set("hello", &mut email.hello);
    if let Some((_, user)) = reader.text(fields, &key("auth_username")) {
        email.username = Some(user);
    }
    if let Some(password) = reader.secret(fields, &key("auth_password")) {
        email.password = Some(password);
    }
    if let Some(require) = reader.flag(fields, &key("require_tls")) {
        email.require_tls = require;
    }
    if let Some(force) = reader.flag(fields, &key("force_implicit_tls")) {
        email.implicit_tls = Some(force);
    }
    if let Some(options) = tls(reader, fields, &key("tls_config")) {
        email.tls = options;
    }
}

/// `http_config` over that of `global`.
fn http(reader: &mut Reader<'_>, fields: &Fields<'_>, global: &HttpOptions) -> HttpOptions {
    let Some((_, node)) = fields.find("http_config") else { return global.clone() };
    let known: Vec<&str> = keys::HTTP.iter().chain(&keys::HTTP_IDLE).copied().collect();
    let Some(fields) = reader.fields(node, "http_config", Some(&known)) else { return global.clone() };
    reader.without_effect(&fields, &keys::HTTP_IDLE);
    let mut options =
        HttpOptions { proxy_url: reader.text(&fields, "proxy_url").map(|(_, text)| text), ..HttpOptions::default() };
    if let Some(token) = reader.secret(&fields, "bearer_token") {
        options.authorization = Some(Authorization::Scheme { scheme: "Bearer".to_owned(), credentials: token });
    }
    if let Some((_, node)) = fields.find("authorization")
        && let Some(fields) =
            reader.fields(node, "authorization", Some(&["type", "credentials", "credentials_file", "credentials_env"]))
    {
        let scheme = reader.text(&fields, "type").map_or_else(|| "Bearer".to_owned(), |(_, text)| text);
        let credentials = reader.secret(&fields, "credentials");
        options.authorization = needed(reader, &fields, "credentials", credentials)
            .map(|credentials| Authorization::Scheme { scheme, credentials });
    }
    if let Some((_, node)) = fields.find("basic_auth")
        && let Some(fields) =
            reader.fields(node, "basic_auth", Some(&["username", "password", "password_file", "password_env"]))
    {
        let user = reader.text(&fields, "username").map(|(_, text)| text).unwrap_or_default();
        let password = reader.secret(&fields, "password").unwrap_or(Secret::Text(String::new()));
        options.authorization = Some(Authorization::Basic { user, password });
    }
    let tls = tls(reader, &fields, "tls_config");
    HttpOptions { tls: tls.unwrap_or_default(), ..options }
}

/// Which certificates a server may have.
fn tls(reader: &mut Reader<'_>, fields: &Fields<'_>, key: &str) -> Option<TlsOptions> {
    let (_, node) = fields.find(key)?;
    let known: Vec<&str> = keys::TLS.iter().chain(&keys::TLS_IDLE).copied().collect();
    let fields = reader.fields(node, key, Some(&known))?;
    reader.without_effect(&fields, &keys::TLS_IDLE);
    Some(TlsOptions {
        ca_file: reader.text(&fields, "ca_file").map(|(_, path)| path.into()),
        insecure: reader.flag(&fields, "insecure_skip_verify").unwrap_or(false),
    })
}
