//! Attachments, in all the shapes in which clients send them.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use utoipa::ToSchema;

use super::ApiError;
use super::fetch::Wanted;
use super::fields::{Byte, Raw, field, object};
use super::openapi::{Content as ContentSchema, ContentId, ContentType, Filename, HttpsUrl};
use crate::email::Attachment;

/// Of one e-mail.
pub(super) const MAX_ATTACHMENTS: usize = 100;

/// A file: its `content`, or the `path` where it is. `contentType` and `inline_content_id`, which some
/// clients write, are taken for `content_type` and `content_id`.
#[derive(Deserialize, ToSchema)]
#[schema(as = AttachmentRequest)]
pub(super) struct AttachmentFields<'a> {
    /// Its bytes.
    #[serde(borrow, default)]
    #[schema(value_type = Option<ContentSchema>)]
    content: Raw<'a>,
    /// An https address to fetch it from, instead of `content`.
    #[serde(borrow, default)]
    #[schema(value_type = Option<HttpsUrl>)]
    path: Raw<'a>,
    /// What the receiver sees; folders before it are dropped. `attachment` unless it is said.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Filename>)]
    filename: Raw<'a>,
    /// A MIME type such as `application/pdf`; by the ending of the file's name unless it is said.
    #[serde(borrow, default)]
    #[schema(value_type = Option<ContentType>)]
    content_type: Raw<'a>,
    // The Rust client's spelling.
    #[serde(borrow, default, rename = "contentType")]
    #[schema(ignore)]
    camel_content_type: Raw<'a>,
    /// Shows it inline, where the HTML has `<img src="cid:…">` with this id.
    #[serde(borrow, default)]
    #[schema(value_type = Option<ContentId>)]
    content_id: Raw<'a>,
    // What older clients call it.
    #[serde(borrow, default)]
    #[schema(ignore)]
    inline_content_id: Raw<'a>,
}

/// One attachment of a request, the first being 0; and what is still to be fetched for it.
///
/// # Errors
/// Which field is refused, and why.
pub(super) fn read(position: usize, text: &str) -> Result<(Attachment, Option<Wanted>), ApiError> {
    let name = &format!("attachments[{position}]");
    let fields: AttachmentFields<'_> = object(text, name)?;
    let content: Option<Content> = field(
        &format!("{name}.content"),
        fields.content,
        "base64 text, a list of bytes, or a Buffer as Node.js writes it",
    )
    .map_err(as_attachment)?;
    let path: Option<String> =
        field(&format!("{name}.path"), fields.path, "the address of a file, as a text")
            .map_err(as_attachment)?;
    // Some clients send what is not set as empty.
    let content = content.filter(|Content(bytes)| !bytes.is_empty() || path.is_none());
    let text = |part: &str, raw, expected| field::<String>(&format!("{name}.{part}"), raw, expected);
    // Node's type has `filename: false` for none.
    let filename = text("filename", fields.filename.filter(|raw| raw.get() != "false"), "a text")?;
    let kind = fields.content_type.or(fields.camel_content_type);
    let kind = text("content_type", kind, "a MIME type such as application/pdf")?;
    let content_type = kind.filter(|kind| !kind.is_empty());
    let id = fields.content_id.or(fields.inline_content_id);
    let content_id = text("content_id", id, "a text")?.filter(|id| !id.is_empty());
    let wanted = match (&content, path) {
        (Some(_), _) => None,
        (None, Some(path)) => Some(Wanted {
            position,
            path,
            filename: filename.clone(),
            content_type: content_type.clone(),
            content_id: content_id.clone(),
        }),
        (None, None) => {
            return Err(ApiError::Attachment(format!(
                "{name} must have a `content`: base64 text, or a list of bytes; or a `path`: the address of a file"
            )));
        }
    };
    let filename = filename.unwrap_or_else(|| "attachment".into());
    let content_type = content_type.unwrap_or_else(|| guess(&filename).into());
    let content = content.map(|Content(bytes)| bytes).unwrap_or_default();
    Ok((Attachment { filename, content_type, content_id, content }, wanted))
}

fn as_attachment(error: ApiError) -> ApiError {
    match error {
        ApiError::Invalid(text) => ApiError::Attachment(text),
        other => other,
    }
}

/// By the name's ending, of what is commonly sent.
pub(super) fn guess(filename: &str) -> &'static str {
    let ending = filename.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    match ending.as_str() {
        "pdf" => "application/pdf",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "txt" | "log" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "ics" => "text/calendar; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        "zip" => "application/zip",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        _ => "application/octet-stream",
    }
}

