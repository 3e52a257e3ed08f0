//! Resend's own client for Rust, unmodified: the conformance list of the contract, as far as this client
//! writes it. Only its base URL is another.

use facteur::delivery::Worker;
use facteur::http::Role;
use facteur::testing::{Fault, Script, SmtpServer, Stage, TestAuthority};
use facteur::transport::{Transport, smtp::SmtpTransport};
use resend_rs::idempotent::IdempotentTrait;
use resend_rs::list_opts::ListOptions;
use resend_rs::types::{
    BatchValidation, CreateAttachment, CreateEmailBaseOptions, EmailEvent, EmailTemplate, Tag,
    UpdateEmailOptions,
};
use resend_rs::{ConfigBuilder, Error, Resend};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::door::Door;
use crate::file_server::{FileServer, Net, ok};
use crate::support::outbox::pace;

/// A new one each time: one client asks for nine things in a row, and then waits.
fn client(door: &Door, base: &str, key: &str) -> Resend {
    let config = ConfigBuilder::new(key).base_url(base.parse().unwrap()).client(door.client.clone());
    Resend::with_config(config.build())
}

fn resend(door: &Door) -> Resend {
    client(door, &door.base, "any-key-works-in-development")
}

fn email() -> CreateEmailBaseOptions {
    CreateEmailBaseOptions::new("Acme <shop@local.test>", ["ada@local.test"], "Hello")
        .with_html("<p>Hello, Ada.</p>")
}

/// Status, name and message of what was refused.
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String, String) {
    match result {
        Err(Error::Resend(error)) => (error.status_code, error.name, error.message),
        other => panic!("{other:?}"),
    }
}

/// 1, 6, 7, 13: the path, contents as lists of bytes, the type, and a strict reader of `GET`.
#[tokio::test]
async fn what_is_sent_is_read_back() {
    let door = Door::open().await;
    let resend = resend(&door);
    let whole = email()
        .with_cc("cy@local.test")
        .with_bcc("bo@local.test")
        .with_reply("help@local.test")
        .with_header("X-Campaign", "spring")
        .with_tag(Tag::new("category", "welcome"))
        .with_topic("newsletter")
        .with_attachment(
            CreateAttachment::from_content(vec![0, 255, 10])
                .with_filename("a.bin")
                .with_content_type("image/png"),
        )
        .with_attachment(
            CreateAttachment::from_content(b"Hello".to_vec()).with_filename("b.txt").with_content_id("b"),
        );
    let id = resend.emails.send(whole).await.unwrap().id;
    let got = resend.emails.get(&id).await.unwrap();
    assert_eq!((got.from.as_str(), got.subject.as_str()), ("Acme <shop@local.test>", "Hello"));
    assert_eq!(
        (got.to, got.cc, got.bcc),
        (vec!["ada@local.test".into()], vec!["cy@local.test".into()], vec!["bo@local.test".into()])
    );
    assert_eq!(got.reply_to, Some(vec!["help@local.test".to_owned()]));
    assert_eq!(got.last_event, EmailEvent::Queued);
    assert!(got.text.unwrap().contains("Hello, Ada"));
    let files = resend.emails.list_attachments(&id, ListOptions::default()).await.unwrap();
    let shown: Vec<_> = files
        .data
        .iter()
        .map(|f| (f.filename.as_deref().unwrap(), f.size, f.content_type.as_str()))
        .collect();
    assert_eq!(shown, [("a.bin", 3, "image/png"), ("b.txt", 5, "text/plain; charset=utf-8")]);
    let file = resend.emails.get_attachment(&id, &files.data[0].id).await.unwrap();
    let bytes = door.client.get(file.download_url).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes.as_ref(), [0, 255, 10]);
    let plain = resend.emails.send(email().with_text("plain")).await.unwrap().id;
    let plain = resend.emails.get(&plain).await.unwrap();
    assert!(plain.cc.is_empty() && plain.bcc.is_empty());
    for base in [format!("{}/", door.base), format!("{}//", door.base)] {
        client(&door, &base, "k").emails.send(email()).await.unwrap();
    }
    assert_eq!(door.t.number("SELECT count(*) FROM facteur.emails").await, 4);
}

#[tokio::test]
async fn a_file_by_its_path_is_fetched() {
    let authority = TestAuthority::new().unwrap();
    let identity = authority.issue("files.test").unwrap();
    let server =
        FileServer::start("127.0.0.2", Some(&identity), |_| ok("Content-Type: application/pdf\r\n", b"%PDF"))
            .await;
    let net = Net::of(&[("files.test", &[server.at])]);
    let door = Door::fetching(net.fetcher(&authority)).await;
    let resend = resend(&door);
    let file = CreateAttachment::from_path("https://files.test/order.pdf?sig=1").with_filename("order.pdf");
    let id = resend.emails.send(email().with_attachment(file)).await.unwrap().id;
    let files = resend.emails.list_attachments(&id, ListOptions::default()).await.unwrap();
    assert_eq!((files.data[0].filename.as_deref(), files.data[0].size), (Some("order.pdf"), 4));
    let inside = CreateAttachment::from_path("https://127.0.0.1/secret");
    let (status, name, message) = refused(resend.emails.send(email().with_attachment(inside)).await);
    assert_eq!((status, name.as_str()), (422, "invalid_attachment"));
    assert!(message.starts_with("attachments[0].path "), "{message}");
}

