//! A mail as its reader sees it. Whatever the bytes are, there is a reading of them: at worst one
//! that has the header lines and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mail_parser::decoders::html::html_to_text;
use mail_parser::{Address, Message, MessageParser, MessagePart, MimeHeaders, PartType};

/// More messages within messages than this are not opened: the parser frees them by recursion,
/// and a few hundred thousand of them would be the end of the stack.
const DEEPEST: usize = 100;

/// What the pages and the JSON show of a mail's content.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) from: Option<String>,
    pub(super) subject: String,
    /// `To` and `Cc` as written, for searches.
    pub(super) recipients: String,
    pub(super) text: Option<String>,
    pub(super) html: Option<String>,
    /// The HTML as text, when the mail brings no text of its own.
    html_as_text: Option<String>,
    pub(super) headers: Vec<HeaderLine>,
    pub(super) attachments: Vec<Attachment>,
}

/// A header field, unfolded, its value not decoded.
pub(super) struct HeaderLine {
    pub(super) name: String,
    pub(super) value: String,
}

/// A part that is not the text itself; inline images are among them.
pub(super) struct Attachment {
    pub(super) name: String,
    pub(super) content_type: String,
    pub(super) content_id: Option<String>,
    pub(super) content: Vec<u8>,
}

impl Reading {
    pub(super) fn of(raw: &[u8]) -> Self {
        let parsed = catch_unwind(AssertUnwindSafe(|| parse(raw))).ok().flatten();
        Self { headers: header_lines(raw), ..parsed.unwrap_or_default() }
    }

    /// The text, or the HTML without its tags.
    pub(super) fn readable_text(&self) -> String {
        self.text.clone().or_else(|| self.html_as_text.clone()).unwrap_or_default()
    }
}

fn parse(raw: &[u8]) -> Option<Reading> {
    if nesting_bound(raw) > DEEPEST {
        return None;
    }
    let message = MessageParser::default().parse(raw)?;
    let text = bodies(message.text_bodies(), |part| matches!(part.body, PartType::Text(_)));
    let html = bodies(message.html_bodies(), |part| matches!(part.body, PartType::Html(_)));
    let html_as_text = if text.is_none() { html.as_deref().map(without_tags) } else { None };
    Some(Reading {
        from: message.from().map(written).filter(|from| !from.is_empty()),
        subject: message.subject().unwrap_or_default().to_owned(),
        recipients: [message.to(), message.cc()]
            .into_iter()
            .flatten()
            .map(written)
            .collect::<Vec<_>>()
            .join(", "),
        text,
        html,
        html_as_text,
        headers: Vec::new(),
        attachments: attachments(&message),
    })
}

/// The parser's own conversion runs a heading or a cell into what follows it.
fn without_tags(html: &str) -> String {
    let ends = ["</h", "</td", "</th", "</li", "</div"];
    let spaced = ends.iter().fold(html.to_owned(), |html, end| html.replace(end, &format!(" {end}")));
    html_to_text(&spaced)
}

