//! Idempotency keys, and what two requests with one key must have in common.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::HeaderMap;
use axum::http::header::HeaderName;
use ring::digest::{Context, SHA256, digest};
use serde_json::value::RawValue;
use utoipa::IntoParams;

use super::ApiError;
use super::openapi::IdempotencyKey;

/// Says that an answer is an earlier one's.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What the outbox keeps a key of at most.
const MAX_STORED: usize = 255;
/// Objects inside objects: deeper ones are compared as they are written.
const MAX_DEPTH: usize = 8;

/// As the document tells it; [`key`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "a key that is refused has an error of its own")]
pub(super) struct KeyHeader {
    /// Makes it safe to ask twice: for 24 hours the same request answers the same and sends nothing.
    #[param(rename = "Idempotency-Key", value_type = IdempotencyKey, inline, required = false)]
    key: Option<String>,
}

/// The request's key.
///
/// # Errors
/// It is empty, too long, not ASCII, or given twice.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.to_str().map_err(|_| ApiError::IdempotencyKey)?;
    let printable = key.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if keys.next().is_some() || !printable || !(1..=256).contains(&key.len()) {
        return Err(ApiError::IdempotencyKey);
    }
    Ok(Some(if key.len() > MAX_STORED { hex(digest(&SHA256, key.as_bytes()).as_ref()) } else { key.into() }))
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    std::iter::once("sha256:".to_owned()).chain(digits).collect()
}

/// A hash of what a JSON body says: some clients write the members of an object in another order each time.
///
/// Of the text and not of the e-mail: "in 5 minutes" is another moment at each call.
pub(super) fn fingerprint(json: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    add(&mut context, json, 0);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn add(context: &mut Context, json: &str, depth: usize) {
    let json = json.trim();
    let mut part = |mark: u8, text: &str| {
        context.update(&[mark]);
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    };
    if depth < MAX_DEPTH
        && json.starts_with('{')
        && let Ok(members) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(json)
    {
        part(b'{', &members.len().to_string());
        for (name, value) in members {
            context.update(b":");
            context.update(&(name.len() as u64).to_be_bytes());
            context.update(name.as_bytes());
            add(context, value.get(), depth + 1);
        }
        return;
    }
    if depth < MAX_DEPTH
        && has_objects(json)
        && let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(json)
    {
        part(b'[', &items.len().to_string());
        items.iter().for_each(|item| add(context, item.get(), depth + 1));
        return;
    }
    part(b'=', json);
}

/// A list of objects; one of bytes is compared as it is written.
fn has_objects(json: &str) -> bool {
    json.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with('{'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(values: &[&str]) -> Result<Option<String>, ApiError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("idempotency-key", axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        key(&headers)
    }

    #[test]
    fn keys_have_1_to_256_characters() {
        assert_eq!(with(&[]).unwrap(), None);
        assert_eq!(with(&["welcome/7"]).unwrap().as_deref(), Some("welcome/7"));
        assert_eq!(with(&[&"k".repeat(255)]).unwrap().map(|k| k.len()), Some(255));
        let longest = with(&[&"k".repeat(256)]).unwrap().unwrap();
        assert!(longest.starts_with("sha256:") && longest.len() <= MAX_STORED, "{longest}");
        for bad in [&[""][..], &[&"k".repeat(257)], &["é"], &["a", "b"], &["a\tb"]] {
            assert!(matches!(with(bad), Err(ApiError::IdempotencyKey)), "{bad:?}");
        }
    }

    #[test]
    fn the_order_of_members_does_not_matter_and_everything_else_does() {
        let one = fingerprint(r#"{"to":["a","b"],"headers":{"X":"1","Y":"2"}}"#);
        assert_eq!(one, fingerprint(r#" { "headers" : {"Y":"2","X":"1"}, "to": ["a","b"] } "#));
        for other in [
            r#"{"to":["b","a"],"headers":{"X":"1","Y":"2"}}"#,
            r#"{"to":["a","b"],"headers":{"X":"1","Y":"3"}}"#,
            r#"{"to":["a","b"],"headers":{"X":"1"}}"#,
            r#"{"to":["a","b"]}"#,
            r#"[{"to":["a","b"],"headers":{"X":"1","Y":"2"}}]"#,
        ] {
            assert_ne!(one, fingerprint(other), "{other}");
        }
        assert_eq!(fingerprint(r#"[{"a":1,"b":2}]"#), fingerprint(r#"[{"b":2,"a":1}]"#));
    }
}
