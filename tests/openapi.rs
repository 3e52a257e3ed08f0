//! The OpenAPI document against the routes, the parsers and the answers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "a part of the door is enough here")]
#[path = "http/door.rs"]
mod door;
mod support;

use std::collections::BTreeSet;

use door::{Door, answer, email};
use reqwest::Method;
use serde_json::{Value, json};

async fn document(door: &Door) -> Value {
    let answer = door.get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.body
}

/// A part of the document as a schema of its own.
fn schema(document: &Value, part: &Value) -> jsonschema::Validator {
    let mut whole = part.clone();
    whole["components"] = document["components"].clone();
    jsonschema::options().should_validate_formats(true).build(&whole).unwrap()
}

fn assert_valid(document: &Value, part: &Value, value: &Value, what: &str) {
    let errors: Vec<String> = schema(document, part).iter_errors(value).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{what}: {errors:?}: {value}");
}

/// Each route of the document: path, method, operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(|(method, operation)| (path.clone(), method.to_uppercase(), operation.clone()))
    });
    all.collect()
}

#[tokio::test]
async fn every_route_is_described_and_the_reverse_method_by_method() {
    let door = Door::open().await;
    let document = document(&door).await;
    let router = include_str!("../src/http/mod.rs");
    let routed: BTreeSet<&str> =
        router.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let described: BTreeSet<&str> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(described, routed);
    for (path, item) in document["paths"].as_object().unwrap() {
        let address = path.replace("{id}", "x").replace("{attachment}", "0");
        let refused = answer(door.request(Method::TRACE, &address)).await;
        assert_eq!(refused.status, 405, "{path}");
        let allowed = refused.header("allow").unwrap().split(',').map(str::trim).filter(|m| *m != "HEAD");
        let described = item.as_object().unwrap().keys().map(|method| method.to_uppercase());
        let described: BTreeSet<String> = described.collect();
        assert_eq!(allowed.map(str::to_owned).collect::<BTreeSet<_>>(), described, "{path}");
    }
}

/// Posts what the document shows, and holds the answers to it.
#[tokio::test]
async fn every_example_is_taken_and_answered_as_it_is_described() {
    let door = Door::open().await;
    let document = document(&door).await;
    let example = |path: &str, method: &str| {
        document["paths"][path][method]["requestBody"]["content"]["application/json"]["example"].clone()
    };
    let id = door.accepted(&example("/emails", "post")).await;
    // In an order in which each has something to do.
    let in_order = [
        "send_email",
        "send_batch",
        "list_emails",
        "get_email",
        "reschedule_email",
        "list_attachments",
        "get_attachment",
        "download_attachment",
        "cancel_email",
        "retry_email",
        "give_up_email",
        "send_test_email",
        "healthz",
        "readyz",
        "metrics",
        "openapi",
        "docs",
    ];
    let operations = operations(&document);
    assert_eq!(in_order.len(), operations.len());
    for name in in_order {
        let found = operations.iter().find(|(_, _, operation)| operation["operationId"] == name);
        let (path, method, operation) = found.unwrap();
        if name == "give_up_email" {
            door.t.execute("UPDATE facteur.deliveries SET hold_unknown = true, state = 'unknown'").await;
        }
        let query = if name == "send_test_email" { "?to=test@local.test" } else { "" };
        let address = path.replace("{id}", &id).replace("{attachment}", "0");
        let mut request = door.request(method.parse().unwrap(), &format!("{address}{query}"));
        let body = example(path, &method.to_lowercase());
        if !body.is_null() {
            let part = &operation["requestBody"]["content"]["application/json"]["schema"];
            assert_valid(&document, part, &body, name);
            request = request.json(&body);
        }
        let given = answer(request).await;
        let (status, response) = operation["responses"].as_object().unwrap().iter().next().unwrap();
        assert_eq!(given.status.to_string(), *status, "{name}: {}", given.body);
        let (media, content) = response["content"].as_object().unwrap().iter().next().unwrap();
        assert!(
            given.header("content-type").unwrap().starts_with(media),
            "{name}: {:?}",
            given.header("content-type")
        );
        if media == "application/json" {
            assert_valid(&document, &content["schema"], &given.body, name);
            if name != "openapi" {
                assert_valid(&document, &content["schema"], &content["example"], name);
            }
        }
    }
}

