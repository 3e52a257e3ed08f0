//! A database of its own for each test, on one server for the whole run.
//!
//! One thread per test program holds the administrator's connection. It makes databases as
//! copies of a migrated template, drops them when their test ends, and holds a lock for as long
//! as the program lives: by it, the next program knows which databases a killed one has left.

#![expect(clippy::unwrap_used, reason = "a test without its database fails")]

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{OnceLock, mpsc};

use facteur::local_postgres::test_server_url;
use facteur::settings::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

type Migration = Box<dyn FnOnce(String) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A migrated database, dropped with this value.
pub(crate) struct TestDatabase {
    name: String,
    url: String,
}

impl TestDatabase {
    /// A copy of the template called `key`, which `migrate` (given its URL) fills when there is none.
    ///
    /// `key` must change with the migrations: a hash of them.
    pub(crate) async fn create<F>(key: &str, migrate: impl FnOnce(String) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let (reply, made) = tokio::sync::oneshot::channel();
        send(Request::Create {
            key: key.to_owned(),
            migration: Box::new(move |url| Box::pin(migrate(url))),
            reply,
        });
        let (name, url) = made.await.expect("the test server makes databases");
        Self { name, url }
    }

    /// `postgres://…`, for a pool.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (reply, done) = mpsc::channel();
        let name = std::mem::take(&mut self.name);
        send(Request::Drop { name, reply });
        // Waited for: with the last test, the thread that drops ends.
        let _ = done.recv();
    }
}

enum Request {
    Create { key: String, migration: Migration, reply: tokio::sync::oneshot::Sender<(String, String)> },
    Drop { name: String, reply: mpsc::Sender<()> },
}

fn send(request: Request) {
    static KEEPER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || keep(&requests));
        sender
    });
    // The thread has failed, and has said why: whoever waits for an answer sees that.
    let _ = keeper.send(request);
}

fn keep(requests: &mpsc::Receiver<Request>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut keeper = runtime.block_on(Keeper::connect());
    while let Ok(request) = requests.recv() {
        match request {
            Request::Create { key, migration, reply } => {
                let _ = reply.send(runtime.block_on(keeper.create(&key, migration)));
            }
            Request::Drop { name, reply } => {
                runtime.block_on(keeper.drop_database(&name));
                let _ = reply.send(());
            }
        }
    }
}

struct Keeper {
    server: String,
    admin: PgConnection,
    /// The number of this program's lock, and part of its databases' names.
    number: u32,
}

/// The first half of the locks' numbers, so that they meet nobody else's.
const LIVING: i32 = 0x0FAC_7E55;
const TEMPLATES: i32 = 0x0FAC_7E50;

impl Keeper {
    async fn connect() -> Self {
        let server = server_url().await;
        let mut admin = PgConnection::connect(&server).await.unwrap();
        let number = uuid::Uuid::new_v4().as_fields().0 >> 1;
        lock(&mut admin, "pg_advisory_lock", LIVING, number).await;
        let mut keeper = Self { server, admin, number };
        keeper.drop_what_killed_programs_left().await;
        keeper
    }

    async fn create(&mut self, key: &str, migration: Migration) -> (String, String) {
        let source = self.template(key, migration).await;
        let unique = uuid::Uuid::new_v4().simple();
        let name = format!("facteur_test_{}_{unique}", self.number);
        self.execute(format!("CREATE DATABASE {name} TEMPLATE {source}")).await;
        let url = self.url(&name);
        (name, url)
    }

    /// The name of the template, made now when it is not there. The mark of a whole one is
    /// Postgres's own `datistemplate`, set last.
    async fn template(&mut self, key: &str, migration: Migration) -> String {
        let name = format!("facteur_template_{}", key.to_lowercase());
        lock(&mut self.admin, "pg_advisory_lock", TEMPLATES, 0).await;
        let whole = "SELECT FROM pg_database WHERE datname = $1 AND datistemplate";
        let found = sqlx::query(whole).bind(&name).fetch_optional(&mut self.admin).await.unwrap();
        if found.is_none() {
            self.drop_database(&name).await;
            self.execute(format!("CREATE DATABASE {name} TEMPLATE template0")).await;
            migration(self.url(&name)).await;
            self.execute(format!("ALTER DATABASE {name} IS_TEMPLATE true")).await;
        }
        lock(&mut self.admin, "pg_advisory_unlock", TEMPLATES, 0).await;
        name
    }

    async fn drop_what_killed_programs_left(&mut self) {
        let names = "SELECT datname FROM pg_database WHERE datname LIKE 'facteur\\_test\\_%'";
        let rows = sqlx::query(names).fetch_all(&mut self.admin).await.unwrap();
        for row in rows {
            let name: String = row.get(0);
            let owner = name.split('_').nth(2).and_then(|number| number.parse().ok());
            let Some(owner) = owner.filter(|owner| *owner != self.number) else {
                continue;
            };
            if lock(&mut self.admin, "pg_try_advisory_lock", LIVING, owner).await {
                self.drop_database(&name).await;
                lock(&mut self.admin, "pg_advisory_unlock", LIVING, owner).await;
            }
        }
    }

    async fn drop_database(&mut self, name: &str) {
        self.execute(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    }

    async fn execute(&mut self, sql: String) {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut self.admin).await.unwrap();
    }

    /// The server's URL with another database in its path.
    fn url(&self, database: &str) -> String {
        let (address, options) = self.server.split_once('?').unwrap_or((&self.server, ""));
        let (address, _) = address.rsplit_once('/').unwrap();
        format!("{address}/{database}?{options}")
    }
}

/// Calls one of Postgres's functions on advisory locks; whether it answered "true" or nothing.
async fn lock(admin: &mut PgConnection, function: &str, space: i32, number: u32) -> bool {
    let number = i32::try_from(number).expect("31 bits");
    let sql = format!("SELECT coalesce({function}({space}, {number})::text, 'true')");
    let answer: String = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(admin).await.unwrap();
    answer != "false"
}

async fn server_url() -> String {
    #[expect(clippy::disallowed_methods, reason = "tests have no settings room; this is their one variable")]
    let given = std::env::var("TEST_DATABASE_URL").ok();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres-for-tests");
    let url = test_server_url(given.map(SecretString::from), &folder).await;
    url.unwrap_or_else(|error| panic!("{error}")).expose_secret().to_owned()
}
