//! How statements reach the database: each within a time, over a connection that is given up with it.

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Error, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr};
use tokio::time::timeout;

/// Unless said otherwise, a statement that is not answered within this time is given up.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Those that carry whole e-mails have so many times as long.
const FOR_CONTENT: u32 = 6;

/// Executes one statement over a pool, within a deadline.
///
/// A path to the database can go silent without an end: no answer, no error (a cable, a firewall
/// that forgot, a frozen host). What waits there would wait for ever. And a future dropped in the
/// middle of a statement leaves a connection whose next reader gets the wrong answer. So a
/// connection goes back to the pool only once its statement was answered; any other is dropped.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) pool: PgPool,
    pub(super) deadline: Duration,
    /// False behind a pooler that gives each transaction another connection: a statement that was
    /// named on one is unknown on the next.
    pub(super) named_statements: bool,
}

impl Line {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, deadline: DEADLINE, named_statements: true }
    }

    /// For a statement that carries whole e-mails.
    pub(super) fn for_content(&self) -> Self {
        Self { deadline: self.deadline * FOR_CONTENT, ..self.clone() }
    }

    async fn answer<'q, E>(self, query: E) -> Result<Vec<Either<PgQueryResult, PgRow>>, Error>
    where
        E: Execute<'q, Postgres> + 'q,
    {
        let mut taken = Taken(Some(self.pool.acquire().await?));
        if self.named_statements {
            let answered = timeout(self.deadline, taken.connection().fetch_many(query).try_collect()).await;
            let result = answered.unwrap_or_else(|_| Err(late(self.deadline)));
            taken.answered(&result);
            return result;
        }
        // To be parsed and to be executed are two requests, and between them the pooler may lend the
        // connection to somebody else, unless both are in one transaction.
        let alone = self.on(taken).answer_alone(query);
        timeout(self.deadline, alone).await.unwrap_or_else(|_| Err(late(self.deadline)))
    }

    fn on(&self, taken: Taken) -> Transaction {
        Transaction { taken, deadline: self.deadline, named_statements: self.named_statements }
    }
}

impl Line {
    /// Several statements that happen together or not at all, each within the deadline.
    pub(super) async fn begin(&self) -> Result<Transaction, Error> {
        let taken = Taken(Some(self.pool.acquire().await?));
        let mut transaction = self.on(taken);
        transaction.say("BEGIN").await?;
        Ok(transaction)
    }
}

/// A transaction; dropped before its end it goes with its connection, and the server rolls it back.
#[derive(Debug)]
pub(super) struct Transaction {
    taken: Taken,
    deadline: Duration,
    named_statements: bool,
}

impl Transaction {
    /// Makes it durable.
    pub(super) async fn commit(mut self) -> Result<(), Error> {
        let ended = self.say("COMMIT").await;
        self.taken.answered(&ended);
        ended
    }

    /// Takes it back. Where that does not work its connection is closed, which does the same.
    pub(super) async fn rollback(mut self) {
        let ended = self.say("ROLLBACK").await;
        self.taken.answered(&ended);
    }

    /// The one statement of a transaction. Where nobody knows how it stands, the connection is closed.
    async fn answer_alone<'q, E>(mut self, query: E) -> Result<Vec<Either<PgQueryResult, PgRow>>, Error>
    where
        E: Execute<'q, Postgres> + 'q,
    {
        self.say("BEGIN").await?;
        let result = self.answer(query).await;
        match &result {
            Ok(_) => self.commit().await?,
            Err(Error::Database(_)) => self.rollback().await,
            Err(_) => {}
        }
        result
    }

    async fn say(&mut self, word: &'static str) -> Result<(), Error> {
        let said = timeout(self.deadline, self.taken.connection().execute(word)).await;
        said.unwrap_or_else(|_| Err(late(self.deadline))).map(drop)
    }

    async fn answer<'q, E>(&mut self, query: E) -> Result<Vec<Either<PgQueryResult, PgRow>>, Error>
    where
        E: Execute<'q, Postgres> + 'q,
    {
        let query = Unnamed { query, named: self.named_statements };
        let answered = timeout(self.deadline, self.taken.connection().fetch_many(query).try_collect()).await;
        answered.unwrap_or_else(|_| Err(late(self.deadline)))
    }
}

fn late(deadline: Duration) -> Error {
    let text = format!("no answer within {} ms", deadline.as_millis());
    Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
}

/// A connection out of the pool, which goes back only when it is known to be in order.
#[derive(Debug)]
struct Taken(Option<PoolConnection<Postgres>>);

impl Taken {
    fn connection(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("taken until it was answered")
    }

    /// The server has said its last word on this statement, yes or no.
    fn answered<T>(&mut self, result: &Result<T, Error>) {
        if matches!(result, Ok(_) | Err(Error::Database(_))) {
            drop(self.0.take());
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            // Closed without a word: a goodbye over a silent path would wait, too.
            drop(connection.detach());
        }
    }
}

/// A statement, named in its connection (parsed once) or not.
struct Unnamed<E> {
    query: E,
    named: bool,
}

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Unnamed<E> {
    fn sql(self) -> SqlStr {
        self.query.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.query.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<sqlx::postgres::PgArguments>, BoxDynError> {
        self.query.take_arguments()
    }

    fn persistent(&self) -> bool {
        self.named && self.query.persistent()
    }
}

impl<'c> Executor<'c> for &'c mut Transaction {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        stream::once(self.answer(query))
            .map_ok(|all| stream::iter(all.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move { Ok(self.answer(query).await?.into_iter().find_map(Either::right)) }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        self.taken.connection().prepare_with(sql, parameters)
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'c: 'e,
    {
        self.taken.connection().describe(sql)
    }
}

impl<'c> Executor<'c> for &'_ Line {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let all = self.clone().answer(query);
        stream::once(all).map_ok(|all| stream::iter(all.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let all = self.clone().answer(query);
        async move { Ok(all.await?.into_iter().find_map(Either::right)) }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        self.pool.prepare_with(sql, parameters)
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'c: 'e,
    {
        self.pool.describe(sql)
    }
}
