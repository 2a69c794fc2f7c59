//! A story as text of a platform, within the room that the platform gives.
//!
//! Shortened by meaning: the title and the links always fit, and a link is never cut. Of the rest, what is most
//! important comes first; a line that does not fit ends with an ellipsis, alerts that do not fit are counted.

use super::story::{Link, Paragraph, Story};

/// How a platform writes.
pub struct Markup {
    /// A text as it must be written so that it shows as it is.
    pub escape: fn(&str) -> String,
    /// Bold, of an escaped text.
    pub bold: fn(&str) -> String,
    /// A link, of an address and an escaped word.
    pub link: fn(&str, &str) -> String,
    /// Between two lines.
    pub line_break: &'static str,
    /// Between two paragraphs.
    pub gap: &'static str,
}

/// Least room in which a shortened line still says something.
const LINE_MIN_CHARS: usize = 24;
/// Longest title.
const TITLE_MAX_CHARS: usize = 300;
/// Longest line but the title; what is longer was not written for a chat.
const LINE_MAX_CHARS: usize = 1_500;

impl Markup {
    /// Slack's mrkdwn.
    pub const SLACK: Self = Self {
        escape: |text| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        bold: |text| format!("*{text}*"),
        link: |url, word| format!("<{}|{word}>", url.replace('&', "&amp;").replace('|', "%7C").replace('>', "&gt;")),
        line_break: "\n",
        gap: "\n",
    };
    /// Google Chat's: marks as Slack has them but no entities, so that a space of no width keeps `<users/all>` from being
    /// a mention.
    pub const GOOGLE_CHAT: Self = Self {
        escape: |text| text.replace('<', "<\u{200b}"),
        link: |url, word| format!("<{}|{word}>", url.replace('|', "%7C").replace('>', "%3E")),
        ..Self::SLACK
    };
    /// Markdown.
    pub const MARKDOWN: Self = Self {
        escape: escape_markdown,
        bold: |text| format!("**{text}**"),
        link: |url, word| format!("[{word}]({})", url.replace(')', "%29")),
        line_break: "\n",
        gap: "\n",
    };
    /// Markdown in an adaptive card, where a single line break is a space.
    pub const CARD: Self = Self { line_break: "\n\n", gap: "\n\n", ..Self::MARKDOWN };
    /// Telegram's HTML.
    pub const TELEGRAM: Self = Self {
        escape: escape_html,
        bold: |text| format!("<b>{text}</b>"),
        link: |url, word| format!("<a href=\"{}\">{word}</a>", escape_html(url)),
        line_break: "\n",
        gap: "\n",
    };
    /// HTML of a mail.
    pub const HTML: Self = Self { line_break: "<br>\n", gap: "<br>\n<br>\n", ..Self::TELEGRAM };
    /// Nothing but text.
    pub const PLAIN: Self = Self {
        escape: str::to_owned,
        bold: str::to_owned,
        link: |url, word| format!("{word}: {url}"),
        line_break: "\n",
        gap: "\n\n",
    };

    /// The title, within `max_chars`.
    #[must_use]
    pub fn title(&self, story: &Story, max_chars: usize) -> String {
        self.shortened(&story.title, max_chars.min(TITLE_MAX_CHARS))
    }

    /// A story without its title, within `max_chars`.
    #[must_use]
    pub fn body(&self, story: &Story, max_chars: usize) -> String {
        let links = self.links(&story.links);
        let foot = count(&links) + count(self.gap);
        let mut out = Pieces { max: max_chars.saturating_sub(foot), text: String::new(), chars: 0 };
        let (mut alerts, mut full) = (0, false);
        for paragraph in &story.paragraphs {
            if full || (paragraph.is_alert && !self.alert_fits(paragraph, &out, story.alerts - alerts)) {
                full = true;
                continue;
            }
            alerts += usize::from(paragraph.is_alert);
            full = !self.paragraph(paragraph, &mut out);
        }
        let more = story.alerts - alerts;
        if more > 0 {
            let gap = if out.text.is_empty() { "" } else { self.gap };
            out.text.push_str(&format!("{gap}… and {more} more"));
        }
        if !links.is_empty() {
            if !out.text.is_empty() {
                out.text.push_str(self.gap);
            }
            out.text.push_str(&links);
        }
        out.text
    }