/// 2, 11: the notations of a moment, moving and canceling without a body.
#[tokio::test]
async fn what_is_scheduled_is_moved_and_canceled() {
    let door = Door::open().await;
    let resend = resend(&door);
    let in_two_hours = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap() + time::Duration::hours(2);
    let text = in_two_hours.format(&Rfc3339).unwrap();
    let naive = text.trim_end_matches('Z');
    let two = in_two_hours.to_offset(time::UtcOffset::from_hms(2, 0, 0).unwrap()).format(&Rfc3339).unwrap();
    let mut last = String::new();
    for notation in [&text, naive, &two, &two.replace("+02:00", "+0200")] {
        last = resend.emails.send(email().with_scheduled_at(notation)).await.unwrap().id.to_string();
    }
    let exact = format!("SELECT count(*) FROM facteur.emails WHERE scheduled_at = '{text}'");
    assert_eq!(door.t.number(&exact).await, 4);
    resend.emails.send(email().with_scheduled_at("in 1 min")).await.unwrap();
    let resend = self::resend(&door);
    assert_eq!(resend.emails.get(&last).await.unwrap().last_event, EmailEvent::Scheduled);
    let later = UpdateEmailOptions::new().with_scheduled_at("tomorrow at 9am");
    assert_eq!(resend.emails.update(&last, later).await.unwrap().id.to_string(), last);
    assert_eq!(resend.emails.cancel(&last).await.unwrap().id.to_string(), last);
    assert_eq!(resend.emails.cancel(&last).await.unwrap().id.to_string(), last);
    assert_eq!(resend.emails.get(&last).await.unwrap().last_event, EmailEvent::Canceled);
}

/// 5, 9, 10, 14, 16: what is refused is an error that the client can read.
#[tokio::test]
async fn what_is_refused_has_a_status_a_name_and_a_message() {
    let door = Door::open().await;
    let to = |n: usize| (0..n).map(|i| format!("p{i}@local.test")).collect::<Vec<_>>();
    let many = |n| CreateEmailBaseOptions::new("shop@local.test", to(n), "Hello").with_text("Hello");
    resend(&door).emails.send(many(50)).await.unwrap();
    let template =
        CreateEmailBaseOptions::new("", ["ada@local.test"], "").with_template(EmailTemplate::new("welcome"));
    let nobody = CreateEmailBaseOptions::new("shop@local.test", ["nobody"], "Hello").with_text("Hello");
    let none =
        CreateEmailBaseOptions::new("shop@local.test", Vec::<String>::new(), "Hello").with_text("Hello");
    for (email, name, says) in [
        (many(51), "validation_error", "to has 51 entries"),
        (template, "validation_error", "template is not accepted"),
        (nobody, "validation_error", "to must have exactly one @"),
        (none, "missing_required_field", "Missing `to` field"),
        (email().with_header("Bcc", "e@local.test"), "validation_error", "headers[0] may not be set"),
        (email().with_scheduled_at("soon"), "validation_error", "scheduled_at must"),
    ] {
        let (status, given, message) = refused(resend(&door).emails.send(email).await);
        assert_eq!((status, given.as_str()), (422, name), "{message}");
        assert!(message.starts_with(says), "{message}");
    }
    let resend = resend(&door);
    let missing = refused(resend.emails.get("01a20465-e8e1-77c8-8dd7-5f3c3711aa36").await);
    assert_eq!((missing.0, missing.1.as_str()), (404, "not_found"));
    assert_eq!(refused(resend.emails.get("7").await).1, "invalid_parameter");
    // A route that is not there.
    assert_eq!(refused(resend.domains.list(ListOptions::default()).await).1, "not_found");
    assert_eq!(door.t.states().await, "queued 50");
}

