//! One e-mail through both doors, and what came of it.

use facteur::EmailId;
use facteur::email::{EmailBuilder, StoredEmail};
use sqlx::postgres::PgDatabaseError;
use uuid::Uuid;

use crate::mail::Mail;
use crate::support::outbox::TestOutbox;

/// How SQL refuses.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// What both doors made of it.
#[derive(Debug)]
pub(crate) enum Both {
    /// SQL's.
    Took(Uuid),
    /// In the library's words, which are SQL's too.
    Refused(String),
    /// A domain beyond ASCII that SQL leaves to the others.
    LeftToOthers,
}

/// What differs by its nature: ids, moments, randomness.
const ROW: &str = "
  SELECT jsonb_build_object(
    'email', to_jsonb(e) - '{id,message_id,date,boundary,created_at}'::text[],
    'message id', replace(e.message_id, e.id::text, 'id'),
    'date', e.date = date_trunc('second', e.created_at),
    'boundary', regexp_replace(e.boundary, '^facteur[0-9a-f]{32}$', 'of the form'),
    'version', substr(e.id::text, 15, 1) || ' ' || (substr(e.id::text, 20, 1) IN ('8', '9', 'a', 'b')),
    'clock', abs(('x' || substr(replace(e.id::text, '-', ''), 1, 12))::bit(48)::bigint - extract(epoch FROM clock_timestamp()) * 1000) < 60000,
    'deliveries', (
      SELECT jsonb_agg(to_jsonb(d) - '{email_id,run_at,expires_at}'::text[]
                       || jsonb_build_object('runs', CASE d.run_at WHEN e.scheduled_at THEN 'as scheduled' WHEN e.created_at THEN 'at once' END,
                                             'expires', CASE d.expires_at WHEN d.run_at + interval '24 hours' THEN 'in a day' ELSE d.expires_at::text END)
                       ORDER BY d.position)
      FROM facteur.deliveries d WHERE d.email_id = e.id),
    'attachments', (SELECT jsonb_agg(to_jsonb(a) - 'email_id' ORDER BY a.position) FROM facteur.attachments a WHERE a.email_id = e.id),
    'events', (SELECT jsonb_agg(to_jsonb(v) - 'email_id' - 'at') FROM facteur.events v WHERE v.email_id = e.id),
    'key', (SELECT jsonb_agg(i.key) FROM facteur.idempotency i WHERE i.email_id = e.id),
    'newest', (SELECT jsonb_agg(n.scope || ' ' || n.name) FROM facteur.newest n WHERE n.email_id = e.id),
    'to wipe', (SELECT count(*) FROM facteur.to_wipe w WHERE w.email_id = e.id))
  FROM facteur.emails e WHERE e.id = $1";

impl TestOutbox {
    /// By the library.
    pub(crate) async fn by_library(&self, builder: EmailBuilder) -> Result<Uuid, String> {
        let email = builder.build().map_err(|e| e.to_string())?;
        Ok(self.outbox.enqueue(&email).await.unwrap().id.as_uuid())
    }

    /// By SQL.
    pub(crate) async fn by_sql(&self, mail: &Mail) -> Result<Uuid, Refusal> {
        sqlx::query_scalar("SELECT facteur.send_email($1, $2, $3, $4, $5)")
            .bind(&mail.to[0])
            .bind(&mail.subject)
            .bind(&mail.text)
            .bind(&mail.html)
            .bind(mail.options())
            .fetch_one(&self.pool)
            .await
            .map_err(|error| refusal(&error))
    }

    /// By both; panics where they differ.
    pub(crate) async fn by_both(&self, mail: &Mail) -> Both {
        let library = self.by_library(mail.builder()).await;
        // Before SQL's, which may take its place.
        let theirs = match &library {
            Ok(id) => Some((self.row(*id).await, self.stored(*id).await)),
            Err(_) => None,
        };
        let sql = self.by_sql(mail).await;
        match (library, sql) {
            (Ok(_), Ok(other)) => {
                let (row, stored) = theirs.unwrap();
                assert_eq!(self.row(other).await, row, "{mail:?}");
                assert_same_bytes(&stored, &self.stored(other).await);
                Both::Took(other)
            }
            (Err(said), Err(refusal)) if mail.texts().iter().any(|text| text.contains('\0')) => {
                // No text of Postgres has one: it refuses before the function is called.
                assert!(["22021", "22P05"].contains(&refusal.code.as_str()), "{refusal:?}");
                Both::Refused(said)
            }
            // It came first to a domain that it leaves to the others, which refuse something behind it.
            (Err(said), Err(refusal)) if refusal.message != said && refusal.hint.contains("beyond ASCII") => {
                assert!(refusal.message.contains("has a domain (after the @)"), "{refusal:?} {mail:?}");
                Both::Refused(said)
            }
            (Err(said), Err(refusal)) => {
                assert_eq!(refusal.code, "22023", "{refusal:?} {mail:?}");
                assert_eq!(refusal.message, said, "{mail:?}");
                assert!(!refusal.hint.is_empty(), "{refusal:?}");
                Both::Refused(said)
            }
            (Ok(_), Err(refusal)) => {
                let beyond = |a: &String| !a.is_ascii() || a.to_lowercase().contains("xn--");
                let domain =
                    refusal.message.contains("has a domain (after the @)") && mail.addresses().any(beyond);
                assert!(domain, "the library took what SQL refuses: {refusal:?} {mail:?}");
                assert!(refusal.hint.contains("beyond ASCII"), "{refusal:?}");
                Both::LeftToOthers
            }
            (Err(said), Ok(_)) => panic!("SQL took what the library refuses ({said}): {mail:?}"),
        }
    }

    pub(crate) async fn row(&self, id: Uuid) -> serde_json::Value {
        sqlx::query_scalar(ROW).bind(id).fetch_one(&self.pool).await.unwrap()
    }

    pub(crate) async fn stored(&self, id: Uuid) -> StoredEmail {
        let id = EmailId::from(id);
        let email = self.outbox.load(&[id]).await.unwrap().remove(&id).expect("it can be read");
        StoredEmail::clone(&email)
    }
}

pub(crate) fn assert_same_bytes(one: &StoredEmail, other: &StoredEmail) {
    let mut other = other.clone();
    other.id = one.id;
    other.message_id.clone_from(&one.message_id);
    other.boundary.clone_from(&one.boundary);
    other.date = one.date;
    let (one, other) = (one.render().unwrap(), other.render().unwrap());
    assert_eq!(String::from_utf8_lossy(&one), String::from_utf8_lossy(&other));
}

pub(crate) fn refusal(error: &sqlx::Error) -> Refusal {
    let Some(error) = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>()) else {
        panic!("{error}");
    };
    Refusal {
        code: error.code().into(),
        message: error.message().into(),
        hint: error.hint().unwrap_or_default().into(),
    }
}
