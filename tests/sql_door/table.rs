//! The inputs of the security policy, good and bad, and those at the limits, through all doors.
//!
//! Of the policy's classes these are for a door that takes an e-mail: addresses, headers, bodies, attachments, times. What is
//! about JSON over HTTP, tokens, start-up, pages and hostile SMTP servers has no counterpart here.

use facteur::email::{OnUnknown, Priority};
use time::{Duration, OffsetDateTime};

use crate::both::Both;
use crate::http::{Doors, Seen, seen};
use crate::mail::{File, Mail, file, good};

fn to(address: impl Into<String>) -> Mail {
    Mail { to: vec![address.into()], ..good() }
}

fn subject(subject: impl Into<String>) -> Mail {
    Mail { subject: subject.into(), ..good() }
}

fn header(name: &str, value: &str) -> Mail {
    Mail { headers: vec![(name.into(), value.into())], ..good() }
}

fn text(text: impl Into<String>) -> Mail {
    Mail { text: Some(text.into()), ..good() }
}

fn attached(file: File) -> Mail {
    Mail { files: vec![file], ..good() }
}

/// An address whose domain has so many octets: 202 and up to 63 more.
fn long(octets: usize) -> String {
    let start = "b".repeat(octets - 197);
    format!("a@{start}.{}.test", vec!["c".repeat(63); 3].join("."))
}

fn many(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("c{i}@x.test")).collect()
}

