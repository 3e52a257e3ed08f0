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
    let html = reading.html.ok_or_else(|| Failure::not_found("this mail has no HTML"))?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
    ];
    Ok((headers, display(&embed(&html, &reading.attachments))))
}

/// The HTML for display. Links open in a new tab: of two attributes of one name a browser takes the
/// first. Links to style sheets and frames become `<basefont>`, which does nothing: the policy
/// keeps a browser from asking them anything, but not from connecting to where they point.
fn display(html: &str) -> String {
    let mut shown = String::with_capacity(html.len() + html.len() / 16);
    let mut rest = html;
    while let Some(place) = rest.find('<') {
        let (before, tag) = rest.split_at(place);
        let ends = |c: char| !c.is_ascii_alphanumeric();
        let end = tag[1..].find(ends).map_or(tag.len(), |end| end + 1);
        let (tag, after) = tag.split_at(end);
        shown.push_str(before);
        match tag[1..].to_ascii_lowercase().as_str() {
            "link" | "iframe" | "frame" => shown.push_str("<basefont"),
            "a" | "area" => shown.extend([tag, " target=_blank"]),
            _ => shown.push_str(tag),
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// One attachment, as a download: it is never shown within the page's origin.
pub(super) async fn attachment(
    State(desk): State<Desk>,
    Path((id, number)): Path<(String, String)>,
) -> Result<impl IntoResponse, Failure> {
    let missing = || Failure::not_found("this mail has no such attachment");
    let place = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1)).ok_or_else(missing)?;
    let mut attachments = desk.open(&id).await?.reading.attachments;
    if place >= attachments.len() {
        return Err(missing());
    }
    let attachment = attachments.swap_remove(place);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, disposition(&attachment.name)),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".to_owned()),
    ];
    Ok((headers, attachment.content))
}

/// The name in ASCII for old programs, and whole (RFC 8187).
fn disposition(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%' | ';') || c == ' ' { c } else { '_' }
    };
    let ascii: String = name.chars().map(plain).collect();
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let whole: String = name.bytes().map(encode).collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{whole}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_open_elsewhere_and_nothing_is_connected_to() {
        assert_eq!(
            display("<!DOCTYPE html>\n<LINK rel=preconnect>é<A\nhref=x target=_top>x</a><abbr>"),
            "<!DOCTYPE html>\n<basefont rel=preconnect>é<A target=_blank\nhref=x target=_top>x</a><abbr>"
        );
        assert_eq!(
            display("<IFrame src=x></iframe><frame/src=x>"),
            "<basefont src=x></iframe><basefont/src=x>"
        );
        for untouched in ["", "<", "a < b", "<<", "</a", "<é"] {
            assert_eq!(display(untouched), untouched);
        }
        assert_eq!(display("<<a/href=x"), "<<a target=_blank/href=x");
    }

    #[test]
    fn a_file_name_cannot_leave_its_quotes() {
        assert_eq!(
            disposition("é\"; x=1.txt"),
            "attachment; filename=\"___ x=1.txt\"; filename*=UTF-8''%C3%A9%22%3B%20x%3D1.txt"
        );
    }
}
