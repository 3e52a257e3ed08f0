//! Schemas of texts and lists that Rust types do not tell: how long, how many, what characters.

use serde_json::json;
use utoipa::openapi::schema::{
    AnyOf, AnyOfBuilder, ArrayBuilder, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::patterns;
use crate::email::RESERVED_HEADERS;

/// Types that are nothing but a schema.
macro_rules! schemas {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)+) => {
        $(
            $(#[$doc])*
            pub(in crate::http) enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    RefOr::T(Schema::from($schema))
                }
            }

            impl ToSchema for $name {}
        )+
    };
}

schemas! {
    /// `ada@example.com`.
    Address = text(patterns::address()).description(Some(
        "An address alone: `ada@example.com`. The part before the @ is ASCII, without quotes; a domain in \
         other letters than ASCII is taken too, and kept in A-labels. In development the domain may be \
         `localhost`.",
    )).examples([json!("ada@example.com")]).build();
    /// `Ada <ada@example.com>`.
    Mailbox = text(patterns::mailbox()).description(Some(
        "An address, alone or with a name: `ada@example.com` or `Ada Lovelace <ada@example.com>`. The part \
         before the @ is ASCII, without quotes; a domain in other letters than ASCII is taken too, and kept \
         in A-labels.",
    )).examples([json!("Ada Lovelace <ada@example.com>")]).build();
    /// To whom.
    Recipients = mailboxes(1);
    /// To whom else.
    Mailboxes = mailboxes(0);
    /// A subject.
    Subject = text(patterns::line()).max_length(Some(998)).description(Some("One line.")).build();
    /// A text or HTML.
    Body = text(patterns::NO_NUL.to_owned()).build();
    /// `{"X-Name": "value"}`.
    Headers = headers();
    /// Base64, a list of bytes, or a Buffer.
    Content = content();
    /// A name with or without folders before it.
    Filename = AnyOfBuilder::new()
        .item(text(patterns::filename()))
        .item(ObjectBuilder::new().schema_type(SchemaType::Type(Type::Boolean)).enum_values(Some([false])))
        .description(Some("The receiver sees the base name. `false`, as Node.js may write, is none."))
        .build();
    /// A MIME type.
    ContentType = text(patterns::CONTENT_TYPE.to_owned()).max_length(Some(255)).build();
    /// For `cid:`.
    ContentId = text(patterns::CONTENT_ID.to_owned()).max_length(Some(127)).build();
    /// Where to fetch from.
    HttpsUrl = text(patterns::HTTPS.to_owned()).format(Some(SchemaFormat::Custom("uri".to_owned()))).build();
    /// The name of a tag.
    TagName = text(patterns::TAG.to_owned()).min_length(Some(1)).max_length(Some(256)).build();
    /// The value of a tag.
    TagValue = text(patterns::TAG.to_owned()).max_length(Some(256)).build();
    /// Of what is superseded.
    SupersededName = text(patterns::NAME.to_owned()).min_length(Some(1)).max_length(Some(128)).build();
    /// At most 30 days ahead.
    Moment = moment("moment-within-30-days");
    /// At most 60 days ahead.
    LastMoment = moment("moment-within-60-days");
    /// Of a request that may be made twice.
    IdempotencyKey = text(patterns::KEY.to_owned()).min_length(Some(1)).max_length(Some(256)).build();
    /// Nothing but null.
    Null = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Null)).build();
    /// What urgent is.
    PriorityName = one_of(&["urgent", "high", "normal", "low"]);
    /// What becomes of doubt.
    OnUnknownName = one_of(&["retry", "hold"]);
    /// What becomes of a batch.
    BatchValidation = one_of(&["strict", "permissive"]);
    /// E-mails to send at once.
    Batch = ArrayBuilder::new()
        .items(Ref::from_schema_name("EmailRequest"))
        .min_items(Some(1))
        .max_items(Some(100))
        .build();
    /// A word for an e-mail.
    ObjectEmail = one_of(&["email"]);
    /// A word for a list.
    ObjectList = one_of(&["list"]);
    /// A word for a file.
    ObjectAttachment = one_of(&["attachment"]);
    /// Where a delivery is.
    DeliveryState = one_of(&["queued", "sending", "unknown", "sent", "failed", "cancelled"]);
    /// Where an e-mail is.
    LastEvent = one_of(&["scheduled", "queued", "delivery_delayed", "sent", "failed", "canceled"]);
    /// How a file is shown.
    Disposition = one_of(&["inline", "attachment"]);
    /// The id of an e-mail.
    Id = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .format(Some(SchemaFormat::Custom("uuid".to_owned())))
        .build();
    /// As Postgres writes it.
    Timestamp = text("^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}\\+00$".to_owned())
        .examples([json!("2026-04-03 22:13:42.674981+00")])
        .build();
    /// A number among the files of an e-mail.
    AttachmentNumber = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .minimum(Some(0))
        .maximum(Some(99))
        .build();
    /// Any object.
    AnyObject = ObjectBuilder::new().build();
    /// Any bytes.
    Bytes = ObjectBuilder::new().schema_type(SchemaType::AnyValue).build();
}

fn text(pattern: String) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).pattern(Some(pattern))
}

fn one_of(words: &[&str]) -> Object {
    let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    text.enum_values(Some(words.iter().copied())).build()
}

fn moment(format: &str) -> Object {
    let soon = if format.contains("30") { 30 } else { 60 };
    text(patterns::moment())
        .max_length(Some(64))
        .format(Some(SchemaFormat::Custom(format.to_owned())))
        .description(Some(format!(
            "A moment at most {soon} days ahead: ISO 8601 (`2026-08-05T11:52:01Z`, `+02:00`, `+0200`; without \
             a zone it is UTC) or plain words (`in 5 minutes`, `tomorrow at 9am`, `Friday at 15:30 UTC`)."
        )))
        .examples([json!(format!("in {} days", soon - 1))])
        .build()
}

fn mailboxes(least: usize) -> AnyOf {
    let one = Ref::from_schema_name("Mailbox");
    let many = ArrayBuilder::new().items(one.clone()).min_items((least > 0).then_some(least));
    AnyOfBuilder::new()
        .item(one)
        .item(many.max_items(Some(50)))
        .description(Some("One address, or a list of at most 50."))
        .build()
}

fn headers() -> Object {
    let name = text(patterns::header_name(&RESERVED_HEADERS)).build();
    ObjectBuilder::new()
        .property_names(Some(name))
        .additional_properties(Some(Schema::from(text(patterns::line()).max_length(Some(4_000)).build())))
        .max_properties(Some(50))
        .description(Some(
            "Headers of your own, 16 kB together. Those that Facteur writes itself are refused: From, To, \
             Cc, Bcc, Sender, Date, Subject, Message-ID, MIME-Version, Reply-To, Content-*, DKIM-Signature, \
             Received, Return-Path.",
        ))
        .examples([json!({"X-Campaign": "spring"})])
        .build()
}

fn content() -> AnyOf {
    let byte = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .minimum(Some(0))
        .maximum(Some(255))
        .build();
    let bytes = ArrayBuilder::new().items(byte).build();
    let buffer = ObjectBuilder::new()
        .property("type", one_of(&["Buffer"]))
        .property("data", bytes.clone())
        .required("type")
        .required("data")
        .description(Some("A Buffer as Node.js writes it."));
    AnyOfBuilder::new()
        .item(text(patterns::BASE64.to_owned()).description(Some("Base64; line ends within are taken too.")))
        .item(bytes)
        .item(buffer)
        .description(Some("Base64, a list of bytes, or a Buffer as Node.js writes it."))
        .build()
}
