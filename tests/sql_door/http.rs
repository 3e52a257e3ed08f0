//! The third door: the same e-mail by HTTP, and what came of it.

use std::ops::Deref;

use facteur::http::{self, Access, Api, Readiness};
use facteur::settings::Limits;
use facteur::telemetry::Exposition;
use reqwest::Client;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::both::Both;
use crate::mail::{Mail, base64};
use crate::support::outbox::TestOutbox;

/// Its library, its SQL and its HTTP.
pub(crate) struct Doors {
    t: TestOutbox,
    url: String,
    client: Client,
}

impl Deref for Doors {
    type Target = TestOutbox;

    fn deref(&self) -> &TestOutbox {
        &self.t
    }
}

/// What HTTP makes of an e-mail before it comes to the rules that are everybody's.
pub(crate) enum Seen {
    /// The same.
    As(Box<Mail>),
    /// Refused at once: by the rules of HTTP and JSON, or for what is more likely a slip there.
    RefusedFor(&'static str),
}

/// Each difference of the HTTP door, in the order in which it looks. There are no others.
pub(crate) fn seen(mail: &Mail) -> Seen {
    let now = OffsetDateTime::now_utc();
    let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    let mut names: Vec<&String> = mail.headers.iter().map(|(name, _)| name).collect();
    names.sort();
    let twice = names.windows(2).any(|two| two[0] == two[1]);
    let key = |key: &String| {
        (1..=256).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    };
    let refused = if !mail.key.as_ref().is_none_or(key) {
        Some("Idempotency-Key must have")
    } else if mail.from.is_empty() {
        Some("Missing `from` field")
    } else if empty(&mail.text) && empty(&mail.html) {
        Some("Missing `html` field")
    } else if twice {
        Some("headers must be an object")
    } else if mail.scheduled_at.is_some_and(|at| at < now - Duration::minutes(5)) {
        Some("scheduled_at must not be in the past")
    } else if mail.expires_at.is_some_and(|at| at <= now) {
        Some("expires_at must be in the future")
    } else {
        None
    };
    if let Some(says) = refused {
        return Seen::RefusedFor(says);
    }
    let mut seen = mail.clone();
    // None of a text is one that is not wanted; of HTML, none.
    seen.text = seen.text.filter(|text| !text.is_empty());
    seen.html = seen.html.filter(|html| !html.is_empty());
    for file in &mut seen.files {
        file.id = file.id.take().filter(|id| !id.is_empty());
        if file.kind.is_empty() {
            file.kind = "application/octet-stream".into();
        }
    }
    // Of 256 characters it is kept as a hash, and blanks at the ends of a header are not the header's.
    seen.key =
        seen.key.map(|key| if key.len() > 255 { "k".into() } else { key.trim_matches(' ').to_owned() });
    Seen::As(Box::new(seen))
}

impl Doors {
    pub(crate) async fn open() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let t = TestOutbox::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/emails", listener.local_addr().unwrap());
        let api = Api {
            outbox: t.outbox.clone(),
            access: Access::Open,
            sender: "noreply@x.test".into(),
            readiness: Readiness::default(),
            metrics: Exposition::default(),
            limits: Limits::open(),
        };
        tokio::spawn(async move { axum::serve(listener, http::router(api)).await });
        Self { t, url, client: Client::builder().no_proxy().build().unwrap() }
    }

    /// By HTTP: its id, or its words.
    pub(crate) async fn by_http(&self, mail: &Mail) -> Result<Uuid, String> {
        let request = self.client.post(&self.url).header("content-type", "application/json").body(body(mail));
        let request = match &mail.key {
            Some(key) => request.header("idempotency-key", HeaderValue::from_bytes(key.as_bytes()).unwrap()),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        match status {
            200 => Ok(body["id"].as_str().unwrap().parse().unwrap()),
            422 => Err(body["message"].as_str().unwrap().to_owned()),
            400 if body["name"] == "invalid_idempotency_key" => {
                Err(body["message"].as_str().unwrap().to_owned())
            }
            _ => panic!("{status} {body}: {mail:?}"),
        }
    }

    /// By all three; panics where they differ for another reason than those above.
    pub(crate) async fn by_all(&self, mail: &Mail) -> Both {
        let both = self.t.by_both(mail).await;
        match seen(mail) {
            Seen::RefusedFor(says) => {
                let said = self.by_http(mail).await.expect_err("refused by HTTP alone");
                assert!(said.starts_with(says), "{said}: {mail:?}");
            }
            Seen::As(seen) => self.as_the_library(&seen, mail).await,
        }
        both
    }

    async fn as_the_library(&self, seen: &Mail, mail: &Mail) {
        let library = self.t.by_library(seen.builder()).await;
        let expected = match &library {
            // Before HTTP's, which may take its place.
            Ok(id) => Some((self.t.row(*id).await, self.t.stored(*id).await)),
            Err(_) => None,
        };
        match (expected, library, self.by_http(mail).await) {
            (None, Err(said), http) => assert_eq!(http, Err(said), "{mail:?}"),
            (Some((row, stored)), _, Ok(id)) => {
                let mut other = self.t.row(id).await;
                assert_eq!(other["email"]["sent_by"], "development");
                other["email"]["sent_by"] = Value::Null;
                if mail.key.as_ref().is_some_and(|key| key.len() > 255) {
                    other["key"] = row["key"].clone();
                }
                assert_eq!(other, row, "{mail:?}");
                crate::both::assert_same_bytes(&stored, &self.t.stored(id).await);
            }
            (_, library, http) => panic!("the library says {library:?}, HTTP {http:?}: {mail:?}"),
        }
    }
}

/// As a client would write it; headers may have a name twice.
fn body(mail: &Mail) -> String {
    let time = |at: Option<OffsetDateTime>| at.map(|at| at.format(&Rfc3339).unwrap());
    let text = |text: &str| Value::from(text).to_string();
    let files: Vec<Value> = mail
        .files
        .iter()
        .map(|f| json!({"filename": f.name, "content_type": f.kind, "content_id": f.id, "content": base64(&f.content)}))
        .collect();
    let one_or_more = |texts: &[String]| match texts {
        [one] => json!(one),
        more => json!(more),
    };
    let priority = ["urgent", "high", "normal", "low"][mail.priority as usize];
    let fields = json!({
        "from": mail.from, "to": one_or_more(&mail.to), "cc": one_or_more(&mail.cc), "bcc": one_or_more(&mail.bcc),
        "reply_to": one_or_more(&mail.reply_to), "subject": mail.subject,
        // Otherwise one would be made of the HTML.
        "text": mail.text.as_deref().unwrap_or(""), "html": mail.html, "attachments": files,
        "scheduled_at": time(mail.scheduled_at), "expires_at": time(mail.expires_at),
        "priority": priority,
        "on_unknown": if mail.on_unknown == facteur::email::OnUnknown::Hold { "hold" } else { "retry" },
        "supersedes": mail.supersedes, "sensitive": mail.sensitive,
    });
    let headers: Vec<String> =
        mail.headers.iter().map(|(name, value)| format!("{}:{}", text(name), text(value))).collect();
    format!("{{\"headers\":{{{}}},{}", headers.join(","), &fields.to_string()[1..])
}