#[tokio::test]
async fn every_error_has_the_one_shape_and_its_status() {
    let door = Door::open().await;
    let document = document(&door).await;
    let part = json!({"$ref": "#/components/schemas/Error"});
    let mut names = BTreeSet::new();
    for (status, response) in document["components"]["responses"].as_object().unwrap() {
        for example in response["content"]["application/json"]["examples"].as_object().unwrap().values() {
            assert_valid(&document, &part, &example["value"], status);
            assert_eq!(example["value"]["statusCode"].to_string(), *status);
            names.insert(example["value"]["name"].as_str().unwrap().to_owned());
        }
    }
    let known = document["components"]["schemas"]["Error"]["properties"]["name"]["enum"].as_array().unwrap();
    assert_eq!(known.len(), names.len(), "each name has an example: {names:?}");
    for (path, method, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let to = response["$ref"].as_str().map(|to| to.replace("#/components/responses/", ""));
            assert!(status.starts_with('2') || to.as_ref() == Some(status), "{method} {path}: {status}");
        }
    }
    let lost = answer(door.request(Method::GET, "/nowhere")).await;
    assert_valid(&document, &part, &lost.body, "/nowhere");
}

/// What the schema says of an e-mail, and what becomes of it.
async fn both(door: &Door, validator: &jsonschema::Validator, fields: &Value) -> (bool, bool) {
    let email = email(fields.clone());
    (validator.is_valid(&email), door.send(&email).await.status == 200)
}

#[tokio::test]
async fn the_schema_and_the_parser_agree_field_by_field() {
    let door = Door::open().await;
    let document = document(&door).await;
    let validator = schema(&document, &json!({"$ref": "#/components/schemas/EmailRequest"}));
    for fields in taken() {
        assert_eq!(both(&door, &validator, &fields).await, (true, true), "{fields}");
    }
    for fields in refused() {
        assert_eq!(both(&door, &validator, &fields).await, (false, false), "{fields}");
    }
    // What is taken too, and cannot be said, or would make a pattern that nobody reads.
    for fields in [
        json!({"to": "a@ü.test"}),
        json!({"to": "dev@localhost"}),
        json!({"attachments": [{"content": "AP8K\r\nDQ=="}]}),
    ] {
        assert_eq!(both(&door, &validator, &fields).await, (false, true), "{fields}");
    }
    // What is refused, and only a clock or a calendar can say.
    for fields in [
        json!({"scheduled_at": "2027-02-30T09:00:00Z"}),
        json!({"scheduled_at": "1969-07-20T20:17:00Z"}),
        json!({"scheduled_at": "in 300 days"}),
        json!({"expires_at": "in 1 hour", "scheduled_at": "in 2 hours"}),
    ] {
        assert_eq!(both(&door, &validator, &fields).await, (true, false), "{fields}");
    }
}

