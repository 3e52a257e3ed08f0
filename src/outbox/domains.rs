//! How much may go to each recipients' domain: rates and mails at once, for all processes together.

use std::time::Duration;

use uuid::Uuid;

use super::{ClaimedDelivery, Outbox, OutboxError};

/// How much may go to one domain.
#[derive(Debug, Clone, PartialEq)]
pub struct DomainRule {
    /// In lower-case A-labels, as recipients are kept.
    pub domain: String,
    /// The time between two mails at an even pace; none without a rate.
    pub every: Option<Duration>,
    /// Mails that may go at once after a pause; at least one.
    pub burst: u32,
    /// Mails under way at once.
    pub at_once: Option<u32>,
}

/// How many mails to a domain may go now.
#[derive(Debug, Clone, PartialEq)]
pub struct DomainRoom {
    /// Which domain.
    pub domain: String,
    /// So many.
    pub now: u32,
    /// And so many more, if they were asked for.
    pub spare: u32,
    /// From now until its rate has room again, or is sure to have.
    pub wait: Duration,
}

impl Outbox {
    /// Admits as many of these deliveries as their domains allow now, the first ones first; each must be to a domain
    /// with a rule, and leased by the caller. What is admitted is counted against the rate, and holds one of the
    /// domain's places until it is settled or taken back.
    ///
    /// # Errors
    /// The database cannot be reached: nothing may be sent. What was admitted all the same counts against the rate.
    pub async fn admit(
        &self,
        rules: &[DomainRule],
        wanted: &[(&str, &ClaimedDelivery)],
    ) -> Result<Vec<DomainRoom>, OutboxError> {
        let columns = Columns::of(rules);
        let domains: Vec<String> = wanted.iter().map(|(domain, _)| (*domain).to_owned()).collect();
        let emails: Vec<Uuid> = wanted.iter().map(|(_, delivery)| delivery.id.email.as_uuid()).collect();
        let positions: Vec<i16> = wanted.iter().map(|(_, delivery)| delivery.id.position).collect();
        let tokens: Vec<i64> = wanted.iter().map(|(_, delivery)| delivery.token.get()).collect();
        let rows = sqlx::query!(
            r#"SELECT to_domain AS "domain!", admitted AS "now!", spare AS "spare!", wait AS "wait!"
               FROM facteur.admit($1, $2, $3, $4, $5, $6, $7, $8)"#,
            &columns.names,
            &columns.every as &[Option<f64>],
            &columns.burst,
            &columns.at_once as &[Option<i32>],
            &domains,
            &emails,
            &positions,
            &tokens,
        )
        .fetch_all(&self.line)
        .await?;
        Ok(rows.into_iter().map(|row| room(row.domain, row.now, row.spare, row.wait)).collect())
    }

    /// How many mails to these domains may go now, without admitting any.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn domain_room(&self, rules: &[DomainRule]) -> Result<Vec<DomainRoom>, OutboxError> {
        let columns = Columns::of(rules);
        let rows = sqlx::query!(
            r#"
            SELECT name AS "domain!",
                   greatest(0, least(floor(burst - ahead / every + 1e-6), most - taken))::int AS "now!",
                   coalesce(greatest(0, ahead - (burst - 1) * every), 0)::float8 AS "wait!"
            FROM (
              SELECT u.*,
                     greatest(0, extract(epoch FROM d.next_at - clock_timestamp())::float8) AS ahead,
                     CASE WHEN u.most IS NOT NULL
                       THEN (SELECT count(*) FROM facteur.domain_slots s WHERE s.domain = u.name AND facteur.is_taken(s))
                     END AS taken
              FROM unnest($1::text[], $2::float8[], $3::int[], $4::int[]) AS u (name, every, burst, most)
              LEFT JOIN facteur.domains d ON d.name = u.name
            ) found
            "#,
            &columns.names,
            &columns.every as &[Option<f64>],
            &columns.burst,
            &columns.at_once as &[Option<i32>],
        )
        .fetch_all(&self.line)
        .await?;
        Ok(rows.into_iter().map(|row| room(row.domain, row.now, 0, row.wait)).collect())
    }

    /// Forgets the domains that no mail went to for a day, and slots whose delivery is not being sent any more.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn forget_domains(&self) -> Result<(), OutboxError> {
        sqlx::query!(
            "WITH dead AS (DELETE FROM facteur.domain_slots s WHERE NOT facteur.is_taken(s))
             DELETE FROM facteur.domains
             WHERE used_at < now() - interval '1 day' AND coalesce(next_at < now(), true)"
        )
        .execute(&self.line)
        .await?;
        Ok(())
    }
}

fn room(domain: String, now: i32, spare: i32, wait: f64) -> DomainRoom {
    let wait = Duration::try_from_secs_f64(wait.max(0.0)).unwrap_or_default();
    DomainRoom { domain, now: now.unsigned_abs(), spare: spare.unsigned_abs(), wait }
}

/// Rules as Postgres takes them: one array a column.
#[derive(Default)]
struct Columns {
    names: Vec<String>,
    every: Vec<Option<f64>>,
    burst: Vec<i32>,
    at_once: Vec<Option<i32>>,
}

impl Columns {
    fn of(rules: &[DomainRule]) -> Self {
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let mut columns = Self::default();
        for rule in rules {
            columns.names.push(rule.domain.clone());
            columns.every.push(rule.every.map(|every| every.as_secs_f64()));
            columns.burst.push(number(rule.burst.max(1)));
            columns.at_once.push(rule.at_once.map(number));
        }
        columns
    }
}
