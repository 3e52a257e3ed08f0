//! What every route may refuse with, from the errors themselves.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::{ContentBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type};

use crate::http::ApiError;

/// Sets of statuses, to be named on a handler.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = [$($status:literal),+];)+) => {
        $(
            $(#[$doc])*
            pub(in crate::http) struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    let of = |status: u16| (status.to_string(), Ref::from_response_name(status.to_string()).into());
                    [$($status),+].map(of).into()
                }
            }
        )+
    };
}

refusals! {
    /// Handing over e-mails.
    Sending = [400, 401, 403, 408, 409, 413, 415, 422, 429, 500, 503];
    /// The test mail.
    Testing = [401, 403, 422, 429, 500, 503];
    /// Looking at many.
    Listing = [401, 422, 429, 500, 503];
    /// Looking at one.
    Reading = [401, 404, 422, 429, 500, 503];
    /// Another moment.
    Moving = [400, 401, 404, 408, 409, 413, 415, 422, 429, 500, 503];
    /// Calling back.
    Withdrawing = [401, 404, 409, 422, 429, 500, 503];
    /// What is for role admin.
    Deciding = [401, 403, 404, 409, 422, 429, 500, 503];
    /// A probe.
    Probing = [500, 503];
    /// What this process counted.
    Watching = [401, 500];
    /// For everybody.
    Open = [429, 500];
}

/// One answer for each status that an error has, by status.
pub(super) fn responses() -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<ApiError>> = BTreeMap::new();
    for error in ApiError::one_of_each() {
        by_status.entry(error.status().as_u16()).or_default().push(error);
    }
    by_status
        .into_iter()
        .map(|(status, errors)| (status.to_string(), response(status, &errors).into()))
        .collect()
}

fn response(status: u16, errors: &[ApiError]) -> Response {
    let mut content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Error")));
    let mut names = Vec::new();
    for (number, error) in errors.iter().enumerate() {
        let body = error.body();
        let example = ExampleBuilder::new().summary(&body.message).value(serde_json::to_value(&body).ok());
        content = content.examples_from_iter([(format!("{status}-{}", number + 1), example.build())]);
        let name = format!("`{}`", serde_json::json!(body.name).as_str().unwrap_or_default());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let response = ResponseBuilder::new()
        .description(format!("Refused: {}.", names.join(", ")))
        .content("application/json", content.build());
    match status {
        401 => response.header("www-authenticate", header(Type::String, "`Bearer`.")),
        409 | 429 | 503 => response.header("retry-after", header(Type::Integer, "Seconds to wait.")),
        _ => response,
    }
    .build()
}

pub(super) fn header(kind: Type, says: &str) -> utoipa::openapi::Header {
    HeaderBuilder::new().schema(ObjectBuilder::new().schema_type(kind)).description(Some(says)).build()
}
