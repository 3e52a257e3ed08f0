//! OTLP/HTTP in its JSON form: ids in hexadecimal, numbers of 64 bits as texts.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use super::layer::{Recorded, Value};

/// One request with these spans.
pub(super) fn request(service: &str, spans: &[Recorded]) -> Json {
    let resource = [
        ("service.name", service.to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("process.pid", std::process::id().to_string()),
    ];
    let resource = resource.map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}));
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{
            "scope": {"name": "facteur", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]})
}

fn span(recorded: &Recorded) -> Json {
    let fields = &recorded.fields;
    let kind = match fields.kind.as_str() {
        "server" => 2,
        "client" => 3,
        "producer" => 4,
        "consumer" => 5,
        _ => 1,
    };
    let attributes = fields.attributes.iter().map(|(key, value)| json!({"key": key, "value": any(value)}));
    json!({
        "traceId": format!("{:032x}", recorded.context.trace),
        "spanId": format!("{:016x}", recorded.context.span),
        "parentSpanId": recorded.parent.map(|parent| format!("{parent:016x}")).unwrap_or_default(),
        "name": fields.name,
        "kind": kind,
        "startTimeUnixNano": nanos(recorded.begun),
        "endTimeUnixNano": nanos(recorded.ended.max(recorded.begun)),
        "attributes": attributes.collect::<Vec<_>>(),
        "status": if fields.is_error { json!({"code": 2}) } else { json!({}) },
    })
}

fn any(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!({"stringValue": text}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::Flag(flag) => json!({"boolValue": flag}),
    }
}

fn nanos(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
