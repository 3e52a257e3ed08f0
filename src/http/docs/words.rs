//! Schemas in words.

use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, Object, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

/// A piece of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Plain(String),
    Code(String),
    /// One with a place on the page to go to.
    Type(String),
}

/// Text, with `code` in it.
pub(super) fn prose(text: &str) -> Vec<Piece> {
    let piece = |(i, part): (usize, &str)| match i % 2 {
        0 => Piece::Plain(part.to_owned()),
        _ => Piece::Code(part.to_owned()),
    };
    text.split('`').enumerate().map(piece).filter(|piece| *piece != plain(String::new())).collect()
}

/// What a schema takes, in a few words.
pub(super) fn kind(schema: &RefOr<Schema>) -> Vec<Piece> {
    match schema {
        RefOr::Ref(to) => vec![Piece::Type(named(&to.ref_location).to_owned())],
        RefOr::T(Schema::Object(object)) => vec![plain(object_words(object))],
        RefOr::T(Schema::Array(array)) => {
            let count = count(array.min_items, array.max_items, "");
            let list = match count.as_str() {
                "" => "a list of ".to_owned(),
                count => format!("a list of {count} × "),
            };
            let items = match &array.items {
                ArrayItems::RefOrSchema(items) => kind(items),
                ArrayItems::False => Vec::new(),
            };
            let mut pieces = vec![plain(list)];
            pieces.extend(items);
            pieces.extend(or_null(&array.schema_type));
            pieces
        }
        RefOr::T(Schema::OneOf(some)) => joined(&some.items, " or "),
        RefOr::T(Schema::AnyOf(some)) => joined(&some.items, " or "),
        RefOr::T(Schema::AllOf(all)) => joined(&all.items, " and "),
        RefOr::T(_) => vec![plain("anything".to_owned())],
    }
}

/// The last part of `#/components/schemas/Email`.
pub(super) fn named(location: &str) -> &str {
    location.rsplit('/').next().unwrap_or_default()
}

fn plain(text: String) -> Piece {
    Piece::Plain(text)
}

/// What may be null says so last.
fn joined(items: &[RefOr<Schema>], between: &str) -> Vec<Piece> {
    let is_null = |item: &&RefOr<Schema>| matches!(item, RefOr::T(Schema::Object(o)) if o.schema_type == SchemaType::Type(Type::Null));
    let (nulls, others): (Vec<_>, Vec<_>) = items.iter().partition(is_null);
    let mut pieces = Vec::new();
    for item in others.into_iter().chain(nulls) {
        if !pieces.is_empty() {
            pieces.push(plain(between.to_owned()));
        }
        pieces.extend(kind(item));
    }
    pieces
}

fn or_null(types: &SchemaType) -> Option<Piece> {
    matches!(types, SchemaType::Array(types) if types.contains(&Type::Null))
        .then(|| plain(" or null".to_owned()))
}

fn object_words(object: &Object) -> String {
    if let Some(values) = &object.enum_values {
        let words: Vec<String> = values.iter().map(ToString::to_string).collect();
        return words.join(" or ");
    }
    let mut words = vec![match &object.schema_type {
        SchemaType::Type(one) => type_word(one).to_owned(),
        SchemaType::Array(types) => types.iter().map(type_word).collect::<Vec<_>>().join(" or "),
        SchemaType::AnyValue => "bytes".to_owned(),
    }];
    if let Some(AdditionalProperties::RefOr(_)) = object.additional_properties.as_deref() {
        words.push("of texts".to_owned());
    }
    if let Some(format) = &object.format {
        let format = serde_json::to_value(format).unwrap_or_default();
        words.extend(format.as_str().filter(|format| !format.starts_with("int")).map(|f| format!("({f})")));
    }
    let whole = |number: &Option<utoipa::Number>| {
        serde_json::to_value(number).ok().and_then(|number| number.as_f64()).map(|number| number as usize)
    };
    words.push(count(whole(&object.minimum), whole(&object.maximum), ""));
    words.push(count(object.min_length, object.max_length, "characters"));
    words.push(count(None, object.max_properties, "entries"));
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

fn type_word(one: &Type) -> &'static str {
    match one {
        Type::String => "text",
        Type::Integer => "whole number",
        Type::Number => "number",
        Type::Boolean => "true or false",
        Type::Object => "object",
        Type::Array => "list",
        Type::Null => "null",
    }
}

/// `1 to 50`, `up to 50`, `from 1`.
fn count(least: Option<usize>, most: Option<usize>, of: &str) -> String {
    let numbers = match (least, most) {
        (None, None) => return String::new(),
        (None | Some(0), Some(most)) => format!("up to {most}"),
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("from {least}"),
    };
    format!("{numbers} {of}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(schema: serde_json::Value) -> String {
        let text = |piece: Piece| match piece {
            Piece::Plain(text) | Piece::Code(text) => text,
            Piece::Type(name) => format!("<{name}>"),
        };
        kind(&serde_json::from_value(schema).unwrap()).into_iter().map(text).collect()
    }

    #[test]
    fn schemas_in_words() {
        let to = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
        for (schema, words) in [
            (json!({"type": "string", "minLength": 1, "maxLength": 128}), "text 1 to 128 characters"),
            (json!({"type": "string", "format": "uuid"}), "text (uuid)"),
            (
                json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": 99}),
                "whole number up to 99",
            ),
            (json!({"type": ["boolean", "null"]}), "true or false or null"),
            (json!({"type": "string", "enum": ["strict", "permissive"]}), "\"strict\" or \"permissive\""),
            (json!({"type": "array", "items": to("Tag"), "maxItems": 50}), "a list of up to 50 × <Tag>"),
            (json!({"oneOf": [{"type": "null"}, to("Moment")]}), "<Moment> or null"),
        ] {
            assert_eq!(said(schema.clone()), words, "{schema}");
        }
    }

    #[test]
    fn what_stands_in_back_quotes_is_code() {
        let pieces = prose("`to` and `cc`.");
        let code = |text: &str| Piece::Code(text.to_owned());
        let words = |text: &str| Piece::Plain(text.to_owned());
        assert_eq!(pieces, [code("to"), words(" and "), code("cc"), words(".")]);
    }
}
