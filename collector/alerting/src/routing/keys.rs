//! The keys of receivers in `alertmanager.yml`: those that are used here, and those that are read so that a file which
//! Alertmanager takes is taken here, too, and that do nothing.

/// Receivers that there are here.
pub(super) const KINDS: [&str; 12] = [
    "slack_configs",
    "mattermost_configs",
    "rocketchat_configs",
    "discord_configs",
    "telegram_configs",
    "msteams_configs",
    "msteamsv2_configs",
    "googlechat_configs",
    "webhook_configs",
    "alertmanager_configs",
    "pagerduty_configs",
    "email_configs",
];
/// Receivers of Alertmanager that are not: a file that has them is taken, and says who is not told.
pub(super) const ABSENT: [&str; 8] = [
    "opsgenie_configs",
    "pushover_configs",
    "sns_configs",
    "victorops_configs",
    "wechat_configs",
    "webex_configs",
    "jira_configs",
    "incidentio_configs",
];
/// Keys that every receiver takes.
const COMMON: [&str; 2] = ["send_resolved", "http_config"];

/// Keys of `http_config`, and of the maps in it.
pub(super) const HTTP: [&str; 6] =
    ["basic_auth", "authorization", "bearer_token", "bearer_token_file", "tls_config", "proxy_url"];
pub(super) const HTTP_IDLE: [&str; 7] = [
    "follow_redirects",
    "enable_http2",
    "oauth2",
    "no_proxy",
    "proxy_from_environment",
    "proxy_connect_header",
    "http_headers",
];
pub(super) const TLS: [&str; 2] = ["ca_file", "insecure_skip_verify"];
pub(super) const TLS_IDLE: [&str; 8] =
    ["ca", "cert", "cert_file", "key", "key_file", "server_name", "min_version", "max_version"];

/// The keys of an entry under `kind` that are used.
pub(super) fn used(kind: &str) -> Vec<&'static str> {
    let own: &[&str] = match kind {
        "slack_configs" => &[
            "api_url",
            "api_url_file",
            "api_url_env",
            "app_token",
            "app_token_file",
            "app_token_env",
            "app_url",
            "channel",
            "update_message",
            "username",
            "color",
            "title",
            "title_link",
            "pretext",
            "text",
            "icon_emoji",
        ],
        "mattermost_configs" | "rocketchat_configs" => {
            &["webhook_url", "webhook_url_file", "webhook_url_env", "channel", "username", "title", "text"]
        }
        "discord_configs" => {
            &["webhook_url", "webhook_url_file", "webhook_url_env", "title", "message", "content", "username"]
        }
        "telegram_configs" => &[
            "api_url",
            "bot_token",
            "bot_token_file",
            "bot_token_env",
            "chat_id",
            "message",
            "disable_notifications",
            "parse_mode",
            "message_thread_id",
        ],
        "msteams_configs" | "msteamsv2_configs" => {
            &["webhook_url", "webhook_url_file", "webhook_url_env", "title", "text"]
        }
        "googlechat_configs" => &["url", "url_file", "url_env", "title", "text"],
        "webhook_configs" => &["url", "url_file", "url_env", "max_alerts"],
        "alertmanager_configs" => &["url", "url_file", "url_env"],
        "pagerduty_configs" => &[
            "routing_key",
            "routing_key_file",
            "routing_key_env",
            "service_key",
            "service_key_file",
            "url",
            "description",
            "severity",
            "component",
            "group",
            "class",
        ],
        _ => &[
            "to",
            "from",
            "smarthost",
            "hello",
            "auth_username",
            "auth_password",
            "auth_password_file",
            "auth_password_env",
            "require_tls",
            "force_implicit_tls",
            "tls_config",
            "headers",
            "html",
            "text",
        ],
    };
    own.iter().chain(&COMMON).copied().collect()
}

/// The keys of an entry under `kind` that do nothing.
pub(super) fn idle(kind: &str) -> &'static [&'static str] {
    match kind {
        "slack_configs" => &[
            "fields",
            "short_fields",
            "footer",
            "fallback",
            "callback_id",
            "icon_url",
            "image_url",
            "thumb_url",
            "link_names",
            "mrkdwn_in",
            "actions",
            "message_text",
            "timeout",
        ],
        "mattermost_configs" => {
            &["fallback", "color", "pretext", "author_name", "author_link", "author_icon", "attachments"]
        }
        "rocketchat_configs" => &[
            "api_url",
            "token",
            "token_file",
            "token_id",
            "token_id_file",
            "color",
            "title_link",
            "fields",
            "short_fields",
            "emoji",
            "icon_url",
            "image_url",
            "thumb_url",
            "link_names",
            "actions",
        ],
        "discord_configs" => &["avatar_url"],
        "telegram_configs" => &["chat_id_file"],
        "msteams_configs" | "msteamsv2_configs" => &["summary"],
        "webhook_configs" => &["timeout", "payload"],
        "pagerduty_configs" => &["client", "client_url", "source", "details", "images", "links", "timeout"],
        "email_configs" => &["auth_secret", "auth_secret_file", "auth_identity", "threading"],
        _ => &[],
    }
}