/// The field that each is refused for.
pub(crate) fn bad() -> Vec<(&'static str, Mail)> {
    let second = |address: &str| Mail { to: vec!["a@x.test".into(), address.into()], ..good() };
    let (now, hour) = (OffsetDateTime::now_utc(), Duration::HOUR);
    let mut cases = vec![
        ("to", to("")),
        ("to", to("nobody")),
        ("to", to("@x.test")),
        ("to", to("a@@x.test")),
        ("to", to("a@x.test\r\nRCPT TO:<evil@x>")),
        ("to", to("a@x.test\nDATA")),
        ("to", to("a@x.test\0")),
        ("to", to("\"a b\"@x.test")),
        ("to", to("a@[127.0.0.1]")),
        ("to", to("a@[IPv6:::1]")),
        ("to", to("a@127.0.0.1")),
        ("to", to("=?utf-8?q?a=40evil.test=3e?=@x.test")),
        ("to", to("a@x.test,b@x.test")),
        ("to", to("a@x.test, b@x.test")),
        ("to", to(format!("{}@x.test", "a".repeat(65)))),
        ("to", to(format!("a@{}.test", "b".repeat(64)))),
        ("to", to(format!("a@{}.test", vec!["b".repeat(60); 5].join(".")))),
        ("to", to(format!("{}@{}.test", "a".repeat(60), vec!["b".repeat(60); 3].join(".") + "."))),
        ("to", to(format!("{}@{}.test", "a".repeat(64), vec!["b".repeat(46); 4].join(".")))),
        ("to", to("a@-x.test")),
        ("to", to("a@x-.test")),
        ("to", to("a@ab--c.test")),
        ("to", to("a@x..test")),
        ("to", to("a@.x.test")),
        ("to", to("a@x.test.")),
        ("to", to("a@x_y.test")),
        ("to", to("a@test")),
        ("to", to("a@xn--a.test")),
        ("to", to("a%b@x.test")),
        ("to", to("a!b@x.test")),
        ("to", to(".a@x.test")),
        ("to", to("a.@x.test")),
        ("to", to("a..b@x.test")),
        ("to", to("é@x.test")),
        ("to", to(" a@x.test")),
        ("to", to("a@x.test ")),
        ("to", to("a\u{202e}@x.test")),
        ("to", to("Ada <ada@x.test")),
        ("to", to("Ada <ada@x.test> ")),
        ("to", to("Ada <<ada@x.test>>")),
        ("to", to("<>")),
        ("to", to("\"Ada <ada@x.test>")),
        ("to", to("\"Ada\" L <ada@x.test>")),
        ("to", to("\" <ada@x.test>")),
        ("to", to("\"Ada\\\" <ada@x.test>")),
        ("to", to("A\r\nBcc: e@x <ada@x.test>")),
        ("to", to("A\u{85}B <ada@x.test>")),
        ("to", to("A\u{2028}B <ada@x.test>")),
        ("to", to("A\u{202e}B <ada@x.test>")),
        ("to", to("A\u{2067}B <ada@x.test>")),
        ("to", to("\"A\\\nB\" <ada@x.test>")),
        ("to", to(format!("{} <ada@x.test>", "é".repeat(201)))),
        ("to[1]", second("no")),
        ("cc", Mail { cc: vec!["no".into()], ..good() }),
        ("cc[1]", Mail { cc: vec!["a@x.test".into(), "no".into()], ..good() }),
        ("bcc", Mail { bcc: vec!["no".into()], ..good() }),
        ("reply_to", Mail { reply_to: vec!["no".into()], ..good() }),
        ("from", Mail { from: String::new(), ..good() }),
        ("from", Mail { from: "no".into(), ..good() }),
        ("from", Mail { from: "A\tB <a@x.test>".into(), ..good() }),
        ("from", Mail { from: long(214), ..good() }),
        ("from", Mail { from: format!("Shop <{}>", long(250)), ..good() }),
        ("to", Mail { to: many(51), ..good() }),
        ("cc", Mail { cc: many(51), ..good() }),
        ("bcc", Mail { bcc: many(51), ..good() }),
        ("reply_to", Mail { reply_to: many(51), ..good() }),
        ("subject", subject("hi\r\nBcc: e@x")),
        ("subject", subject("hi\0")),
        ("subject", subject("x".repeat(999))),
        ("subject", subject("é".repeat(999))),
        ("headers[0]", header("Bcc", "e@x.test")),
        ("headers[0]", header("X-A: b\r\nY", "v")),
        ("headers[0]", header("", "v")),
        ("headers[0]", header("X A", "v")),
        ("headers[0]", header("É", "v")),
        ("headers[0]", header(&"X".repeat(77), "v")),
        ("headers[0]", header("X-A", "b\r\nBcc: e@x")),
        ("headers[0]", header("X-A", "b\u{9b}31m")),
        ("headers[0]", header("X-A", &"é".repeat(4_001))),
        (
            "headers[1]",
            Mail { headers: vec![("X-A".into(), "v".into()), ("To".into(), "e@x.test".into())], ..good() },
        ),
        ("headers", Mail { headers: (0..51).map(|i| (format!("X-{i}"), "v".into())).collect(), ..good() }),
        (
            "headers",
            Mail { headers: (0..5).map(|i| (format!("X-{i}"), "é".repeat(2_000))).collect(), ..good() },
        ),
        ("text", text("a\0b")),
        ("html", Mail { html: Some("a\0b".into()), ..good() }),
        ("text", Mail { text: None, ..good() }),
        ("the e-mail", text("x".repeat(25 * 1024 * 1024 + 1))),
        ("the e-mail", Mail { html: Some("é".repeat(25 * 512 * 1024)), ..good() }),
        ("attachments[0]", attached(file("", "text/plain", None))),
        ("attachments[0]", attached(file("dir/", "text/plain", None))),
        ("attachments[0]", attached(file("..", "text/plain", None))),
        ("attachments[0]", attached(file("a\\.", "text/plain", None))),
        ("attachments[0]", attached(file("a\r\nb", "text/plain", None))),
        ("attachments[0]", attached(file("gpj.\u{202e}exe", "text/plain", None))),
        ("attachments[0]", attached(file(&"é".repeat(256), "text/plain", None))),
        ("attachments[0]", attached(file("a", "nonsense", None))),
        ("attachments[0]", attached(file("a", "", None))),
        ("attachments[0]", attached(file("a", "/plain", None))),
        ("attachments[0]", attached(file("a", "text/", None))),
        ("attachments[0]", attached(file("a", "text/plain\r\nBcc: e@x", None))),
        ("attachments[0]", attached(file("a", "text/plain; x=\"a\nb\"", None))),
        ("attachments[0]", attached(file("a", "text/plain; x=\"\u{85}\"", None))),
        ("attachments[0]", attached(file("a", "text/plain; x", None))),
        ("attachments[0]", attached(file("a", "text/plain; x=\"y", None))),
        ("attachments[0]", attached(file("a", "text/plain;;x=y", None))),
        ("attachments[0]", attached(file("a", &format!("text/{}", "p".repeat(251)), None))),
        ("attachments[0]", attached(file("a", "image/png", Some("a>b")))),
        ("attachments[0]", attached(file("a", "image/png", Some("")))),
        ("attachments[0]", attached(file("a", "image/png", Some(&"a".repeat(128))))),
        (
            "attachments[1]",
            Mail { files: vec![file("a", "text/plain", None), file("..", "text/plain", None)], ..good() },
        ),
        ("idempotency_key", Mail { key: Some(String::new()), ..good() }),
        ("idempotency_key", Mail { key: Some("é".into()), ..good() }),
        ("idempotency_key", Mail { key: Some("a\tb".into()), ..good() }),
        ("idempotency_key", Mail { key: Some("k".repeat(256)), ..good() }),
        ("supersedes", Mail { supersedes: Some(String::new()), ..good() }),
        ("supersedes", Mail { supersedes: Some("é".repeat(129)), ..good() }),
        ("supersedes", Mail { supersedes: Some("a\nb".into()), ..good() }),
        ("supersedes", Mail { supersedes: Some("a\u{9b}".into()), ..good() }),
        ("expires_at", Mail { scheduled_at: Some(now + hour), expires_at: Some(now), ..good() }),
        ("expires_at", Mail { scheduled_at: Some(now), expires_at: Some(now), ..good() }),
        // Of several, the one that the library checks first.
        (
            "subject",
            Mail {
                subject: "\n".into(),
                from: "no".into(),
                headers: vec![("Bcc".into(), String::new())],
                ..to("no")
            },
        ),
        (
            "headers[0]",
            Mail {
                headers: vec![("Bcc".into(), String::new())],
                key: Some(String::new()),
                from: "no".into(),
                ..to("no")
            },
        ),
        (
            "idempotency_key",
            Mail { key: Some(String::new()), supersedes: Some(String::new()), from: "no".into(), ..to("no") },
        ),
        ("supersedes", Mail { supersedes: Some(String::new()), from: "no".into(), ..to("no") }),
        ("from", Mail { from: "no".into(), ..to("no") }),
        ("to", Mail { cc: vec!["no".into()], files: vec![file("..", "", None)], ..to("no") }),
        ("reply_to", Mail { reply_to: vec!["no".into()], files: vec![file("..", "", None)], ..good() }),
    ];
    for name in [
        "From",
        "To",
        "CC",
        "Bcc",
        "Sender",
        "Date",
        "Subject",
        "Message-ID",
        "MIME-Version",
        "Reply-To",
        "DKIM-Signature",
        "Received",
        "Return-Path",
        "Content-Type",
        "CONTENT-transfer-encoding",
        "content-",
    ] {
        cases.push(("headers[0]", header(name, "x")));
    }
    cases
}