fn taken() -> Vec<Value> {
    let mut all = vec![
        json!({"to": (0..50).map(|i| format!("p{i}@local.test")).collect::<Vec<_>>()}),
        json!({"to": "\"Lovelace, \\\"Ada\\\"\" <ada@local.test>", "cc": [], "bcc": null, "reply_to": ["a@local.test"]}),
        json!({"subject": "x".repeat(998)}),
        json!({"html": "<p>x</p>", "text": ""}),
        json!({"headers": {"X-A": "é", "To-Day": "1", "x_b": ""}}),
        json!({"attachments": [{"content": [0, 255.0], "filename": "../../étoile.pdf", "content_type": "text/plain; charset=utf-8"}]}),
        json!({"attachments": [{"content": {"type": "Buffer", "data": [1]}, "filename": false, "content_id": "a.b@c"}]}),
        json!({"attachments": [{"content": "AP8KDQ"}, {"content": "", "filename": null, "content_type": ""}]}),
        json!({"tags": [{"name": "n".repeat(256), "value": ""}, {"name": "a"}, {"name": "b", "value": null}]}),
        json!({"template": null, "unknown": {"x": 1}}),
        json!({"priority": "urgent", "on_unknown": "hold", "sensitive": true, "supersedes": "é".repeat(128)}),
        json!({"expires_at": "in 59 days"}),
    ];
    let addresses = [
        "a+b.c@sub.x.test",
        "Ada@EXAMPLE.com",
        "o'neil/sales=x@x.test",
        "a@xn--tda.test",
        "<ada@x.test>",
        "Ada L. <ada@x.test>",
        "  Ada  <ada@x.test>",
    ];
    all.extend(addresses.map(|from| json!({"from": from})));
    let moments = [
        "now",
        "in 1 min",
        "In 90 Seconds",
        "in an hour",
        "in 15min",
        "TOMORROW at 9AM",
        "tomorrow at 12:30 pm",
        "sun at noon",
        "Friday at 3pm UTC",
        "tomorrow at 9:05",
    ];
    all.extend(moments.map(|at| json!({"scheduled_at": at})));
    all
}

fn refused() -> Vec<Value> {
    let mut all = vec![
        json!({"to": (0..51).map(|i| format!("p{i}@local.test")).collect::<Vec<_>>()}),
        json!({"to": []}),
        json!({"to": null}),
        json!({"from": ""}),
        json!({"subject": null}),
        json!({"subject": "x".repeat(999)}),
        json!({"subject": "hi\r\nBcc: e@x"}),
        json!({"text": ""}),
        json!({"text": null}),
        json!({"text": "a\u{0}b"}),
        json!({"headers": []}),
        json!({"headers": {"": "x"}}),
        json!({"headers": {"X-A: b": "x"}}),
        json!({"headers": {"X-A": "b\r\nBcc: e@x"}}),
        json!({"headers": {"X-A": 1}}),
        json!({"headers": (0..51).map(|i| (format!("X-{i}"), json!("v"))).collect::<serde_json::Map<_, _>>()}),
        json!({"attachments": [{}]}),
        json!({"attachments": [{"content": null, "filename": "a"}]}),
        json!({"attachments": [{"content": "not base64!"}]}),
        json!({"attachments": [{"content": "AB"}]}),
        json!({"attachments": [{"content": [256]}]}),
        json!({"attachments": [{"content": [1.5]}]}),
        json!({"attachments": [{"content": {"type": "Blob", "data": []}}]}),
        json!({"attachments": [{"content": "", "filename": ".."}]}),
        json!({"attachments": [{"content": "", "filename": "a/"}]}),
        json!({"attachments": [{"content": "", "filename": "x".repeat(256)}]}),
        json!({"attachments": [{"content": "", "filename": true}]}),
        json!({"attachments": [{"content": "", "content_type": "nonsense"}]}),
        json!({"attachments": [{"content": "", "content_id": "a>b"}]}),
        json!({"attachments": vec![json!({"content": ""}); 101]}),
        json!({"attachments": {}}),
        json!({"tags": [{"name": ""}]}),
        json!({"tags": [{"name": "a b"}]}),
        json!({"tags": [{"value": "a"}]}),
        json!({"tags": [{"name": "a", "value": "x".repeat(257)}]}),
        json!({"tags": vec![json!({"name": "a"}); 51]}),
        json!({"template": {"id": "welcome"}}),
        json!({"priority": "asap"}),
        json!({"on_unknown": "drop"}),
        json!({"sensitive": "yes"}),
        json!({"supersedes": ""}),
        json!({"supersedes": "é".repeat(129)}),
        json!({"supersedes": "a\nb"}),
    ];
    let reserved = [
        "From",
        "To",
        "cc",
        "BCC",
        "Sender",
        "Date",
        "Subject",
        "Message-ID",
        "MIME-Version",
        "Reply-To",
        "Content-Type",
        "content-x",
        "DKIM-Signature",
        "Received",
        "Return-Path",
    ];
    all.extend(reserved.map(|name| json!({"headers": {name: "x"}})));
    let long_local = format!("{}@x.test", "a".repeat(65));
    let long_label = format!("a@{}.test", "b".repeat(64));
    let long = format!("{}@{}.test", "a".repeat(60), vec!["b".repeat(60); 4].join("."));
    let addresses = [
        "ada",
        "a@@x.test",
        "a@x.test,b@x.test",
        "@x.test",
        " a@x.test",
        "a b@x.test",
        "\"a b\"@x.test",
        ".a@x.test",
        "a..b@x.test",
        "a%b@x.test",
        "a!b@x.test",
        "é@x.test",
        "=?utf-8?q?a=40evil.test=3e?=@x.test",
        "a@[127.0.0.1]",
        "a@127.0.0.1",
        "a@-x.test",
        "a@x-.test",
        "a@x..test",
        "a@x.test.",
        "a@test",
        "a@x_y.test",
        "a@ab--c.test",
        "a@x.test ",
        "a@x.test\r\nDATA",
        "Ada <ada@x.test",
        "Ada <<ada@x.test>>",
        "A\r\nBcc: e@x <ada@x.test>",
        "\"Ada <ada@x.test>",
        &long_local,
        &long_label,
        &long,
    ];
    all.extend(addresses.map(|to| json!({"to": to})));
    let moments = [
        "",
        " ",
        "soon",
        "in",
        "in five",
        "in 1",
        "in -1 min",
        "in 1.5 hours",
        "tomorrow",
        "tomorrow at 9",
        "tomorrow at 25:00",
        "tomorrow at 13pm",
        "tomorrow at 9am pm",
        "Friday at 3pm ET",
        "2027-13-01T12:00:00Z",
        "2026-08-05",
        "2026-08-05T12",
        "2026-08-05T24:00:00Z",
        "2026-08-05T12:00:00+25:00",
        "2026-08-05T12:00:00+02:0",
        "2026-8-5T12:00:00Z",
        "1785931200",
    ];
    all.extend(moments.map(|at| json!({"scheduled_at": at})));
    all
}

