//! What a role with the two grants may do, and what it may not.

use std::str::FromStr;

use facteur::email::Address;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use uuid::Uuid;

use crate::both::refusal;
use crate::support::outbox::TestOutbox;

/// A login of its own, and gone with the test.
pub(crate) struct Role {
    pub(crate) name: String,
}

impl Role {
    pub(crate) async fn create(t: &TestOutbox) -> Self {
        let role = Self { name: format!("facteur_app_{}", Uuid::new_v4().simple()) };
        t.execute(&format!("CREATE ROLE {} LOGIN PASSWORD 'secret-of-a-test'", role.name)).await;
        role
    }

    async fn granted(t: &TestOutbox) -> Self {
        let role = Self::create(t).await;
        t.execute(&format!("GRANT USAGE ON SCHEMA facteur TO {}", role.name)).await;
        t.execute(&format!("GRANT EXECUTE ON FUNCTION facteur.send_email TO {}", role.name)).await;
        role
    }

    pub(crate) fn options(&self, t: &TestOutbox) -> PgConnectOptions {
        PgConnectOptions::from_str(t.url()).unwrap().username(&self.name).password("secret-of-a-test")
    }

    async fn connect(&self, t: &TestOutbox) -> PgConnection {
        self.options(t).connect().await.unwrap()
    }

    pub(crate) async fn drop(self, t: &TestOutbox) {
        t.execute(&format!("DROP OWNED BY {} CASCADE", self.name)).await;
        t.execute(&format!("DROP ROLE {}", self.name)).await;
    }
}

const SEND: &str = "SELECT facteur.send_email('ada@x.test', 'Your order', 'Thank you.')";

async fn code(connection: &mut PgConnection, sql: &str) -> String {
    let result = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
    result.map_or_else(|error| refusal(&error).code, |_| "done".into())
}

#[tokio::test]
async fn a_role_with_the_two_grants_sends_inside_its_transaction_and_sees_nothing() {
    let t = TestOutbox::new().await;
    let role = Role::granted(&t).await;
    t.execute("CREATE TABLE public.orders (customer text)").await;
    t.execute(&format!("GRANT INSERT ON public.orders TO {}", role.name)).await;
    t.execute(&format!("ALTER ROLE {} SET facteur.default_from = 'Shop <shop@x.test>'", role.name)).await;
    let mut app = role.connect(&t).await;
    for end in ["ROLLBACK", "COMMIT"] {
        for sql in ["BEGIN", "INSERT INTO public.orders VALUES ('ada')", SEND, end] {
            assert_eq!(code(&mut app, sql).await, "done", "{sql}");
        }
        let left = i64::from(end == "COMMIT");
        assert_eq!(t.number("SELECT count(*) FROM public.orders").await, left, "{end}");
        assert_eq!(t.number("SELECT count(*) FROM facteur.emails").await, left, "{end}");
        assert_eq!(t.number("SELECT count(*) FROM facteur.deliveries").await, left, "{end}");
    }
    assert_eq!(t.text("SELECT sender ->> 'address' FROM facteur.emails").await, "shop@x.test");
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class c
         WHERE c.relnamespace = 'facteur'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')",
    )
    .fetch_all(&t.pool)
    .await
    .unwrap();
    assert!(tables.len() > 10, "{tables:?}");
    for table in tables {
        for sql in [
            format!("SELECT * FROM {table}"),
            format!("DELETE FROM {table}"),
            format!("INSERT INTO {table} DEFAULT VALUES"),
        ] {
            assert_eq!(code(&mut app, &sql).await, "42501", "{sql}");
        }
    }
    assert_eq!(code(&mut app, "CREATE TABLE facteur.mine ()").await, "42501");
    // Of what runs with the owner's rights, only this; and none of the rules, which nobody needs.
    let may = format!(
        "SELECT string_agg(p.proname, ', ' ORDER BY p.proname) FROM pg_proc p
         WHERE p.pronamespace = 'facteur'::regnamespace AND has_function_privilege('{0}', p.oid, 'EXECUTE')
           AND (p.prosecdef OR p.proname ~ '^(option|check|refuse|address|mailbox|a_label|wake|new_email)')",
        role.name
    );
    assert_eq!(t.text(&may).await, "send_email");
    app.close().await.unwrap();
    role.drop(&t).await;
}

#[tokio::test]
async fn without_the_grant_nobody_sends() {
    let t = TestOutbox::new().await;
    let role = Role::create(&t).await;
    let mut app = role.connect(&t).await;
    assert_eq!(code(&mut app, SEND).await, "42501");
    t.execute(&format!("GRANT USAGE ON SCHEMA facteur TO {}", role.name)).await;
    assert_eq!(code(&mut app, SEND).await, "42501");
    assert_eq!(code(&mut app, "SELECT facteur.wake()").await, "42501");
    t.execute(&format!("GRANT EXECUTE ON FUNCTION facteur.send_email TO {}", role.name)).await;
    assert_eq!(code(&mut app, SEND).await, "22023", "the sender is missing");
    app.close().await.unwrap();
    role.drop(&t).await;
}

