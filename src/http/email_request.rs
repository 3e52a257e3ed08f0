//! An e-mail as the Resend clients send it, and what is ours besides.

use serde::Deserialize;
use serde_json::value::RawValue;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::attachment_request::{self, AttachmentFields, MAX_ATTACHMENTS};
use super::auth::Caller;
use super::fields::{Pairs, Raw, Texts, field, list, object};
use super::openapi::{
    Body, Headers, LastMoment, Mailbox as MailboxText, Mailboxes, Moment, Null, OnUnknownName, PriorityName,
    Recipients, Subject, SupersededName, TagName, TagValue,
};
use super::{ApiError, moment, plain_text};
use crate::email::{Email, EmailBuilder, Mailbox, OnUnknown, Priority};

/// How far ahead mail may be scheduled.
const LONGEST_WAIT: Duration = Duration::days(30);
/// How long ago may be taken for now: clocks differ, and requests travel.
const LATE: Duration = Duration::minutes(5);
const LONGEST_LIFE: Duration = Duration::days(60);

/// An e-mail to send. Fields that are not known are ignored.
#[derive(Deserialize, ToSchema)]
#[schema(as = EmailRequest)]
pub(super) struct Fields<'a> {
    /// Who it is from.
    #[serde(borrow, default)]
    #[schema(value_type = MailboxText, required)]
    from: Raw<'a>,
    /// To whom: 1 to 50.
    #[serde(borrow, default)]
    #[schema(value_type = Recipients, required)]
    to: Raw<'a>,
    /// Visible copies.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Mailboxes>)]
    cc: Raw<'a>,
    /// Blind copies.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Mailboxes>)]
    bcc: Raw<'a>,
    /// Where answers go.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Mailboxes>)]
    reply_to: Raw<'a>,
    /// One line, which may be empty.
    #[serde(borrow, default)]
    #[schema(value_type = Subject, required)]
    subject: Raw<'a>,
    /// `html`, `text` or both are required. From `html` alone a text is made.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Body>)]
    html: Raw<'a>,
    /// The plain text. `""` beside `html` says that none is wanted.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Body>)]
    text: Raw<'a>,
    /// Headers of your own, each name once.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Headers>)]
    headers: Raw<'a>,
    /// Files.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Vec<AttachmentFields>>, max_items = 100)]
    attachments: Raw<'a>,
    /// Kept with the e-mail and shown again, never sent along.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Vec<TagFields>>, max_items = 50)]
    tags: Raw<'a>,
    /// Not sent before.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Moment>)]
    scheduled_at: Raw<'a>,
    /// Refused: there are no stored templates.
    #[serde(borrow, default)]
    #[schema(value_type = Null, inline)]
    template: Raw<'a>,
    // Ours.
    /// Not sent after; later than `scheduled_at`.
    #[serde(borrow, default)]
    #[schema(value_type = Option<LastMoment>)]
    expires_at: Raw<'a>,
    /// Which of two due e-mails goes first; `normal` unless it is said.
    #[serde(borrow, default)]
    #[schema(value_type = Option<PriorityName>)]
    priority: Raw<'a>,
    /// When nobody can know whether it was sent: `retry` sends it again, `hold` leaves it to a person.
    #[serde(borrow, default)]
    #[schema(value_type = Option<OnUnknownName>)]
    on_unknown: Raw<'a>,
    /// Its content is wiped once it has ended.
    #[serde(borrow, default)]
    #[schema(value_type = Option<bool>)]
    sensitive: Raw<'a>,
    /// Takes the place of your queued e-mails with this name, such as `login-code:ada`.
    #[serde(borrow, default)]
    #[schema(value_type = Option<SupersededName>)]
    supersedes: Raw<'a>,
}

/// The e-mail that a JSON object asks for, with the key that makes it safe to ask twice.
///
/// # Errors
/// The first field that cannot be taken, by name.
pub(super) fn compose(
    json: &str,
    what: &str,
    key: Option<&str>,
    caller: &Caller,
    now: OffsetDateTime,
) -> Result<Email, ApiError> {
    let fields: Fields<'_> = object(json, what)?;
    if fields.template.is_some() {
        let text = "template is not accepted: there are no stored templates; send html or text";
        return Err(ApiError::Invalid(text.into()));
    }
    let mut email = head(&fields)?;
    email = body(email, &fields)?;
    email = extras(email, &fields)?;
    email = moments(email, &fields, now)?;
    email = options(email, &fields, caller)?;
    if let Some(key) = key {
        email = email.idempotency_key(key);
    }
    let email = email.build()?;
    permitted(&email, caller)?;
    Ok(email)
}

