use std::num::NonZeroU32;

use facteur::Outbox;
use facteur::http::{self, Access, Api, Bearer, Fetcher, Readiness, Role, mint_for};
use facteur::settings::{JwtKey, Limits};
use facteur::telemetry::Exposition;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use time::OffsetDateTime;
use tokio::net::TcpListener;

use crate::support::outbox::TestOutbox;

pub(crate) struct Door {
    pub(crate) t: TestOutbox,
    pub(crate) base: String,
    pub(crate) client: Client,
    key: JwtKey,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Door {
    /// Development's.
    pub(crate) async fn open() -> Self {
        Self::with(Limits::open(), true).await
    }

    /// With tokens.
    pub(crate) async fn guarded() -> Self {
        Self::with(Limits::open(), false).await
    }

    pub(crate) async fn limited(rate: u32) -> Self {
        Self::with(Limits { rate: NonZeroU32::new(rate), ..Limits::open() }, false).await
    }

    /// Its database does not wait long for a lock, as the program sets it, only shorter.
    pub(crate) async fn impatient() -> Self {
        let t = TestOutbox::new().await;
        let options: PgConnectOptions = t.url().parse().unwrap();
        let pool = PgPool::connect_with(options.options([("lock_timeout", "200ms")])).await.unwrap();
        let outbox = Outbox::new(pool);
        Self::over(t, outbox, Limits::open(), true).await
    }

    /// Development's, with files from where a test has them.
    pub(crate) async fn fetching(fetcher: Fetcher) -> Self {
        let t = TestOutbox::new().await;
        let outbox = t.outbox.clone();
        Self::serve(t, outbox, Limits::open(), true, fetcher).await
    }

    pub(crate) async fn with(limits: Limits, development: bool) -> Self {
        let t = TestOutbox::new().await;
        let outbox = t.outbox.clone();
        Self::over(t, outbox, limits, development).await
    }

    async fn over(t: TestOutbox, outbox: Outbox, limits: Limits, development: bool) -> Self {
        let fetcher = Fetcher::new(limits.fetching);
        Self::serve(t, outbox, limits, development, fetcher).await
    }

    async fn serve(
        t: TestOutbox,
        outbox: Outbox,
        limits: Limits,
        development: bool,
        fetcher: Fetcher,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = JwtKey::new("q8Jw2ZrT5yVbN1mKc4LxP7sDf0GhA3eU".to_owned().into()).expect("a good key");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let api = Api {
            outbox,
            access: if development { Access::Open } else { Access::Bearer(key.clone()) },
            sender: "noreply@local.test".into(),
            readiness: Readiness::default(),
            metrics: Exposition::default(),
            limits,
        };
        tokio::spawn(async move { axum::serve(listener, http::router_with(api, fetcher)).await });
        Self { t, base, client: Client::builder().no_proxy().build().unwrap(), key }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    /// Without a body.
    pub(crate) async fn post(&self, path: &str) -> Answer {
        answer(self.request(Method::POST, path)).await
    }

    pub(crate) async fn send(&self, email: &Value) -> Answer {
        answer(self.request(Method::POST, "/emails").json(email)).await
    }

    /// The id of what was accepted.
    pub(crate) async fn accepted(&self, email: &Value) -> String {
        let answer = self.send(email).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.id()
    }

    /// The message of what was refused, once it has the shape of every error.
    pub(crate) async fn refused(&self, email: &Value, status: u16, name: &str) -> String {
        self.send(email).await.refused(status, name)
    }

    pub(crate) fn token(&self, role: Role, subject: Option<&str>, domains: &[&str]) -> String {
        let domains = (!domains.is_empty()).then(|| domains.iter().map(|d| (*d).to_owned()).collect());
        let bearer = Bearer { role, subject: subject.map(str::to_owned), domains };
        mint_for(&self.key, bearer, time::Duration::HOUR, OffsetDateTime::now_utc()).unwrap()
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null);
    Answer { status, headers, body }
}

impl Answer {
    pub(crate) fn id(&self) -> String {
        self.body["id"].as_str().unwrap_or_else(|| panic!("no id: {}", self.body)).to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Three keys, and no others; a number that is a number; JSON that says so.
    pub(crate) fn refused(&self, status: u16, name: &str) -> String {
        assert_eq!((self.status, &self.body["name"]), (status, &json!(name)), "{}", self.body);
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.body["statusCode"], status, "{}", self.body);
        let mut keys: Vec<&String> = self.body.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["message", "name", "statusCode"]);
        self.body["message"].as_str().unwrap().to_owned()
    }
}

/// The plainest e-mail, with some fields more or others.
pub(crate) fn email(more: Value) -> Value {
    let mut email = json!({
        "from": "Acme <shop@local.test>", "to": "ada@local.test", "subject": "Hello", "text": "Hello, Ada.",
    });
    for (name, value) in more.as_object().unwrap() {
        email[name] = value.clone();
    }
    email
}