#[tokio::test]
async fn the_document_and_its_page_are_for_everybody() {
    let (open, guarded) = (Door::open().await, Door::guarded().await);
    for door in [&open, &guarded] {
        let page = door.request(Method::GET, "/docs").send().await.unwrap();
        assert_eq!(page.status(), 200);
        let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        let html = page.text().await.unwrap();
        let document = document(door).await;
        for (path, _, operation) in operations(&document) {
            let id = operation["operationId"].as_str().unwrap();
            assert!(html.contains(&format!("<article id=\"{id}\">")) && html.contains(&path), "{id}");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(html.contains(&format!("<article id=\"{name}\">")), "{name}");
        }
        for loading in ["<script", "<img", "<iframe", "rel=\"stylesheet", "@import", "url("] {
            assert!(!html.contains(loading), "nothing runs, nothing is loaded: {loading}");
        }
    }
    let (open, guarded) = (document(&open).await, document(&guarded).await);
    let security = |document: &Value| document["paths"]["/emails"]["post"]["security"].clone();
    assert_eq!(security(&open), json!([{"bearer": []}, {}]), "in development a token may come, and need not");
    assert_eq!(security(&guarded), json!([{"bearer": []}]));
    assert_eq!(guarded["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
}

#[tokio::test]
async fn a_host_that_is_none_is_not_repeated_on_the_page() {
    let door = Door::open().await;
    let request = door.request(Method::GET, "/docs").header("host", "x.test\"><b>");
    let html = request.send().await.unwrap().text().await.unwrap();
    assert!(
        !html.contains("x.test") && html.contains("http://localhost:8000/emails"),
        "the host is in there"
    );
}