pub(crate) fn accepted() -> Vec<Mail> {
    let (now, hour) = (OffsetDateTime::now_utc().replace_nanosecond(0).unwrap(), Duration::HOUR);
    let with = |address: &str| Mail { cc: vec![address.into()], ..good() };
    let mut cases = vec![
        to("a@ü.test"),
        to("Ä. <a@xn--tda.test>"),
        to("a+b.c@sub.x.test"),
        to("Ada@EXAMPLE.com"),
        to("o'neil/sales=x@x.test"),
        to("#$&'*+-/?=^_`{|}~@x.test"),
        to("dev@localhost"),
        to("<ada@x.test>"),
        to("  Ada L.   <ada@x.test>"),
        to("\"Lovelace, \\\"Ada\\\" \\\\\" <ada@x.test>"),
        to("\"\" <ada@x.test>"),
        to("=?utf-8?q?a?= <ada@x.test>"),
        to("日本 🎉 <ada@x.test>"),
        to(format!("{} <ada@x.test>", "é".repeat(200))),
        to(format!("{}@x.test", "a".repeat(64))),
        to(format!("a@{}.test", "b".repeat(63))),
        to(format!("{}@{}.test", "a".repeat(64), vec!["b".repeat(45); 4].join("."))),
        to("a@1.x1"),
        to(long(252)),
        Mail { from: long(213), ..good() },
        Mail { from: format!("Shop <{}>", long(213)), reply_to: vec![long(214)], ..good() },
        Mail { to: vec!["a@x.test".into(); 50], ..good() },
        Mail { to: vec!["a@x.test".into(), "A@x.test".into(), "a@X.test".into()], ..with("b@x.test") },
        Mail {
            to: many(50),
            cc: many(50),
            bcc: vec!["z@x.test".into(), "c1@x.test".into()],
            reply_to: many(50),
            ..good()
        },
        Mail { bcc: vec!["b@x.test".into(), "c@x.test".into()], ..with("d@x.test") },
        subject(""),
        subject("x".repeat(998)),
        subject("mot ".repeat(249)),
        subject("é".repeat(998)),
        subject("=?utf-8?q?a?= 🎉 שלום"),
        header("X-Campaign", "été"),
        header("List-Unsubscribe", "<https://x.test/u?t=1>"),
        header("x_under-score", ""),
        header(&"X".repeat(76), &"v".repeat(4_000)),
        header("Contents", "v"),
        Mail {
            headers: vec![("X-A".into(), "1".into()), ("X-B".into(), "2".into()), ("X-A".into(), "3".into())],
            ..good()
        },
        Mail { headers: (0..50).map(|i| (format!("X-{i}"), "v".into())).collect(), ..good() },
        text(""),
        text("\n.\n"),
        text("\r\n.\r\nMAIL FROM:<e@x.test>\r\nRCPT TO:<e@x.test>\r\nDATA\r\n"),
        text("\r.\r"),
        text("."),
        text("a\rb\nc\r\nd\u{85}e\u{2028}f\u{202e}g\t\u{1b}[31m"),
        text("x".repeat(5_000)),
        text("é".repeat(3_000)),
        Mail { html: Some("<p>été</p><script>alert(1)</script>".into()), ..good() },
        Mail { text: None, html: Some("<p>alone</p>".into()), ..good() },
        Mail { text: Some(String::new()), html: Some(String::new()), ..good() },
        attached(file("../../etc/passwd", "text/plain", None)),
        attached(file("C:\\temp\\facture été.pdf", "application/pdf", None)),
        attached(file(&"é".repeat(255), "text/plain; charset=utf-8", None)),
        attached(file("...", "*/*", None)),
        attached(file("a", "text/*", None)),
        attached(file("a", "Text/X+y; a=b;  c=\"d e\" ; f=", None)),
        attached(file("logo.png", "image/png", Some("logo@x.1_-"))),
        attached(file("logo.png", "image/png", Some(&"a".repeat(127)))),
        Mail {
            html: Some("<img src=cid:logo>".into()),
            files: vec![
                file("a.pdf", "application/pdf", None),
                file("b.png", "image/png", Some("logo")),
                File { content: vec![], ..file("c", "a/b", None) },
            ],
            ..good()
        },
        Mail { scheduled_at: Some(now + hour), ..good() },
        Mail {
            scheduled_at: Some(now + hour + Duration::microseconds(123_456)),
            expires_at: Some(now + hour * 2),
            ..good()
        },
        // In the past is at once; the HTTP door, where it is more likely a slip, says no.
        Mail { scheduled_at: Some(OffsetDateTime::UNIX_EPOCH - hour), ..good() },
        Mail { expires_at: Some(now + hour), ..good() },
        Mail { key: Some("k".repeat(255)), ..good() },
        Mail { key: Some(" !~".into()), ..good() },
        Mail { supersedes: Some("é".repeat(128)), ..good() },
        Mail { supersedes: Some("login:\u{2028}ada".into()), ..good() },
        Mail { sensitive: true, on_unknown: OnUnknown::Hold, ..good() },
    ];
    for priority in [Priority::Urgent, Priority::High, Priority::Normal, Priority::Low] {
        cases.push(Mail { priority, ..good() });
    }
    cases
}