/// The bytes, from whichever shape.
struct Content(Vec<u8>);

/// With and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape)
    }
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64 text, a list of bytes, or a Buffer")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
        // As `base64` and MIME libraries print it, in lines.
        let decoded = if text.contains(['\r', '\n']) {
            BASE64.decode(text.replace(['\r', '\n'], ""))
        } else {
            BASE64.decode(text)
        };
        decoded.map(Content).map_err(|_| E::custom("not base64"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element::<Byte>()? {
            bytes.push(byte.0);
        }
        Ok(Content(bytes))
    }

    /// `{"type": "Buffer", "data": […]}`.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let (mut is_buffer, mut data) = (false, None);
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "type" => is_buffer = map.next_value::<String>()? == "Buffer",
                "data" => data = Some(map.next_value::<Vec<Byte>>()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let bytes = data.filter(|_| is_buffer).map(|data| data.into_iter().map(|byte| byte.0).collect());
        bytes.map(Content).ok_or_else(|| A::Error::custom("not a Buffer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(json: &str) -> Result<Vec<u8>, String> {
        let text = format!(r#"{{"filename":"a.pdf","content":{json}}}"#);
        read(0, &text).map(|(a, _)| a.content).map_err(|e| e.to_string())
    }

    #[test]
    fn every_shape_gives_the_same_bytes() {
        let bytes = vec![0, 255, 10, 13];
        for json in [
            r#""AP8KDQ==""#,
            r#""AP8KDQ""#,
            r#""AP8K\r\nDQ==""#,
            "[0,255,10,13]",
            "[0,255.0,1e1,13]",
            r#"{"type":"Buffer","data":[0,255,10,13]}"#,
            r#"{"data":[0,255,10,13],"type":"Buffer"}"#,
        ] {
            assert_eq!(content(json), Ok(bytes.clone()), "{json}");
        }
        assert_eq!(content("\"\""), Ok(vec![]));
    }

    #[test]
    fn what_is_no_content_is_named() {
        for json in
            ["\"not base64!\"", "[256]", "[-1]", "[1.5]", "7", "{}", r#"{"type":"Blob","data":[1]}"#, "true"]
        {
            let error = content(json).unwrap_err();
            assert!(error.starts_with("attachments[0].content must be"), "{json}: {error}");
        }
        let none = read(0, r#"{"filename":"a","content":null}"#).unwrap_err().to_string();
        assert!(none.starts_with("attachments[0] must have a `content`"), "{none}");
    }

    #[test]
    fn what_has_no_content_is_fetched() {
        let path = |more: &str| {
            let text = format!(r#"{{"path":"https://x.test/a.pdf"{more}}}"#);
            read(1, &text).unwrap().1
        };
        for none in ["", r#","content":null"#, r#","content":"""#, r#","content":[]"#] {
            let wanted = path(none).unwrap();
            assert_eq!((wanted.position, wanted.path.as_str()), (1, "https://x.test/a.pdf"), "{none}");
            assert_eq!((wanted.filename, wanted.content_type), (None, None));
        }
        assert!(path(r#","content":"SGVsbG8=""#).is_none());
        let said = path(r#","filename":"b.csv","contentType":"text/csv","content_id":"b""#).unwrap();
        assert_eq!(said.filename.as_deref(), Some("b.csv"));
        assert_eq!(said.content_type.as_deref(), Some("text/csv"));
        assert_eq!(said.content_id.as_deref(), Some("b"));
        let odd = read(0, r#"{"path":7}"#).unwrap_err().to_string();
        assert!(odd.starts_with("attachments[0].path must be"), "{odd}");
    }

    #[test]
    fn both_spellings_of_the_type_and_of_the_id() {
        let file = |more: &str| read(0, &format!(r#"{{"content":"",{more}}}"#)).unwrap().0;
        assert_eq!(file(r#""content_type":"text/csv""#).content_type, "text/csv");
        assert_eq!(file(r#""contentType":"text/csv""#).content_type, "text/csv");
        assert_eq!(file(r#""content_id":"logo""#).content_id.as_deref(), Some("logo"));
        assert_eq!(file(r#""inline_content_id":"logo""#).content_id.as_deref(), Some("logo"));
        assert_eq!(file(r#""filename":"x.PDF""#).content_type, "application/pdf");
        assert_eq!(file(r#""filename":false"#).filename, "attachment");
    }
}
