//! The fields of a JSON object, read one by one, so that whatever is wrong has a name.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::ApiError;

/// A field as it came; none when it is absent or null.
pub(super) type Raw<'a> = Option<&'a RawValue>;

/// A JSON object with the fields of `T`, each of them [`Raw`]. Others are ignored.
///
/// # Errors
/// Not JSON or a field twice (400), or no object (422).
pub(super) fn object<'a, T: Deserialize<'a>>(text: &'a str, what: &str) -> Result<T, ApiError> {
    // A list would be taken for the fields in their order.
    let is_object = text.trim_start().starts_with('{');
    let object = serde_json::from_str::<T>(text);
    match object {
        Ok(object) if is_object => Ok(object),
        Err(error) if error.classify() != Category::Data => Err(not_json(what, &error)),
        Err(error) if is_object => Err(ApiError::Malformed(format!("{what}: {}", first_words(&error)))),
        _ => Err(ApiError::Invalid(format!("{what} must be a JSON object"))),
    }
}

/// One field.
///
/// # Errors
/// It is not what is expected (422), or cannot be read (400).
pub(super) fn field<'a, T: Deserialize<'a>>(
    name: &str,
    raw: Raw<'a>,
    expected: &str,
) -> Result<Option<T>, ApiError> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str::<T>(raw.get()).map(Some).map_err(|error| match error.classify() {
        Category::Data => ApiError::Invalid(format!("{name} must be {expected}")),
        _ => not_json(name, &error),
    })
}

/// A list; none is an empty one.
///
/// # Errors
/// As [`field`].
pub(super) fn list<'a>(name: &str, raw: Raw<'a>, expected: &str) -> Result<Vec<&'a RawValue>, ApiError> {
    Ok(field(name, raw, expected)?.unwrap_or_default())
}

fn not_json(what: &str, error: &serde_json::Error) -> ApiError {
    ApiError::Malformed(format!(
        "{what} is not JSON: line {}, column {}: {}",
        error.line(),
        error.column(),
        first_words(error)
    ))
}

/// Of "duplicate field `to` at line 1 column 9". Nothing of the input but names that we know is in there.
fn first_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().chars().take(80).collect()
}

/// One text or several.
pub(super) struct Texts(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum OneOrMany {
            One(String),
            Many(Vec<String>),
        }
        Ok(match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(text) => Self(vec![text]),
            OneOrMany::Many(texts) => Self(texts),
        })
    }
}

/// A number from 0 to 255. `7.0` is one too: JSON, and JSON Schema, know no other whole numbers.
pub(super) struct Byte(pub(super) u8);

impl<'de> Deserialize<'de> for Byte {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl Visitor<'_> for Reading {
            type Value = Byte;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 to 255")
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Byte, E> {
                number.try_into().map(Byte).map_err(E::custom)
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Byte, E> {
                let whole = number.fract() == 0.0 && (0.0..=255.0).contains(&number);
                whole.then_some(Byte(number as u8)).ok_or_else(|| E::custom("no byte"))
            }
        }
        deserializer.deserialize_any(Reading)
    }
}

/// `{"name": "value"}`, in the order in which they came, each name once.
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    // Every one of them is compared: the e-mail takes 50 at most.
                    if pairs.len() > 100 || pairs.iter().any(|(earlier, _)| *earlier == name) {
                        return Err(A::Error::custom("twice, or too many"));
                    }
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Two<'a> {
        #[serde(borrow)]
        a: Raw<'a>,
        #[serde(borrow)]
        b: Raw<'a>,
    }

    fn status(error: ApiError) -> (u16, String) {
        use axum::response::IntoResponse;
        let text = error.to_string();
        (error.into_response().status().as_u16(), text)
    }

    #[test]
    fn what_cannot_be_read_is_told_from_what_is_refused() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for (text, code, says) in [
            ("", 400, "the body is not JSON"),
            ("{", 400, "the body is not JSON"),
            ("{\"a\":1,}", 400, "the body is not JSON"),
            ("{\"a\":1,\"a\":2}", 400, "duplicate field `a`"),
            ("[1,2]", 422, "the body must be a JSON object"),
            ("7", 422, "the body must be a JSON object"),
            (&deep, 422, "the body must be a JSON object"),
        ] {
            let (given, message) = status(object::<Two<'_>>(text, "the body").unwrap_err());
            assert_eq!(given, code, "{text:.20}: {message}");
            assert!(message.contains(says), "{text:.20}: {message}");
        }
        let two: Two<'_> = object(" {\"a\":5,\"b\":null,\"c\":{}}", "the body").unwrap();
        assert!(two.b.is_none());
        let refused = field::<String>("a", two.a, "a text").unwrap_err();
        assert_eq!(status(refused), (422, "a must be a text".into()));
    }

    #[test]
    fn a_field_that_is_deep_or_half_a_character_is_malformed() {
        for value in [format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), "\"\\ud800\"".into()] {
            let text = format!("{{\"a\":{value}}}");
            let two: Two<'_> = object(&text, "the body").unwrap();
            let refused = field::<Texts>("a", two.a, "a text").err().unwrap();
            assert_eq!(status(refused).0, 400, "{value:.20}");
        }
    }

    #[test]
    fn names_come_once() {
        let two: Two<'_> = object(r#"{"a":{"X-A":"1","X-A":"2"},"b":{"X-B":"1"}}"#, "the body").unwrap();
        assert!(field::<Pairs>("headers", two.a, "an object").is_err());
        assert_eq!(field::<Pairs>("headers", two.b, "an object").unwrap().unwrap().0.len(), 1);
    }
}
