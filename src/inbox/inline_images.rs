//! Images that a mail's HTML takes from the mail itself (`src="cid:logo"`), written into the HTML
//! as `data:` URLs: the page that shows it may load nothing.

use std::collections::HashMap;

use super::reading::Attachment;

/// The HTML does not grow beyond this: one large image may be named a thousand times.
const LARGEST: usize = 64 * 1024 * 1024;

/// What an image may be. An SVG in an `<img>` runs nothing.
const KINDS: [&str; 8] = [
    "image/png",
    "image/jpeg",
    "image/jpg",
    "image/gif",
    "image/webp",
    "image/avif",
    "image/bmp",
    "image/svg+xml",
];

/// The HTML with each `cid:` URL of an image that the mail brings replaced by the image.
pub(super) fn embed(html: &str, attachments: &[Attachment]) -> String {
    let images: HashMap<&str, &Attachment> = attachments
        .iter()
        .filter(|image| KINDS.contains(&image.content_type.as_str()))
        .filter_map(|image| Some((image.content_id.as_deref()?, image)))
        .collect();
    let mut embedded = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(place) = next_reference(rest) {
        let (before, reference) = rest.split_at(place);
        let end =
            reference.find(['"', '\'', ')', '>', '<', ' ', '\t', '\r', '\n']).unwrap_or(reference.len());
        let id = percent_decoded(&reference[4..end]);
        embedded.push_str(before);
        match images.get(id.as_str()) {
            Some(image) if embedded.len() + image.content.len() * 4 / 3 < LARGEST => {
                push_data_url(&mut embedded, image)
            }
            _ => embedded.push_str(&reference[..end]),
        }
        rest = &reference[end..];
    }
    embedded.push_str(rest);
    embedded
}

/// Where the next `cid:` stands at the start of an attribute's value or of a `url(…)`.
fn next_reference(html: &str) -> Option<usize> {
    let bytes = html.as_bytes();
    let starts =
        |place: &usize| bytes[*place..].get(..4).is_some_and(|four| four.eq_ignore_ascii_case(b"cid:"));
    (1..bytes.len()).find(|place| matches!(bytes[place - 1], b'"' | b'\'' | b'(' | b'=') && starts(place))
}

fn push_data_url(html: &mut String, image: &Attachment) {
    html.push_str("data:");
    html.push_str(&image.content_type);
    html.push_str(";base64,");
    push_base64(html, &image.content);
}

fn push_base64(text: &mut String, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .enumerate()
            .fold(0_u32, |bits, (place, byte)| bits | u32::from(*byte) << (16 - 8 * place));
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place > three.len() { '=' } else { digit as char });
        }
    }
}

fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let escaped = after.get(..2).filter(|_| *byte == b'%').and_then(hexadecimal);
        decoded.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let value = |digit: &u8| char::from(*digit).to_digit(16);
    let number = digits.iter().map(value).try_fold(0, |number, digit| Some(number * 16 + digit?))?;
    u8::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, content: &[u8]) -> Attachment {
        Attachment {
            name: "logo.png".into(),
            content_type: "image/png".into(),
            content_id: Some(id.into()),
            content: content.to_vec(),
        }
    }

    #[test]
    fn an_image_of_the_mail_becomes_a_data_url() {
        let html = embed(
            r#"<img src="CID:logo%40x"><p style='background:url(cid:logo@x)'>cid:logo@x"#,
            &[image("logo@x", b"hello")],
        );
        assert_eq!(
            html,
            r#"<img src="data:image/png;base64,aGVsbG8="><p style='background:url(data:image/png;base64,aGVsbG8=)'>cid:logo@x"#
        );
    }

    #[test]
    fn an_id_is_compared_whole_and_other_kinds_stay_out() {
        let mut page = image("page", b"<script>");
        page.content_type = "text/html".into();
        let html = r#"<img src="cid:logo2"><img src=cid:page>é<img src='cid:%zz"#;
        assert_eq!(embed(html, &[image("logo", b"x"), page]), html);
    }

    #[test]
    fn base64_is_padded_as_it_must_be() {
        let encoded = |bytes: &[u8]| {
            let mut text = String::new();
            push_base64(&mut text, bytes);
            text
        };
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| encoded(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
    }
}