/// A label.
#[derive(Deserialize, ToSchema)]
#[schema(as = TagRequest)]
pub(super) struct TagFields {
    /// 1 to 256 ASCII letters, digits, `_` and `-`.
    #[schema(value_type = TagName)]
    name: String,
    /// The same, or nothing.
    #[schema(value_type = Option<TagValue>)]
    value: Option<String>,
}

fn head(fields: &Fields<'_>) -> Result<EmailBuilder, ApiError> {
    let missing = |name: &str, expected| ApiError::Missing(name.into(), expected);
    let from: Option<String> =
        field("from", fields.from, "a text: ada@example.com or Ada <ada@example.com>")?;
    let address = "an address is expected, as in Ada <ada@example.com>";
    let from = from.filter(|from| !from.is_empty()).ok_or_else(|| missing("from", address))?;
    let mut to = addresses("to", fields.to)?.into_iter();
    let first = to.next().ok_or_else(|| missing("to", "an address or a list of them is expected"))?;
    let subject: Option<String> = field("subject", fields.subject, "a text")?;
    let subject = subject.ok_or_else(|| missing("subject", "a text is expected, which may be empty"))?;
    let mut email = Email::builder(from, first, subject, "");
    email = to.fold(email, EmailBuilder::to);
    email = addresses("cc", fields.cc)?.into_iter().fold(email, EmailBuilder::cc);
    email = addresses("bcc", fields.bcc)?.into_iter().fold(email, EmailBuilder::bcc);
    Ok(addresses("reply_to", fields.reply_to)?.into_iter().fold(email, EmailBuilder::reply_to))
}

fn addresses(name: &str, raw: Raw<'_>) -> Result<Vec<String>, ApiError> {
    let texts: Option<Texts> = field(name, raw, "an address or a list of addresses, as texts")?;
    Ok(texts.map(|texts| texts.0).unwrap_or_default())
}

/// Plain text is made from HTML that comes alone; an empty `text` says that none is wanted.
fn body(email: EmailBuilder, fields: &Fields<'_>) -> Result<EmailBuilder, ApiError> {
    let html: Option<String> = field("html", fields.html, "a text")?;
    let text: Option<String> = field("text", fields.text, "a text")?;
    let email = email.without_text();
    match (html.filter(|html| !html.is_empty()), text) {
        (Some(html), None) => Ok(match plain_text::of(&html) {
            Some(text) => email.text(text).html(html),
            None => email.html(html),
        }),
        (Some(html), Some(text)) if text.is_empty() => Ok(email.html(html)),
        (Some(html), Some(text)) => Ok(email.text(text).html(html)),
        (None, Some(text)) if !text.is_empty() => Ok(email.text(text)),
        (None, _) => Err(ApiError::Missing("html".into(), "html, text or both are expected")),
    }
}

fn extras(mut email: EmailBuilder, fields: &Fields<'_>) -> Result<EmailBuilder, ApiError> {
    let headers: Option<Pairs> = field(
        "headers",
        fields.headers,
        "an object of texts, {\"X-Name\": \"value\"}, at most 50, each name once",
    )?;
    for (name, value) in headers.into_iter().flat_map(|pairs| pairs.0) {
        email = email.header(name, value);
    }
    let files = list("attachments", fields.attachments, "a list of objects")?;
    if files.len() > MAX_ATTACHMENTS {
        let count = files.len();
        let text = format!("attachments has {count} entries, the most is {MAX_ATTACHMENTS}");
        return Err(ApiError::Attachment(text));
    }
    for (i, file) in files.into_iter().enumerate() {
        email = email.attach(attachment_request::read(&format!("attachments[{i}]"), file.get())?);
    }
    let tags: Option<Vec<TagFields>> =
        field("tags", fields.tags, "a list of objects, {\"name\": \"category\", \"value\": \"welcome\"}")?;
    for tag in tags.into_iter().flatten() {
        email = email.tag(tag.name, tag.value.unwrap_or_default());
    }
    Ok(email)
}