/// At least as many as there can be messages within messages.
fn nesting_bound(raw: &[u8]) -> usize {
    let nests = |subtype: &[u8]| {
        [&b"rfc822"[..], b"global", b"digest"]
            .iter()
            .any(|name| subtype.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
    };
    raw.iter().enumerate().filter(|(place, byte)| **byte == b'/' && nests(&raw[place + 1..])).count()
}

fn bodies<'x>(
    parts: impl Iterator<Item = &'x MessagePart<'x>>,
    wanted: fn(&MessagePart<'_>) -> bool,
) -> Option<String> {
    let texts: Vec<&str> = parts.filter(|part| wanted(part)).filter_map(MessagePart::text_contents).collect();
    if texts.is_empty() { None } else { Some(texts.join("\n")) }
}

fn written(addresses: &Address<'_>) -> String {
    let one = |mailbox: &mail_parser::Addr<'_>| {
        let address = mailbox.address.as_deref().unwrap_or_default();
        match mailbox.name.as_deref() {
            Some(name) if address.is_empty() => name.to_owned(),
            Some(name) => format!("{name} <{address}>"),
            None => address.to_owned(),
        }
    };
    addresses.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn attachments(message: &Message<'_>) -> Vec<Attachment> {
    let one = |(place, part): (usize, &MessagePart<'_>)| Attachment {
        name: file_name(part.attachment_name().unwrap_or_default(), place + 1),
        content_type: content_type(part),
        content_id: part.content_id().map(|id| id.trim_matches(['<', '>']).to_owned()),
        content: part.contents().to_vec(),
    };
    message.attachments().enumerate().map(one).collect()
}

fn content_type(part: &MessagePart<'_>) -> String {
    let default = if part.is_message() { "message/rfc822" } else { "application/octet-stream" };
    part.content_type().map_or(default.to_owned(), |kind| match kind.subtype() {
        Some(subtype) => format!("{}/{subtype}", kind.ctype()).to_lowercase(),
        None => default.to_owned(),
    })
}

/// The base name, without what a file system or a header would take for something else.
fn file_name(given: &str, number: usize) -> String {
    let base = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let strange = |c: char| {
        c.is_control()
            || matches!(c, '"' | '<' | '>' | ':' | '|' | '?' | '*' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let clean: String = base.chars().filter(|c| !strange(*c)).take(120).collect();
    let clean = clean.trim_matches(|c: char| c == '.' || c.is_whitespace());
    if clean.is_empty() { format!("attachment-{number}") } else { clean.to_owned() }
}

fn header_lines(raw: &[u8]) -> Vec<HeaderLine> {
    let mut lines: Vec<HeaderLine> = Vec::new();
    for line in raw.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = String::from_utf8_lossy(line);
        if line.is_empty() {
            break;
        } else if text.starts_with([' ', '\t']) {
            let Some(last) = lines.last_mut() else { break };
            last.value.push(' ');
            last.value.push_str(text.trim());
        } else if let Some((name, value)) = text.split_once(':') {
            lines.push(HeaderLine { name: name.trim().to_owned(), value: value.trim().to_owned() });
        } else {
            break;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachments_name_keeps_its_base_name_only() {
        assert_eq!(file_name("../../etc/passwd", 1), "passwd");
        assert_eq!(file_name("..\\..\\boot.ini", 1), "boot.ini");
        assert_eq!(file_name("a\r\nX: b\".txt", 1), "aX b.txt");
        assert_eq!(file_name("\u{202e}gpj.exe", 1), "gpj.exe");
        assert_eq!(file_name("..", 3), "attachment-3");
        assert_eq!(file_name("", 2), "attachment-2");
    }

    #[test]
    fn header_lines_are_unfolded_and_end_at_the_body() {
        let lines = header_lines(b"A: 1\r\n  2\r\nB:3\r\n\r\nC: 4\r\n");
        let lines: Vec<_> = lines.iter().map(|line| (line.name.as_str(), line.value.as_str())).collect();
        assert_eq!(lines, [("A", "1 2"), ("B", "3")]);
    }

    #[test]
    fn bytes_that_are_no_mail_have_a_reading() {
        for raw in [
            &b""[..],
            b"\0\xff\xfe",
            b"no header at all\r\n",
            b":\r\n:",
            b"\r\n\r\n",
            b"Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n--\r\n",
        ] {
            Reading::of(raw);
        }
    }

    #[test]
    fn messages_within_messages_do_not_end_the_stack() {
        for unit in [
            "Content-Type: message/rfc822\r\n\r\n",
            "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n",
            "Content-Type: multipart/digest; boundary=a\r\n\r\n--a\r\n",
        ] {
            let raw = unit.repeat(200_000);
            assert!(!Reading::of(raw.as_bytes()).headers.is_empty());
        }
    }

    #[test]
    fn a_mail_of_html_only_is_searched_without_its_tags() {
        let reading = Reading::of(
            b"Subject: s\r\nContent-Type: text/html\r\n\r\n<h1>Hello</h1><p>Good <b>day</b></p>\r\n",
        );
        assert_eq!(reading.text, None);
        assert!(reading.html.as_deref().is_some_and(|html| html.contains("<b>day</b>")));
        let text = reading.readable_text();
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["Hello", "Good", "day"]);
    }
}
