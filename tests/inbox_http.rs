//! The inbox's JSON and what surrounds it, over a socket.
#![cfg(feature = "local")]

mod inbox;

use std::time::{Duration, Instant};

use inbox::{Done, Running, Smtp, client, new_folder, start, start_in};
use reqwest::{Method, Response};
use serde_json::Value;

const MIXED: &str = "From: =?utf-8?q?Ren=C3=A9e?= <renee@local.test>\r\nTo: a@local.test\r\nSubject: =?utf-8?q?L=27=C3=A9t=C3=A9?=\r\nMIME-Version: 1.0\r\n\
Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\nContent-Type: multipart/related; boundary=r\r\n\r\n--r\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n\
--b\r\nContent-Type: text/plain\r\n\r\nGood day\r\n.dot\r\n--b\r\nContent-Type: text/html\r\n\r\n<!DOCTYPE html><p>Good <b>day</b><img src=\"cid:logo@x\">\r\n--b--\r\n\
--r\r\nContent-Type: image/png\r\nContent-ID: <logo@x>\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--r--\r\n\
--m\r\nContent-Type: text/html; name=\"../../e\u{301}vil.html\"\r\nContent-Disposition: attachment; filename=\"../../evil.html\"\r\n\r\n<script>alert(1)</script>\r\n--m--\r\n";

async fn ask(inbox: &Running, method: Method, path: &str, headers: &[(&str, &str)]) -> Done<Response> {
    let mut request = client()?.request(method, format!("http://{}{path}", inbox.http));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(request.send().await?)
}

async fn get(inbox: &Running, path: &str) -> Done<(u16, String)> {
    let response = ask(inbox, Method::GET, path, &[]).await?;
    Ok((response.status().as_u16(), response.text().await?))
}

async fn json(inbox: &Running, path: &str) -> Done<Value> {
    let (status, body) = get(inbox, path).await?;
    assert_eq!(status, 200, "{path}: {body}");
    Ok(serde_json::from_str(&body)?)
}

