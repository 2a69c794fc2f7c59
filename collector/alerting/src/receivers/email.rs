//! E-mail: the same story as text and as HTML.

use super::markup::Markup;
use super::story::story;
use super::{BuildError, Email, Mail, Templates};
use crate::limits;

pub(super) fn mail(email: &Email, templates: &Templates<'_>) -> Result<Mail, BuildError> {
    let story = story(templates.message, templates.frame);
    let subject = match templates.maybe(email.subject.as_ref())? {
        Some(subject) => subject,
        None => Markup::PLAIN.title(&story, limits::MAIL_SUBJECT_MAX_CHARS),
    };
    let text = match templates.maybe(email.texts.text.as_ref())? {
        Some(text) => text,
        None => format!("{}\n\n{}\n", story.title, Markup::PLAIN.body(&story, limits::MAIL_MAX_CHARS)),
    };
    let html = match templates.maybe(email.texts.title.as_ref())? {
        Some(html) => html,
        None => {
            let markup = Markup::HTML;
            let title = (markup.bold)(&markup.title(&story, limits::MAIL_SUBJECT_MAX_CHARS));
            let body = markup.body(&story, limits::MAIL_MAX_CHARS);
            format!("<!doctype html><meta charset=\"utf-8\"><p>{title}</p>\n<p>{body}</p>\n")
        }
    };
    // A subject is one line whatever an alert's text says.
    let subject = subject.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Mail { subject, text, html, thread: templates.message.group_key() })
}
