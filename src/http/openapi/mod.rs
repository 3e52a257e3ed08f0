//! The OpenAPI document, made from the types and the handlers.

mod errors;
mod patterns;
mod schemas;

use std::sync::LazyLock;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::json;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr, Schema, Type};
use utoipa::{Modify, OpenApi as _};

use super::{Access, Api};
pub(super) use errors::{
    Deciding, Listing, Moving, Open, Probing, Reading, Sending, Testing, Watching, Withdrawing,
};
pub(super) use schemas::*;

/// What the derives and the handlers say.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Facteur",
        description = "Hands e-mails over to Facteur, and tells what became of them. The wire contract is \
            that of Resend: its clients work unmodified. Fields of a request that are not known are ignored, \
            one that is given twice is malformed; text, HTML and files of an e-mail have 25 MiB at most \
            together, and a request 56 MB. Every error has one shape.",
    ),
    paths(
        super::emails::create,
        super::batch::create,
        super::email_list::list,
        super::emails::show,
        super::emails::reschedule,
        super::emails::cancel,
        super::attachments::list,
        super::attachments::show,
        super::attachments::download,
        super::by_hand::retry,
        super::by_hand::give_up,
        super::test_email::create,
        super::health::live,
        super::health::ready,
        super::metrics::show,
        show,
        super::docs::show,
    ),
    components(schemas(
        Mailbox, Recipients, Mailboxes, Subject, Body, Headers, Content, Filename, ContentType, ContentId,
        HttpsUrl, TagName, TagValue, SupersededName, Moment, LastMoment, PriorityName, OnUnknownName, Id,
        Timestamp, DeliveryState, LastEvent, Disposition, super::error::ErrorBody
    )),
    tags(
        (name = "E-mails", description = "Send, look at, move and cancel."),
        (name = "Attachments", description = "The files of an e-mail."),
        (name = "By hand", description = "What a person decides, with a token of role admin."),
        (name = "Operations", description = "Does mail work, and how is this process?"),
    ),
    modifiers(&Rules, &Links, &Answers, &Tokens),
)]
struct Described;

/// The document of development, where no token is needed, and of everywhere else.
static OPEN: LazyLock<OpenApi> = LazyLock::new(|| {
    let mut document = GUARDED.clone();
    operations(&mut document, |_, operation| {
        if let Some(security) = &mut operation.security {
            security.push(SecurityRequirement::default());
        }
    });
    document
});
static GUARDED: LazyLock<OpenApi> = LazyLock::new(Described::openapi);

/// What this process answers to.
pub(super) fn document(access: &Access) -> &'static OpenApi {
    match access {
        Access::Open => &OPEN,
        Access::Bearer(_) => &GUARDED,
    }
}

/// The OpenAPI document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "Operations",
    responses((status = 200, description = "The OpenAPI document.", body = AnyObject), Open)
)]
pub(super) async fn show(State(api): State<Api>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], document(&api.access).to_json().unwrap_or_default())
}

fn operations(document: &mut OpenApi, mut change: impl FnMut(&str, &mut Operation)) {
    for (path, item) in &mut document.paths.paths {
        for operation in [&mut item.get, &mut item.post, &mut item.patch].into_iter().flatten() {
            change(path, operation);
        }
    }
}

/// Rules between fields, for which utoipa has no words.
struct Rules;

impl Modify for Rules {
    fn modify(&self, document: &mut OpenApi) {
        let some = |field: &str| {
            let there = json!({"type": "string", "minLength": 1});
            json!({"required": [field], "properties": {field: there}})
        };
        let bodies = json!([some("html"), some("text")]);
        let there =
            |field: &str| json!({"required": [field], "properties": {field: {"not": {"type": "null"}}}});
        for (name, rule) in
            [("EmailRequest", bodies), ("AttachmentRequest", json!([there("content"), there("path")]))]
        {
            let schemas = document.components.as_mut().map(|components| &mut components.schemas);
            if let Some(RefOr::T(Schema::Object(object))) = schemas.and_then(|schemas| schemas.get_mut(name))
            {
                object.extensions = Some(Extensions::from_iter([("anyOf", rule)]));
            }
        }
    }
}

/// utoipa writes `operation_id` in links, where OpenAPI has `operationId`.
struct Links;

impl Modify for Links {
    fn modify(&self, document: &mut OpenApi) {
        operations(document, |_, operation| {
            for response in operation.responses.responses.values_mut() {
                let RefOr::T(response) = response else { continue };
                for link in response.links.values_mut() {
                    let RefOr::T(link) = link else { continue };
                    let id = std::mem::take(&mut link.operation_id);
                    link.extensions = Some(Extensions::from_iter([("operationId", id)]));
                }
            }
        });
    }
}

/// The errors, and what is said on every answer that is counted.
struct Answers;

impl Modify for Answers {
    fn modify(&self, document: &mut OpenApi) {
        let mut errors = errors::responses();
        for response in errors.values_mut() {
            tell_rates(response);
        }
        document.components.get_or_insert_default().responses.extend(errors);
        operations(document, |path, operation| {
            if !super::rate::is_free(path) {
                operation.responses.responses.values_mut().for_each(tell_rates);
            }
        });
    }
}

fn tell_rates(response: &mut RefOr<utoipa::openapi::Response>) {
    let RefOr::T(response) = response else { return };
    for (name, kind, says) in [
        ("ratelimit-limit", Type::Integer, "Requests a second of one caller; absent when there is no limit."),
        ("ratelimit-remaining", Type::Integer, "Requests that may follow at once."),
        ("ratelimit-reset", Type::Integer, "Seconds until the limit is whole again."),
        ("ratelimit-policy", Type::String, "Limit and window: `100;w=1`."),
    ] {
        response.headers.insert(name.to_owned(), errors::header(kind, says));
    }
}

/// `Authorization: Bearer <token>`.
struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").description(
            Some("`facteur token --role system --subject shop` makes one. In development none is needed."),
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    }
}