fn moments(
    mut email: EmailBuilder,
    fields: &Fields<'_>,
    now: OffsetDateTime,
) -> Result<EmailBuilder, ApiError> {
    if let Some(at) = scheduled_at(fields.scheduled_at, now)? {
        email = email.scheduled_at(at);
    }
    if let Some(at) = moment_of("expires_at", fields.expires_at, now)? {
        if at <= now || at > now + LONGEST_LIFE {
            return Err(ApiError::Invalid("expires_at must be in the future, at most 60 days ahead".into()));
        }
        email = email.expires_at(at);
    }
    Ok(email)
}

/// When the caller wants it sent.
pub(super) fn scheduled_at(raw: Raw<'_>, now: OffsetDateTime) -> Result<Option<OffsetDateTime>, ApiError> {
    let at = moment_of("scheduled_at", raw, now)?;
    if at.is_some_and(|at| at < now - LATE) {
        let text = "scheduled_at must not be in the past; without a zone it is UTC";
        return Err(ApiError::Invalid(text.into()));
    }
    if at.is_some_and(|at| at > now + LONGEST_WAIT) {
        return Err(ApiError::Invalid("scheduled_at must be at most 30 days ahead".into()));
    }
    Ok(at)
}

fn moment_of(name: &str, raw: Raw<'_>, now: OffsetDateTime) -> Result<Option<OffsetDateTime>, ApiError> {
    let Some(text) = field::<String>(name, raw, moment::ACCEPTED)? else { return Ok(None) };
    let refused = || ApiError::Invalid(format!("{name} must be {}", moment::ACCEPTED));
    moment::parse(&text, now).map(Some).ok_or_else(refused)
}

fn options(mut email: EmailBuilder, fields: &Fields<'_>, caller: &Caller) -> Result<EmailBuilder, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Level {
        Urgent,
        High,
        Normal,
        Low,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Doubt {
        Retry,
        Hold,
    }
    if let Some(level) = field("priority", fields.priority, "urgent, high, normal or low")? {
        email = email.priority(match level {
            Level::Urgent => Priority::Urgent,
            Level::High => Priority::High,
            Level::Normal => Priority::Normal,
            Level::Low => Priority::Low,
        });
    }
    if let Some(doubt) = field("on_unknown", fields.on_unknown, "retry or hold")? {
        email = email.on_unknown(match doubt {
            Doubt::Retry => OnUnknown::Retry,
            Doubt::Hold => OnUnknown::Hold,
        });
    }
    if let Some(sensitive) = field("sensitive", fields.sensitive, "true or false")? {
        email = email.sensitive(sensitive);
    }
    match field::<String>("supersedes", fields.supersedes, "a text of 1 to 128 characters")? {
        Some(name) => Ok(email.supersedes(caller.own_name(name)?)),
        None => Ok(email),
    }
}

/// What the token, or the environment, does not let everybody do.
fn permitted(email: &Email, caller: &Caller) -> Result<(), ApiError> {
    caller.may_send_from(&email.from)?;
    let lists = [("to", &email.to), ("cc", &email.cc), ("bcc", &email.bcc), ("reply_to", &email.reply_to)];
    let local = |mailbox: &Mailbox| mailbox.address.is_localhost() && !caller.in_development();
    let from = std::slice::from_ref(&email.from);
    let all = lists.into_iter().map(|(name, list)| (name, list.as_slice())).chain([("from", from)]);
    for (name, mailboxes) in all {
        if mailboxes.iter().any(local) {
            let text = format!("{name} has the domain localhost, which is for development only");
            return Err(ApiError::Invalid(text));
        }
    }
    Ok(())
}

/// The elements of a batch.
///
/// # Errors
/// It is not a list of 1 to 100.
pub(super) fn batch(json: &str) -> Result<Vec<&RawValue>, ApiError> {
    const EXPECTED: &str = "a list of 1 to 100 e-mails";
    let raw: &RawValue = serde_json::from_str(json).map_err(|error| {
        ApiError::Malformed(format!(
            "the body is not JSON: {EXPECTED} is expected (line {}, column {})",
            error.line(),
            error.column()
        ))
    })?;
    let items = list("the body", Some(raw), EXPECTED)?;
    if (1..=100).contains(&items.len()) {
        return Ok(items);
    }
    Err(ApiError::Invalid(format!("the body must be {EXPECTED}; it has {}", items.len())))
}
