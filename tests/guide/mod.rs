// What the examples of `facteur::guide` hide: a database of their own, and the environment that the page tells to set.

struct Database {
    name: String,
    server: String,
}

async fn database() -> Database {
    let given = ::std::env::var("TEST_DATABASE_URL").ok().map(facteur::settings::SecretString::from);
    let folder = ::std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp/postgres-for-tests");
    let server = facteur::local_postgres::test_server_url(given, &folder).await.unwrap();
    let server = facteur::settings::ExposeSecret::expose_secret(&server).to_owned();
    let name = format!("facteur_guide_{}", ::std::process::id());
    execute(&server, format!("DROP DATABASE IF EXISTS {name}")).await;
    execute(&server, format!("CREATE DATABASE {name}")).await;
    let (address, options) = server.split_once('?').unwrap_or((&server, ""));
    let url = format!("{}/{name}?{options}", address.rsplit_once('/').unwrap().0);
    // Nobody else of this process reads the environment now.
    unsafe {
        ::std::env::set_var("DATABASE_URL", url);
        ::std::env::set_var("EMAIL_FROM", "Shop <shop@local.test>");
    }
    Database { name, server }
}

async fn execute(server: &str, sql: String) {
    use sqlx::Connection;
    let mut admin = sqlx::PgConnection::connect(server).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
}

impl Database {
    async fn drop(self) {
        execute(&self.server, format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}