    /// Whether an alert's whole paragraph fits, and behind it how many are left out.
    fn alert_fits(&self, paragraph: &Paragraph, out: &Pieces, left: usize) -> bool {
        let lines: usize =
            paragraph.lines.iter().map(|line| count(&(self.escape)(line)) + count(self.line_break)).sum();
        let rest = if left > 1 { 24 } else { 0 };
        out.chars + lines + count(self.gap) + rest <= out.max
    }

    /// Writes as much of a paragraph as there is room for; whether that was all.
    fn paragraph(&self, paragraph: &Paragraph, out: &mut Pieces) -> bool {
        let link = paragraph.link.as_ref().map(|link| self.written(link)).unwrap_or_default();
        let reserved = if link.is_empty() { 0 } else { count(&link) + 3 };
        let mut first = true;
        for line in &paragraph.lines {
            let between = if out.text.is_empty() {
                ""
            } else if first {
                self.gap
            } else {
                self.line_break
            };
            let room = out.max.saturating_sub(out.chars + count(between) + reserved);
            if room < LINE_MIN_CHARS {
                return false;
            }
            let text = self.shortened(line, room.min(LINE_MAX_CHARS));
            out.push(between);
            out.push(&text);
            first = false;
        }
        if !link.is_empty() && out.chars + reserved <= out.max {
            out.push(if first && !out.text.is_empty() {
                self.gap
            } else if first {
                ""
            } else {
                " → "
            });
            out.push(&link);
        }
        true
    }

    /// The links in one line.
    #[must_use]
    pub fn links(&self, links: &[Link]) -> String {
        links.iter().map(|link| self.written(link)).collect::<Vec<_>>().join(" · ")
    }

    fn written(&self, link: &Link) -> String {
        let word = (self.escape)(&link.word);
        if link.url.is_empty() { word } else { (self.link)(&link.url, &word) }
    }

    /// A text escaped, within `max_chars`, an ellipsis at its end if it was cut; never within an escape.
    #[must_use]
    pub fn shortened(&self, text: &str, max_chars: usize) -> String {
        let whole = (self.escape)(text);
        if count(&whole) <= max_chars {
            return whole;
        }
        let (mut out, mut chars) = (String::new(), 0);
        for c in text.chars() {
            let piece = (self.escape)(c.encode_utf8(&mut [0; 4]));
            let length = count(&piece);
            if chars + length + 1 > max_chars {
                break;
            }
            out.push_str(&piece);
            chars += length;
        }
        out.push('…');
        out
    }
}

struct Pieces {
    text: String,
    chars: usize,
    max: usize,
}

impl Pieces {
    fn push(&mut self, piece: &str) {
        self.text.push_str(piece);
        self.chars += count(piece);
    }
}

/// Characters; platforms count them, or bytes, or UTF-16 units, and the limits leave room for the difference.
pub(super) fn count(text: &str) -> usize {
    text.encode_utf16().count()
}

/// A text that somebody's template wrote, within `max_chars`, with a link behind it if it was cut.
#[must_use]
pub fn cut_with_link(text: &str, link: &str, max_chars: usize) -> String {
    if count(text) <= max_chars {
        return text.to_owned();
    }
    let room = max_chars.saturating_sub(count(link) + 3);
    let mut out = String::new();
    let mut chars = 0;
    for c in text.chars() {
        chars += c.len_utf16();
        if chars > room {
            break;
        }
        out.push(c);
    }
    format!("{}…\n{link}", out.trim_end())
}

fn escape_markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '*' | '_' | '`' | '[' | ']' | '~' | '<' | '>' | '|' | '#') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
