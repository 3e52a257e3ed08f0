//! docs/sql.md, run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use sqlx::{AssertSqlSafe, ConnectOptions};
use uuid::Uuid;

use crate::role::Role;
use crate::support::outbox::TestOutbox;

/// What stands between ```sql and ```.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// In Postgres's own folder, or on the path.
fn psql() -> Option<PathBuf> {
    let config = Command::new("pg_config").arg("--bindir").output().ok();
    let folder =
        config.and_then(|o| String::from_utf8(o.stdout).ok()).map(|folder| PathBuf::from(folder.trim()));
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let installed = installed.flatten().map(|version| version.path().join("bin"));
    let candidates =
        folder.into_iter().chain(installed).map(|folder| folder.join("psql")).chain([PathBuf::from("psql")]);
    candidates.into_iter().find(|psql| {
        Command::new(psql)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    })
}

/// As somebody types it: through psql where there is one.
async fn run(t: &TestOutbox, url: &str, script: &str) -> String {
    let Some(psql) = psql() else {
        eprintln!("no psql here: the page is run through the driver");
        let mut connection =
            url.parse::<sqlx::postgres::PgConnectOptions>().unwrap().connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(script.to_owned())).execute(&mut connection).await.unwrap();
        return String::new();
    };
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.sql", Uuid::new_v4()));
    std::fs::write(&file, script).unwrap();
    let psql = Command::new(psql)
        .args(["-X", "-v", "ON_ERROR_STOP=1", "-d", url, "-f"])
        .arg(&file)
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(
        psql.status.success(),
        "{}{}",
        String::from_utf8_lossy(&psql.stdout),
        String::from_utf8_lossy(&psql.stderr)
    );
    let _ = t;
    String::from_utf8(psql.stdout).unwrap()
}

#[tokio::test]
async fn the_session_on_the_page_does_what_it_says() {
    let t = TestOutbox::new().await;
    let role = Role { name: format!("facteur_app_{}", Uuid::new_v4().simple()) };
    let database = t.text("SELECT quote_ident(current_database())").await;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql.md")).unwrap();
    let page = page.replace("shop_app", &role.name).replace("DATABASE shop", &format!("DATABASE {database}"));
    let [once, session] = blocks(&page)[..] else { panic!("the page has two blocks") };
    run(&t, t.url(), once).await;
    let (scheme, rest) = t.url().split_once("://").unwrap();
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    run(&t, &format!("{scheme}://{}:change-this-one@{place}", role.name), session).await;
    assert_eq!(t.text("SELECT string_agg(customer, ', ') FROM orders").await, "eve@example.com");
    assert_eq!(t.text("SELECT string_agg(recipient, ', ') FROM facteur.deliveries").await, "eve@example.com");
    let joined = "SELECT count(*) FROM orders JOIN facteur.emails e ON e.id = orders.email_id WHERE e.sender ->> 'address' = 'shop@example.com'";
    assert_eq!(t.number(joined).await, 1);
    assert_eq!(t.number("SELECT count(*) FROM facteur.events").await, 1);
    t.execute(&format!("ALTER DATABASE {database} RESET facteur.default_from")).await;
    role.drop(&t).await;
}