#[tokio::test]
async fn what_is_bad_is_refused_by_all_doors_for_the_same_field_in_the_same_words() {
    let t = Doors::open().await;
    for (field, mail) in bad() {
        match t.by_all(&mail).await {
            Both::Refused(said) => assert!(said.starts_with(&format!("{field} ")), "{field}: {said}"),
            other => panic!("{field} of {mail:?}: {other:?}"),
        }
    }
    let by_http_alone = taken_by_http_alone();
    assert_eq!(t.number("SELECT count(*) FROM facteur.emails").await, 2 * by_http_alone as i64);
}

/// With the library, which is given what HTTP makes of them.
fn taken_by_http_alone() -> usize {
    let taken = |mail: &Mail| matches!(seen(mail), Seen::As(seen) if seen.builder().build().is_ok());
    bad().iter().filter(|(_, mail)| taken(mail)).count()
}

#[tokio::test]
async fn what_is_good_is_taken_by_all_doors_as_the_same_rows_and_the_same_bytes() {
    let t = Doors::open().await;
    for mail in accepted() {
        let both = t.by_all(&mail).await;
        assert!(matches!(both, Both::Took(..)), "{mail:?}: {both:?}");
    }
}

/// Where HTTP has rules of its own, counted, so that none is added unseen.
#[test]
fn what_http_alone_refuses_or_takes_is_little() {
    let alone = |mails: Vec<Mail>| {
        let refused = mails.iter().filter_map(|mail| match seen(mail) {
            Seen::RefusedFor(says) => Some(says),
            Seen::As(_) => None,
        });
        let mut refused: Vec<&str> = refused.collect();
        refused.sort_unstable();
        refused
    };
    assert_eq!(
        alone(accepted()),
        [
            "Missing `html` field",
            "Missing `html` field",
            "headers must be an object",
            "scheduled_at must not be in the past",
        ]
    );
    let words = alone(bad().into_iter().map(|(_, mail)| mail).collect());
    assert_eq!(words.len(), 9, "{words:?}");
    // An empty type is guessed, an empty content id is none, a key may have one character more.
    assert_eq!(taken_by_http_alone(), 3);
}

#[tokio::test]
async fn domains_that_need_the_tables_of_idna_are_left_to_the_other_doors() {
    let t = Doors::open().await;
    for mail in [
        to("a@Ü.test"),
        to("a@שלום.test"),
        to("a@💩.test"),
        Mail { from: "a@xn--9dbaq6d1a.test".into(), ..good() },
    ] {
        assert!(matches!(t.by_all(&mail).await, Both::LeftToOthers), "{mail:?}");
    }
}
