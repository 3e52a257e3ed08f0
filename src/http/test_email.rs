use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderName, LOCATION};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::openapi::{Address as AddressSchema, Id, Testing};
use super::rate::{Rate, Rates};
use super::{Access, Api, ApiError};
use crate::email::{Address, Email, EmailId};
use crate::outbox::Origin;

/// What a person sees who asked whether mail works.
#[derive(Template)]
#[template(path = "test_email.html")]
struct Html<'a> {
    to: &'a str,
    from: &'a str,
}

#[derive(Template)]
#[template(path = "test_email.txt")]
struct Text<'a> {
    to: &'a str,
    from: &'a str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AcceptedTest)]
pub(super) struct Accepted {
    #[schema(value_type = Id, inline)]
    id: EmailId,
    status: &'static str,
    #[schema(value_type = String)]
    to: Address,
}

type Answer = (StatusCode, [(HeaderName, String); 1], Json<Accepted>);

/// Send a test mail
///
/// One mail that says that mail works. Outside development 5 a minute to one recipient, and 60 in all.
#[utoipa::path(
    post, path = "/api/test-email", operation_id = "send_test_email", tag = "Operations", security(("bearer" = [])),
    params(("to" = inline(AddressSchema), Query, description = "To whom: one address, and no other parameter.")),
    responses(
        (status = 202, description = "Accepted.", body = Accepted,
         headers(("location" = String, description = "Where to look at it.")),
         links(("look" = (operation_id = "get_email", parameters(("id" = "$response.body#/id"))))),
         example = json!({"id": "01a20465-e8e1-77c8-8dd7-5f3c3711aa36", "status": "queued", "to": "test@local.test"})),
        Testing,
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Extension(rates): Extension<Rates>,
    query: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Result<Answer, ApiError> {
    let unreadable = |_| ApiError::Invalid("the query must be ?to=<address>".into());
    let to = recipient(&query.map_err(unreadable)?.0, matches!(api.access, Access::Open))?;
    let email = compose(&api.sender, &to)?;
    caller.may_send_from(&email.from)?;
    if !caller.in_development() {
        within_reason(&rates, &to)?;
    }
    let origin = Origin { caller: Some(caller.name().to_owned()), ..Origin::default() };
    let enqueued = api.outbox.enqueue_from(&email, &origin).await?;
    let accepted = Accepted { id: enqueued.id, status: "queued", to };
    Ok((StatusCode::ACCEPTED, [(LOCATION, format!("/emails/{}", accepted.id))], Json(accepted)))
}

/// Somebody's mailbox is not filled through here, whoever asks: 5 a minute to one recipient, 60 in all.
fn within_reason(rates: &Rates, to: &Address) -> Result<(), ApiError> {
    const MINUTE: Duration = Duration::from_secs(60);
    for (whose, most) in [(format!("test:{to}"), 5), ("test:".to_owned(), 60)] {
        let Some(most) = NonZeroU32::new(most) else { continue };
        let level = rates.take(&whose, Rate { most, window: MINUTE }, Instant::now());
        if !level.granted {
            return Err(ApiError::TooMany { seconds: level.reset });
        }
    }
    Ok(())
}

/// The one `to`, a bare address; `@localhost` in development only.
fn recipient(query: &[(String, String)], development: bool) -> Result<Address, ApiError> {
    let invalid = |text: String| Err(ApiError::Invalid(text));
    if let Some((name, _)) = query.iter().find(|(name, _)| name != "to") {
        return invalid(format!("{} is not a parameter here; only to is", excerpt(name)));
    }
    let [(_, text)] = query else {
        let found = if query.is_empty() { "is missing" } else { "is given more than once" };
        return invalid(format!("to {found}: one address is expected, as in ?to=test@local.test"));
    };
    match text.parse::<Address>() {
        Ok(address) if address.is_localhost() && !development => {
            invalid("to has the domain localhost, which is for development only".into())
        }
        Ok(address) => Ok(address),
        // In a query a plus is a space.
        Err(error) if text.contains(' ') => {
            invalid(format!("to {error} (in a URL, write a plus as %2B); given: {}", excerpt(text)))
        }
        Err(error) => invalid(format!("to {error}; given: {}", excerpt(text))),
    }
}

/// At most 64 characters of what was given, escaped.
fn excerpt(text: &str) -> String {
    let cut: String = text.chars().take(64).collect();
    format!("\"{}\"", cut.escape_debug())
}

fn compose(from: &str, to: &Address) -> Result<Email, ApiError> {
    let internal = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "the test mail cannot be made");
        ApiError::Internal
    };
    let text = Text { to: to.as_str(), from }.render().map_err(|e| internal(&e))?;
    let html = Html { to: to.as_str(), from }.render().map_err(|e| internal(&e))?;
    let email = Email::builder(from, to.as_str(), "It works: a test mail from Facteur", text).html(html);
    email.build().map_err(|e| internal(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &[(&str, &str)]) -> Result<Address, String> {
        let query: Vec<_> = query.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        recipient(&query, true).map_err(|e| e.to_string())
    }

    #[test]
    fn exactly_one_bare_address() {
        assert_eq!(asked(&[("to", "test@local.test")]).unwrap().as_str(), "test@local.test");
        for (query, says) in [
            (&[][..], "to is missing"),
            (&[("to", "a@x.test"), ("to", "b@x.test")], "to is given more than once"),
            (&[("to", "")], "to is empty"),
            (&[("to", "Ada <a@x.test>")], "to has a local part"),
            (&[("to", "a b@x.test")], "write a plus as %2B"),
            (&[("to", "a@x.test\r\nBcc: e@x")], "to must have exactly one @"),
            (&[("to", "a@x.test"), ("subject", "x")], "\"subject\" is not a parameter"),
        ] {
            let error = asked(query).unwrap_err();
            assert!(error.contains(says), "{query:?}: {error}");
        }
    }

    #[test]
    fn what_is_echoed_is_short_and_escaped() {
        let error = asked(&[("to", &"\u{1b}[31m".repeat(100))]).unwrap_err();
        assert!(!error.contains('\u{1b}') && error.len() < 500, "{error}");
    }

    #[test]
    fn localhost_is_for_development() {
        let query = [("to".to_owned(), "me@localhost".to_owned())];
        assert!(recipient(&query, true).is_ok());
        assert!(recipient(&query, false).is_err());
    }
}
