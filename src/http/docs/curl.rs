//! A line to try a route with.

use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Required, Schema};

/// `curl …`, for a shell.
pub(super) fn line(
    method: &str,
    url: &str,
    parameters: &[&Parameter],
    body: Option<String>,
    token: bool,
) -> String {
    let mut url = url.replace("{id}", "$ID").replace("{attachment}", "0");
    let wanted = |p: &&&Parameter| p.parameter_in == ParameterIn::Query && p.required == Required::True;
    for (i, parameter) in parameters.iter().filter(wanted).enumerate() {
        let start = if i == 0 { '?' } else { '&' };
        url.push_str(&format!("{start}{}={}", parameter.name, example(parameter)));
    }
    let mut line = match method {
        "GET" => format!("curl \"{url}\""),
        method => format!("curl -X {method} \"{url}\""),
    };
    if token {
        line.push_str(" \\\n  -H \"Authorization: Bearer $TOKEN\"");
    }
    if let Some(body) = body {
        let quoted = body.replace('\'', r"'\''");
        line.push_str(&format!(" \\\n  -H 'Content-Type: application/json' \\\n  -d '{quoted}'"));
    }
    line
}

fn example(parameter: &Parameter) -> String {
    let Some(RefOr::T(Schema::Object(object))) = &parameter.schema else { return String::new() };
    object.examples.first().and_then(|value| value.as_str()).unwrap_or_default().to_owned()
}