fn subjects(list: &Value) -> Vec<&str> {
    list.as_array()
        .map(|mails| mails.iter().filter_map(|mail| mail["subject"].as_str()).collect())
        .unwrap_or_default()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn plain(subject: &str, body: &str) -> String {
    format!("From: sender@local.test\r\nSubject: {subject}\r\n\r\n{body}")
}

#[tokio::test]
async fn a_mail_is_listed_opened_and_given_back_byte_for_byte() -> Done {
    let inbox = start().await?;
    inbox.deliver(&["a@local.test", "hidden@local.test"], MIXED).await?;
    let list = json(&inbox, "/api/messages").await?;
    let mail = &list[0];
    assert_eq!(mail["from"], "Renée <renee@local.test>");
    assert_eq!(mail["to"], serde_json::json!(["a@local.test", "hidden@local.test"]));
    assert_eq!(mail["subject"], "L'été");
    assert_eq!(mail["unread"], true);
    assert_eq!(mail["attachment_count"], 2);
    let received = time::OffsetDateTime::parse(
        mail["received_at"].as_str().unwrap_or_default(),
        &time::format_description::well_known::Rfc3339,
    )?;
    assert!((time::OffsetDateTime::now_utc() - received).abs() < time::Duration::minutes(1));

    let id = mail["id"].as_str().unwrap_or_default();
    let detail = json(&inbox, &format!("/api/messages/{id}")).await?;
    assert_eq!(detail["text"].as_str().map(str::trim_end), Some("Good day\r\n.dot"));
    assert!(detail["html"].as_str().is_some_and(|html| html.contains("<b>day</b>")));
    assert_eq!(detail["headers"][1], serde_json::json!({"name": "To", "value": "a@local.test"}));
    assert_eq!(detail["envelope_from"], "sender@local.test");
    assert_eq!(detail["attachments"][1]["name"], "evil.html");

    let raw = ask(&inbox, Method::GET, &format!("/api/messages/{id}/raw"), &[]).await?;
    assert_eq!(header(&raw, "content-type"), "message/rfc822");
    assert_eq!(raw.text().await?, format!("{MIXED}\r\n"));
    assert_eq!(mail["size"], MIXED.len() + 2);
    Ok(())
}

#[tokio::test]
async fn what_a_sender_wrote_is_served_under_lock() -> Done {
    let inbox = start().await?;
    inbox.deliver(&["a@local.test"], MIXED).await?;
    let detail = json(&inbox, "/api/messages/wait").await?;
    let id = detail["id"].as_str().unwrap_or_default();
    let html = ask(&inbox, Method::GET, &format!("/messages/{id}/html"), &[]).await?;
    let policy = header(&html, "content-security-policy").to_owned();
    assert!(
        policy.starts_with("default-src 'none'; img-src data: cid:; style-src 'unsafe-inline'; sandbox"),
        "{policy}"
    );
    assert!(!policy.contains("allow-scripts") && !policy.contains("allow-same-origin"), "{policy}");
    assert_eq!(
        (header(&html, "x-content-type-options"), header(&html, "referrer-policy")),
        ("nosniff", "no-referrer")
    );
    let html = html.text().await?;
    assert!(html.starts_with("<!DOCTYPE html>"), "{html}");
    assert!(html.contains("<img src=\"data:image/png;base64,aGVsbG8=\">"), "{html}");

    let url = detail["attachments"][1]["url"].as_str().unwrap_or_default();
    let file = client()?.get(url).send().await?;
    assert_eq!(
        header(&file, "content-disposition"),
        "attachment; filename=\"evil.html\"; filename*=UTF-8''evil.html"
    );
    assert_eq!(
        (header(&file, "content-type"), header(&file, "x-content-type-options")),
        ("application/octet-stream", "nosniff")
    );
    assert!(file.text().await?.contains("<script>"));

    let page = ask(&inbox, Method::GET, &format!("/messages/{id}"), &[]).await?;
    let policy = header(&page, "content-security-policy").to_owned();
    assert!(
        policy.contains("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(page.text().await?.contains("sandbox=\"allow-popups allow-popups-to-escape-sandbox\""));
    Ok(())
}

#[tokio::test]
async fn the_list_is_newest_first_and_searched_in_every_field() -> Done {
    let inbox = start().await?;
    inbox.deliver(&["one@local.test"], &plain("First", "apples and pears")).await?;
    inbox.deliver(&["two@local.test"], &plain("Second", "nothing")).await?;
    inbox.deliver(&["two@local.test"], &plain("<b>Third</b>", "APPLES")).await?;
    for (query, expected) in [
        ("", &["<b>Third</b>", "Second", "First"][..]),
        ("?q=apples", &["<b>Third</b>", "First"]),
        ("?q=TWO%40local", &["<b>Third</b>", "Second"]),
        ("?q=second", &["Second"]),
        ("?q=pears%20first", &["First"]),
        ("?q=sender", &["<b>Third</b>", "Second", "First"]),
        ("?q=absent", &[]),
    ] {
        assert_eq!(subjects(&json(&inbox, &format!("/api/messages{query}")).await?), expected, "{query}");
    }
    let (_, page) = get(&inbox, "/?q=third").await?;
    assert!(page.contains("&#60;b&#62;Third&#60;/b&#62;") && !page.contains("First"), "{page}");
    Ok(())
}

#[tokio::test]
async fn wait_takes_a_mail_that_is_there_or_still_to_come() -> Done {
    let inbox = start().await?;
    let waiting =
        async { json(&inbox, "/api/messages/wait?to=B%40Local.test&subject=hello&timeout=60s").await };
    let sending = async {
        inbox.deliver(&["b@local.test"], &plain("Other", "x")).await?;
        inbox.deliver(&["c@local.test"], &plain("Hello", "x")).await?;
        inbox.deliver(&["a@local.test", "b@local.test"], &plain("Say HELLO", "x")).await
    };
    let (found, sent) = tokio::join!(waiting, sending);
    sent?;
    assert_eq!(found?["subject"], "Say HELLO");
    assert_eq!(json(&inbox, "/api/messages/wait?to=c%40local.test&timeout=0s").await?["subject"], "Hello");
    assert_eq!(json(&inbox, "/api/messages/wait").await?["unread"], true);
    let (status, body) = get(&inbox, "/api/messages/wait?to=local.test&timeout=1ms").await?;
    assert_eq!(
        (status, serde_json::from_str::<Value>(&body)?["name"].as_str()),
        (408, Some("request_timeout"))
    );
    for (query, field) in [
        ("timeout=61s", "timeout"),
        ("timeout=soon", "timeout"),
        ("to=", "to"),
        ("subject=", "subject"),
        ("too=x", "too"),
        ("to=a&to=b", "to"),
    ] {
        let (status, body) = get(&inbox, &format!("/api/messages/wait?{query}")).await?;
        let error: Value = serde_json::from_str(&body)?;
        assert_eq!((status, error["statusCode"].as_u64()), (422, Some(422)), "{query}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(field)), "{body}");
    }
    Ok(())
}

#[tokio::test]
async fn no_mail_is_missed_between_looking_and_waiting() -> Done {
    let inbox = start().await?;
    for round in 0..100 {
        let to = format!("r{round}@local.test");
        let path = format!("/api/messages/wait?to={to}&timeout=20s");
        let mail = plain("Race", "x");
        let recipients = [to.as_str()];
        let (found, sent) = tokio::join!(json(&inbox, &path), inbox.deliver(&recipients, &mail));
        sent?;
        assert_eq!(found?["to"][0], to);
    }
    Ok(())
}

#[tokio::test]
async fn errors_are_json_under_api_and_a_page_elsewhere() -> Done {
    let inbox = start().await?;
    for (method, path, status) in [
        (Method::GET, "/api/nothing", 404),
        (Method::GET, "/api/messages/not-an-id", 404),
        (Method::GET, "/api/messages/01890000-0000-7000-8000-000000000000/raw", 404),
        (Method::POST, "/api/messages", 405),
        (Method::GET, "/api/messages?x=1", 422),
        (Method::GET, "/nothing", 404),
        (Method::GET, "/messages/x/attachments/0", 404),
        (Method::DELETE, "/", 405),
    ] {
        let response = ask(&inbox, method, path, &[]).await?;
        assert_eq!(response.status(), status, "{path}");
        if status == 405 {
            assert!(header(&response, "allow").contains("GET"), "{path}");
        }
        let kind = if path.starts_with("/api") { "application/json" } else { "text/html; charset=utf-8" };
        assert_eq!(header(&response, "content-type"), kind, "{path}");
        let body = response.text().await?;
        if let Ok(error) = serde_json::from_str::<Value>(&body) {
            assert_eq!(error["statusCode"], status);
            assert!(error["name"].is_string() && error["message"].is_string(), "{body}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn other_names_and_other_sites_are_refused() -> Done {
    let inbox = start().await?;
    inbox.deliver(&["a@local.test"], &plain("Stays", "x")).await?;
    let own = format!("http://{}", inbox.http);
    for host in ["evil.test", "localhost.evil.test", "0.0.0.0"] {
        assert_eq!(
            ask(&inbox, Method::GET, "/api/messages", &[("host", host)]).await?.status(),
            421,
            "{host}"
        );
    }
    for (method, path) in [
        (Method::DELETE, "/api/messages"),
        (Method::POST, "/clear"),
        (Method::GET, "/api/events"),
        (Method::GET, "/api/messages/wait"),
    ] {
        for headers in [
            ("origin", "http://localhost:3000"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(
                ask(&inbox, method.clone(), path, &[headers]).await?.status(),
                403,
                "{path} {headers:?}"
            );
        }
    }
    assert_eq!(json(&inbox, "/api/messages").await?.as_array().map(Vec::len), Some(1));
    let cleared =
        ask(&inbox, Method::POST, "/clear", &[("origin", &own), ("sec-fetch-site", "same-origin")]).await?;
    assert_eq!((cleared.status().as_u16(), header(&cleared, "location")), (303, "/"));
    assert_eq!(ask(&inbox, Method::GET, "/", &[("host", "mail.localhost:1080")]).await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn clearing_by_a_program_empties_list_and_folder() -> Done {
    let inbox = start().await?;
    inbox.deliver(&["a@local.test"], &plain("Goes", "x")).await?;
    assert_eq!(ask(&inbox, Method::DELETE, "/api/messages", &[]).await?.status(), 204);
    assert_eq!(json(&inbox, "/api/messages").await?, serde_json::json!([]));
    assert_eq!(std::fs::read_dir(&inbox.folder)?.count(), 0);
    Ok(())
}

#[tokio::test]
async fn mails_and_unread_marks_outlive_a_restart() -> Done {
    let folder = new_folder();
    let inbox = start_in(&folder).await?;
    for subject in ["Damaged", "Read", "Unread"] {
        inbox.deliver(&["a@local.test"], &plain(subject, "x")).await?;
    }
    let list = json(&inbox, "/api/messages").await?;
    let id = |place: usize| list[place]["id"].as_str().unwrap_or_default();
    assert_eq!(get(&inbox, &format!("/messages/{}", id(1))).await?.0, 200);
    std::fs::write(folder.join(format!("{}.json", id(2))), "{")?;
    std::fs::write(folder.join("notes.txt"), "not ours")?;
    inbox.stop.cancel();
    let again = start_in(&folder).await?;
    let list = json(&again, "/api/messages").await?;
    assert_eq!(subjects(&list), ["Unread", "Read"]);
    assert_eq!((&list[0]["unread"], &list[1]["unread"]), (&Value::Bool(true), &Value::Bool(false)));
    assert_eq!(list[0]["to"][0], "a@local.test");
    ask(&again, Method::DELETE, "/api/messages", &[]).await?;
    assert_eq!(std::fs::read_dir(&folder)?.count(), 1, "what is not ours stays");
    Ok(())
}

#[tokio::test]
async fn the_last_five_hundred_are_kept() -> Done {
    let inbox = start().await?;
    let mut smtp = Smtp::greeted(inbox.smtp).await?;
    for number in 0..503 {
        for (line, code) in [("MAIL FROM:<a@b.test>", "250"), ("RCPT TO:<c@d.test>", "250"), ("DATA", "354")]
        {
            assert_eq!(smtp.say(line).await?, code);
        }
        assert_eq!(smtp.say(&format!("Subject: {number}\r\n\r\nx\r\n.")).await?, "250");
    }
    let list = json(&inbox, "/api/messages").await?;
    let subjects = subjects(&list);
    assert_eq!((subjects.len(), subjects[0], subjects[499]), (500, "502", "3"));
    assert_eq!(std::fs::read_dir(&inbox.folder)?.count(), 1000);
    Ok(())
}

#[tokio::test]
async fn what_is_no_mail_is_listed_and_its_source_shown() -> Done {
    let inbox = start().await?;
    let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(5000);
    for mail in [
        "",
        "no header",
        "\0\u{1}: \u{fffd}",
        "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n--x--",
        nested.as_str(),
    ] {
        inbox.deliver(&["a@local.test"], mail).await?;
        let id = json(&inbox, "/api/messages").await?[0]["id"].as_str().unwrap_or_default().to_owned();
        for tab in [
            "",
            "?tab=html",
            "?tab=text",
            "?tab=source",
            "?tab=headers",
            "?tab=attachments",
            "?tab=nonsense&tab=x",
        ] {
            assert_eq!(get(&inbox, &format!("/messages/{id}{tab}")).await?.0, 200, "{tab}");
        }
        assert_eq!(get(&inbox, &format!("/api/messages/{id}/raw")).await?.1, format!("{mail}\r\n"));
    }
    assert_eq!(get(&inbox, "/").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_stop_ends_open_streams_waits_and_connections_within_a_second() -> Done {
    let mut inbox = start().await?;
    let mut events = ask(&inbox, Method::GET, "/api/events", &[]).await?;
    assert_eq!(header(&events, "content-type"), "text/event-stream");
    assert!(events.chunk().await?.is_some_and(|first| first.starts_with(b"data:")));
    let mut idle = Smtp::greeted(inbox.smtp).await?;
    let mut within = Smtp::greeted(inbox.smtp).await?;
    assert_eq!(within.say("MAIL FROM:<>").await?, "250");
    assert_eq!(within.say("RCPT TO:<a@b.test>").await?, "250");
    assert_eq!(within.say("DATA").await?, "354");
    let waiting = ask(&inbox, Method::GET, "/api/messages/wait?timeout=60s", &[]);
    let stop = inbox.stop.clone();
    let stopping = async {
        // The wait is registered once the server has taken its connection; a later one is refused either way.
        let _ = get(&inbox, "/api/messages").await;
        stop.cancel();
        Instant::now()
    };
    let (waited, stopped) = tokio::join!(waiting, stopping);
    if let Ok(response) = waited {
        assert_eq!(response.status(), 503);
    }
    tokio::time::timeout(Duration::from_secs(1).saturating_sub(stopped.elapsed()), &mut inbox.task)
        .await???;
    assert_eq!(idle.reply().await?, "421");
    assert_eq!(within.reply().await?, "421");
    assert_eq!(events.chunk().await?, None);
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() -> Done {
    use facteur::inbox::{Door, Inbox, InboxError, InboxSettings};
    let inbox = start().await?;
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    for (http, smtp, expected) in [(inbox.http, any, Door::Page), (any, inbox.smtp, Door::Smtp)] {
        let error = Inbox::bind(InboxSettings {
            http,
            smtp,
            folder: new_folder(),
            api: "http://localhost:8000".into(),
        })
        .await
        .err();
        let Some(InboxError::PortTaken { door, address, .. }) = &error else {
            return Err(format!("{error:?}").into());
        };
        assert_eq!(*door, expected);
        assert!(error.as_ref().is_some_and(|error| error.to_string().contains(&address.to_string())
            && error.to_string().contains(door.variable())));
    }
    Ok(())
}
