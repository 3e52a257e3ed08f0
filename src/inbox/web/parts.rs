//! The pieces of a mail that its sender wrote, under rules of their own.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::IntoResponse;

use super::super::inline_images::embed;
use super::Desk;
use super::failure::Failure;

/// Nothing is loaded and nothing runs. Links work, in a tab of their own that this rule does not bind:
/// following the link in a mail is half of what a developer looks at it for.
const POLICY: &str = "default-src 'none'; img-src data: cid:; style-src 'unsafe-inline'; sandbox allow-popups allow-popups-to-escape-sandbox";

/// The HTML of a mail, for the frame on its page.
pub(super) async fn html(
    State(desk): State<Desk>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failure> {
    let reading = desk.open(&id).await?.reading;
    let html = reading
        .html
        .ok_or_else(|| Failure::not_found("this mail has no HTML"))?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
    ];
    Ok((headers, display(&embed(&html, &reading.attachments))))
}

/// The HTML for display: links open in a new tab, and `<link>` is no element any more, because no
/// policy keeps a browser from connecting to what `<link rel="preconnect">` names.
fn display(html: &str) -> String {
    let lower = html.to_ascii_lowercase();
    let start = html.len() - html.trim_start().len();
    let doctype = lower[start..]
        .starts_with("<!doctype")
        .then(|| lower[start..].find('>'))
        .flatten();
    // Before the doctype, the base would switch the page to quirks mode.
    let base_at = doctype.map_or(0, |end| start + end + 1);
    let mut shown = String::with_capacity(html.len() + 32);
    shown.push_str(&html[..base_at]);
    shown.push_str("<base target=\"_blank\">");
    let mut from = base_at;
    while let Some(place) = lower[from..].find("<link") {
        shown.push_str(&html[from..from + place]);
        shown.push_str("<no-link");
        from += place + "<link".len();
    }
    shown.push_str(&html[from..]);
    shown
}

/// One attachment, as a download: it is never shown within the page's origin.
pub(super) async fn attachment(
    State(desk): State<Desk>,
    Path((id, number)): Path<(String, String)>,
) -> Result<impl IntoResponse, Failure> {
    let missing = || Failure::not_found("this mail has no such attachment");
    let place = number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_sub(1))
        .ok_or_else(missing)?;
    let mut attachments = desk.open(&id).await?.reading.attachments;
    if place >= attachments.len() {
        return Err(missing());
    }
    let attachment = attachments.swap_remove(place);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, disposition(&attachment.name)),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox".to_owned(),
        ),
    ];
    Ok((headers, attachment.content))
}

/// The name in ASCII for old programs, and whole (RFC 8187).
fn disposition(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%' | ';') || c == ' ' {
            c
        } else {
            '_'
        }
    };
    let ascii: String = name.chars().map(plain).collect();
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    let whole: String = name.bytes().map(encode).collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{whole}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_open_elsewhere_and_link_elements_are_none() {
        assert_eq!(
            display(" <!DOCTYPE html>\n<LINK rel=preconnect>é"),
            " <!DOCTYPE html><base target=\"_blank\">\n<no-link rel=preconnect>é"
        );
        assert_eq!(display("<p>x"), "<base target=\"_blank\"><p>x");
        assert_eq!(display("<!doctype"), "<base target=\"_blank\"><!doctype");
        assert_eq!(display(""), "<base target=\"_blank\">");
    }

    #[test]
    fn a_file_name_cannot_leave_its_quotes() {
        assert_eq!(
            disposition("é\"; x=1.txt"),
            "attachment; filename=\"___ x=1.txt\"; filename*=UTF-8''%C3%A9%22%3B%20x%3D1.txt"
        );
    }
}