/// 12: pages, newest first, their cursor not among them.
#[tokio::test]
async fn pages_go_both_ways() {
    let door = Door::open().await;
    let resend = resend(&door);
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(resend.emails.send(email()).await.unwrap().id.to_string());
    }
    ids.reverse();
    let names = |page: &resend_rs::list_opts::ListResponse<resend_rs::types::Email>| {
        page.data.iter().map(|email| email.id.to_string()).collect::<Vec<_>>()
    };
    let first = resend.emails.list(ListOptions::default().with_limit(2)).await.unwrap();
    assert_eq!((names(&first), first.has_more), (ids[..2].to_vec(), true));
    let next = resend.emails.list(ListOptions::default().with_limit(2).list_after(&ids[1])).await.unwrap();
    assert_eq!((names(&next), next.has_more), (ids[2..].to_vec(), false));
    let back = resend.emails.list(ListOptions::default().list_before(&ids[2])).await.unwrap();
    assert_eq!(names(&back), ids[..2]);
    let both = ListOptions::default().with_other("before", json!(ids[0])).list_after(&ids[1]);
    assert_eq!(refused(resend.emails.list(both).await).0, 422);
}

/// 17, 18, 19: batches, and calling twice.
#[tokio::test]
async fn batches_and_keys() {
    let door = Door::open().await;
    let bad = || CreateEmailBaseOptions::new("shop@local.test", ["nobody"], "Hello").with_text("Hello");
    let resend = resend(&door);
    assert_eq!(resend.batch.send(vec![email(), email()]).await.unwrap().len(), 2);
    let (status, _, message) = refused(resend.batch.send(vec![email(), bad()]).await);
    assert_eq!(status, 422);
    assert!(message.starts_with("emails[1]: to "), "{message}");
    let some = vec![bad(), email(), bad()];
    let some = resend.batch.send_with_batch_validation(some, BatchValidation::Permissive).await.unwrap();
    let errors: Vec<i32> = some.errors.iter().map(|error| error.index).collect();
    assert_eq!((some.data.len(), errors), (1, vec![0, 2]));
    assert_eq!(door.t.states().await, "queued 3");
    let once = resend.emails.send(email().with_idempotency_key("welcome/ada")).await.unwrap().id;
    let twice = resend.emails.send(email().with_idempotency_key("welcome/ada")).await.unwrap().id;
    assert_eq!(once, twice);
    let other = email().with_text("other").with_idempotency_key("welcome/ada");
    let (status, name, _) = refused(resend.emails.send(other).await);
    assert_eq!((status, name.as_str()), (409, "invalid_idempotent_request"));
    let resend = self::resend(&door);
    let batch = || vec![email(), email()].with_idempotency_key("welcome/ada");
    let first: Vec<_> = resend.batch.send(batch()).await.unwrap().into_iter().map(|sent| sent.id).collect();
    let again: Vec<_> = resend.batch.send(batch()).await.unwrap().into_iter().map(|sent| sent.id).collect();
    assert_eq!(first, again);
    let long = "k".repeat(257);
    assert_eq!(
        refused(resend.emails.send(email().with_idempotency_key(&long)).await).1,
        "invalid_idempotency_key"
    );
    assert_eq!(door.t.states().await, "queued 6");
}

/// 15, and who calls.
#[tokio::test]
async fn too_many_and_nobody() {
    let door = Door::limited(2).await;
    let token = door.token(Role::System, Some("shop"), &[]);
    let error = loop {
        if let Err(error) = client(&door, &door.base, &token).emails.send(email()).await {
            break error;
        }
    };
    let Error::RateLimit { ratelimit_limit, ratelimit_remaining, ratelimit_reset } = error else {
        panic!("{error:?}")
    };
    assert_eq!((ratelimit_limit, ratelimit_remaining, ratelimit_reset), (Some(2), Some(0), Some(1)));
    let nobody = refused(client(&door, &door.base, "re_123").emails.send(email()).await);
    assert_eq!((nobody.0, nobody.1.as_str()), (401, "missing_api_key"));
}

#[tokio::test]
async fn what_was_sent_is_sent_and_what_failed_failed() {
    let door = Door::open().await;
    let resend = resend(&door);
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let good = resend.emails.send(email()).await.unwrap().id;
    let transport = Transport::Smtp(SmtpTransport::new(&server.relay()).unwrap());
    Worker::new(door.t.outbox.clone(), transport, pace(), "test").drain().await.unwrap();
    assert_eq!(resend.emails.get(&good).await.unwrap().last_event, EmailEvent::Sent);
    let (status, name, _) = refused(resend.emails.cancel(&good).await);
    assert_eq!((status, name.as_str()), (409, "validation_error"));
    let refusing = Script::new().at(Stage::Rcpt, Fault::reply(550, "5.1.1 no such user"));
    let server = SmtpServer::start(refusing).await.unwrap();
    let bad = resend.emails.send(email()).await.unwrap().id;
    let transport = Transport::Smtp(SmtpTransport::new(&server.relay()).unwrap());
    Worker::new(door.t.outbox.clone(), transport, pace(), "test").drain().await.unwrap();
    assert_eq!(resend.emails.get(&bad).await.unwrap().last_event, EmailEvent::Failed);
}
