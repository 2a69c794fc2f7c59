//! The other chats: Mattermost, Rocket.Chat, Discord, Telegram, Microsoft Teams, Google Chat.

use serde_json::{Value, json};

use super::markup::{Markup, cut_with_link};
use super::story::{Story, story};
use super::{BuildError, Discord, GoogleChat, HttpRequest, MarkdownHook, Open, Teams, Telegram, Templates, Texts};
use crate::limits;

/// A title and a text within a platform's room: the templates' where there are any, else our own layout.
fn parts(
    texts: &Texts,
    templates: &Templates<'_>,
    markup: &Markup,
    max: (usize, usize),
) -> Result<(String, String, Story), BuildError> {
    let story = story(templates.message, templates.frame);
    let (title, text) = (templates.maybe(texts.title.as_ref())?, templates.maybe(texts.text.as_ref())?);
    let own_text = text.is_none();
    let title = match title {
        Some(title) => Markup::PLAIN.shortened(&title, max.0),
        None => markup.title(&story, max.0),
    };
    let link = markup.links(&story.links);
    let text = text.map_or_else(String::new, |text| cut_with_link(&text, &link, max.1));
    let text = if own_text { markup.body(&story, max.1) } else { text };
    Ok((title, text, story))
}

fn post(url: String, body: &Value) -> HttpRequest {
    HttpRequest { url, headers: Vec::new(), body: body.to_string() }
}

fn hook(
    hook: &MarkdownHook,
    templates: &Templates<'_>,
    max: usize,
    reveal: Open<'_>,
) -> Result<HttpRequest, BuildError> {
    let (title, text, _) = parts(&hook.texts, templates, &Markup::MARKDOWN, (300, max - 310))?;
    let mut body = json!({ "text": format!("{}\n{text}", (Markup::MARKDOWN.bold)(&title)) });
    for (name, value) in [("channel", &hook.channel), ("username", &hook.username)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    Ok(post(reveal(&hook.url)?, &body))
}

pub(super) fn mattermost(
    it: &MarkdownHook,
    templates: &Templates<'_>,
    reveal: Open<'_>,
) -> Result<HttpRequest, BuildError> {
    hook(it, templates, limits::MATTERMOST_MAX_CHARS, reveal)
}

pub(super) fn rocket_chat(
    it: &MarkdownHook,
    templates: &Templates<'_>,
    reveal: Open<'_>,
) -> Result<HttpRequest, BuildError> {
    hook(it, templates, limits::ROCKET_CHAT_MAX_CHARS, reveal)
}

pub(super) fn discord(
    discord: &Discord,
    templates: &Templates<'_>,
    reveal: Open<'_>,
) -> Result<HttpRequest, BuildError> {
    let max = (limits::DISCORD_TITLE_MAX_CHARS, limits::DISCORD_TEXT_MAX_CHARS);
    let (title, text, story) = parts(&discord.texts, templates, &Markup::MARKDOWN, max)?;
    let mut body = json!({
        "embeds": [{ "title": title, "description": text, "color": story.tone.rgb() }],
        // Nobody is called by what an alert's text happens to contain.
        "allowed_mentions": { "parse": [] },
    });
    if let Some(content) = templates.maybe(discord.content.as_ref())? {
        body["content"] = json!(Markup::PLAIN.shortened(&content, limits::DISCORD_CONTENT_MAX_CHARS));
    }
    if let Some(username) = &discord.username {
        body["username"] = json!(username);
    }
    Ok(post(reveal(&discord.url)?, &body))
}

pub(super) fn telegram(it: &Telegram, templates: &Templates<'_>, reveal: Open<'_>) -> Result<HttpRequest, BuildError> {
    let markup = Markup::TELEGRAM;
    let story = story(templates.message, templates.frame);
    let (text, mode) = match templates.maybe(it.message.as_ref())? {
        Some(text) => {
            let link = Markup::PLAIN.links(&story.links);
            (cut_with_link(&text, &link, limits::TELEGRAM_MAX_CHARS), &*it.parse_mode)
        }
        None => {
            let title = markup.title(&story, 300);
            let body = markup.body(&story, limits::TELEGRAM_MAX_CHARS - 310);
            (format!("{}\n{body}", (markup.bold)(&title)), "HTML")
        }
    };
    let mut body = json!({ "chat_id": it.chat_id, "text": text, "link_preview_options": { "is_disabled": true } });
    if let Ok(id) = it.chat_id.parse::<i64>() {
        body["chat_id"] = json!(id);
    }
    if !mode.is_empty() {
        body["parse_mode"] = json!(mode);
    }
    if it.quiet {
        body["disable_notification"] = json!(true);
    }
    if let Some(thread) = it.thread_id {
        body["message_thread_id"] = json!(thread);
    }
    Ok(post(format!("{}/bot{}/sendMessage", it.api_url.trim_end_matches('/'), reveal(&it.token)?), &body))
}

pub(super) fn teams(teams: &Teams, templates: &Templates<'_>, reveal: Open<'_>) -> Result<HttpRequest, BuildError> {
    let (title, text, story) = parts(&teams.texts, templates, &Markup::CARD, (300, limits::TEAMS_TEXT_MAX_CHARS))?;
    let color = match story.tone {
        super::story::Tone::Good => "Good",
        super::story::Tone::Warning => "Warning",
        super::story::Tone::Bad => "Attention",
        _ => "Default",
    };
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": { "width": "Full" },
        "body": [
            { "type": "TextBlock", "text": title, "weight": "Bolder", "size": "Medium", "wrap": true, "color": color },
            { "type": "TextBlock", "text": text, "wrap": true },
        ],
    });
    let body = json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    });
    Ok(post(reveal(&teams.url)?, &body))
}

pub(super) fn google_chat(
    it: &GoogleChat,
    templates: &Templates<'_>,
    reveal: Open<'_>,
) -> Result<HttpRequest, BuildError> {
    let (title, text, _) =
        parts(&it.texts, templates, &Markup::GOOGLE_CHAT, (300, limits::GOOGLE_CHAT_MAX_CHARS - 310))?;
    Ok(post(reveal(&it.url)?, &json!({ "text": format!("{}\n{text}", (Markup::SLACK.bold)(&title)) })))
}
