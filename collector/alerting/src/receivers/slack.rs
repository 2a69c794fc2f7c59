//! Slack: blocks in our own layout, or an attachment of the configuration's templates; posted, or written into the
//! message that told of the alert.

use serde_json::{Map, Value, json};

use super::markup::{Markup, cut_with_link};
use super::story::{Story, story};
use super::{BuildError, HttpRequest, Open, Slack, SlackPost, Templates};
use crate::limits;

/// Characters of the templates' texts that are sent.
const TEMPLATE_MAX_CHARS: usize = limits::SLACK_MESSAGE_MAX_CHARS;

const _: () = assert!(limits::SLACK_SECTION_MAX_CHARS * 2 < limits::SLACK_MESSAGE_MAX_CHARS);

pub(super) fn request(
    slack: &Slack,
    templates: &Templates<'_>,
    place: Option<&str>,
    reveal: Open<'_>,
) -> Result<HttpRequest, BuildError> {
    let mut body = body(slack, templates)?;
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), Value::String(value));
        }
    };
    set("username", templates.maybe(slack.username.as_ref())?);
    set("icon_emoji", templates.maybe(slack.icon_emoji.as_ref())?);
    set("channel", slack.channel.clone());
    let (url, headers) = match &slack.post {
        SlackPost::Hook { url } => (reveal(url)?, Vec::new()),
        SlackPost::App { token, api_url, update } => {
            // What is new makes a sound, in a message of its own; what ends goes where its beginning stands.
            let old = place.filter(|_| *update && !templates.message.fires()).and_then(|place| place.split_once(' '));
            let url = match old {
                Some((channel, ts)) => {
                    set("channel", Some(channel.to_owned()));
                    set("ts", Some(ts.to_owned()));
                    api_url.replace("chat.postMessage", "chat.update")
                }
                None => api_url.clone(),
            };
            (url, vec![("authorization", format!("Bearer {}", reveal(token)?))])
        }
    };
    Ok(HttpRequest { url, headers, body: Value::Object(body).to_string() })
}

fn body(slack: &Slack, templates: &Templates<'_>) -> Result<Map<String, Value>, BuildError> {
    let story = story(templates.message, templates.frame);
    let (title, text) = (templates.maybe(slack.texts.title.as_ref())?, templates.maybe(slack.texts.text.as_ref())?);
    if title.is_none() && text.is_none() {
        return Ok(blocks(&story));
    }
    let title = title.unwrap_or_else(|| Markup::PLAIN.title(&story, 300));
    let link = Markup::SLACK.links(&story.links);
    let mut attachment = json!({
        "fallback": title,
        "title": title,
        "text": cut_with_link(&text.unwrap_or_default(), &link, TEMPLATE_MAX_CHARS),
        "mrkdwn_in": ["fallback", "pretext", "text"],
        "color": match templates.maybe(slack.color.as_ref())? {
            Some(color) => color,
            None => format!("#{:06x}", story.tone.rgb()),
        },
    });
    if let Some(link) = templates.maybe(slack.title_link.as_ref())? {
        attachment["title_link"] = json!(link);
    }
    if let Some(pretext) = templates.maybe(slack.pretext.as_ref())? {
        attachment["pretext"] = json!(pretext);
    }
    Ok(Map::from_iter([("attachments".to_owned(), json!([attachment]))]))
}

/// Our own layout: the title in bold, then the rest, in as few sections as there is room in.
fn blocks(story: &Story) -> Map<String, Value> {
    let markup = Markup::SLACK;
    let title = markup.title(story, 300);
    let body = markup.body(story, limits::SLACK_SECTION_MAX_CHARS * 2);
    let mut sections = vec![(markup.bold)(&title)];
    for line in body.split('\n') {
        let last = sections
            .last_mut()
            .filter(|text| text.chars().count() + line.chars().count() < limits::SLACK_SECTION_MAX_CHARS - 1);
        match last {
            Some(text) => {
                text.push('\n');
                text.push_str(line);
            }
            None => sections.push(line.to_owned()),
        }
    }
    let blocks: Vec<Value> = sections
        .iter()
        .take(limits::SLACK_BLOCKS_MAX)
        .map(|text| json!({"type": "section", "text": {"type": "mrkdwn", "text": text}}))
        .collect();
    // What the notification of the phone shows; Slack shows the blocks instead where it can.
    Map::from_iter([("text".to_owned(), json!(title)), ("blocks".to_owned(), json!(blocks))])
}