/// Objects that stand before Postgres's own, and fail when they are used.
const TRAPS: &str = "
    CREATE SCHEMA trap;
    CREATE FUNCTION trap.spring() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'the trap was sprung'; END $$;
    CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT trap.spring()::timestamptz $$;
    CREATE FUNCTION trap.length(text) RETURNS integer LANGUAGE sql AS $$ SELECT trap.spring()::integer $$;
    CREATE FUNCTION trap.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT trap.spring() $$;
    CREATE FUNCTION trap.octet_length(text) RETURNS integer LANGUAGE sql AS $$ SELECT trap.spring()::integer $$;
    CREATE FUNCTION trap.gen_random_uuid() RETURNS uuid LANGUAGE sql AS $$ SELECT trap.spring()::uuid $$;
    CREATE FUNCTION trap.bad(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT trap.spring()::boolean $$;
    CREATE FUNCTION trap.bad(integer, integer) RETURNS boolean LANGUAGE sql AS $$ SELECT trap.spring()::boolean $$;
    CREATE FUNCTION trap.bad_text(text, text) RETURNS text LANGUAGE sql AS $$ SELECT trap.spring() $$;
    CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.bad);
    CREATE OPERATOR trap.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.bad);
    CREATE OPERATOR trap.!~ (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.bad);
    CREATE OPERATOR trap.> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = trap.bad);
    CREATE OPERATOR trap.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.bad_text);
    CREATE TABLE trap.emails (id uuid, message_id text, date timestamptz, boundary text, sender jsonb);
    CREATE TABLE trap.deliveries (email_id uuid);
    CREATE DOMAIN trap.final_state AS text CHECK (trap.spring() IS NULL);
    CREATE TEMP TABLE emails (id uuid);
    CREATE TEMP TABLE accepted (id uuid);
    CREATE TEMP TABLE key (created boolean, email_id uuid, same boolean);
    SET search_path = trap, pg_temp, facteur, pg_catalog;
    SET standard_conforming_strings = off;
    SET escape_string_warning = off;
    SET DateStyle = 'German';
    SET TimeZone = 'Asia/Kathmandu';
    SET transform_null_equals = on;
    SET quote_all_identifiers = on";

#[tokio::test]
async fn nothing_of_the_callers_takes_the_place_of_what_the_function_means() {
    let t = TestOutbox::new().await;
    let role = Role::granted(&t).await;
    let database = t.text("SELECT quote_ident(current_database())").await;
    t.execute(&format!("GRANT CREATE ON DATABASE {database} TO {}", role.name)).await;
    let mut app = role.connect(&t).await;
    sqlx::raw_sql(TRAPS).execute(&mut app).await.unwrap();
    assert_eq!(code(&mut app, "SELECT now()").await, "P0001", "the traps are set");
    assert_eq!(code(&mut app, "SELECT 'a'::text = 'b'::text").await, "P0001", "the traps are set");
    let options = serde_json::json!({
        "from": "Shop <shop@x.test>", "cc": ["\"L, \\\"A\\\"\" <a@ü.test>", "A.B@Sub.X.test"], "headers": {"X-A": "1"}, "idempotency_key": "k",
        "supersedes": "n", "scheduled_at": "2030-02-03T00:00:00Z", "sensitive": true,
        "attachments": [{"filename": "..\\a/b", "content": "YQ==", "content_type": "a/b; c=\"d\""}],
    });
    let send = "SELECT facteur.send_email($1, $2, 'Thank you.', NULL, $3)";
    let id: Uuid = sqlx::query_scalar(send)
        .bind("ada@x.test")
        .bind("Hi \\ there")
        .bind(&options)
        .fetch_one(&mut app)
        .await
        .unwrap();
    assert_eq!(
        t.number(&format!(
            "SELECT count(*) FROM facteur.deliveries WHERE email_id = '{id}' AND run_at = '2030-02-03Z'"
        ))
        .await,
        3
    );
    let stored = t.stored(id).await;
    assert_eq!(stored.subject, "Hi \\ there");
    assert_eq!(stored.cc[0].name.as_deref(), Some("L, \"A\""));
    assert_eq!(
        stored.cc.iter().map(|m| m.address.as_str()).collect::<Vec<_>>(),
        ["a@xn--tda.test", "A.B@sub.x.test"]
    );
    assert_eq!(stored.attachments[0].filename, "b");
    // Backslashes in the rules mean what they meant: a dot is a dot, a control character one.
    for bad in [
        "a@x.test\r\nRCPT TO:<e@x>",
        "aub@x,test",
        "a..b@x.test",
        "a@[127.0.0.1]",
        "\"A\\ <a@x.test>",
        "A\u{9b} <a@x.test>",
    ] {
        assert!(bad.parse::<Address>().is_err());
        let refused =
            sqlx::query(send).bind(bad).bind("Hi").bind(&options).execute(&mut app).await.unwrap_err();
        assert_eq!(refusal(&refused).code, "22023", "{bad:?}");
    }
    let refused = sqlx::query(send)
        .bind("ada@x.test")
        .bind("Hi\r\nBcc: e@x")
        .bind(&options)
        .execute(&mut app)
        .await
        .unwrap_err();
    assert!(
        refusal(&refused)
            .message
            .starts_with("subject has a character that is not allowed (U+000D at position 2)")
    );
    app.close().await.unwrap();
    role.drop(&t).await;
}
