//! An order and its mail: both, or neither.
//!
//! ```text
//! DATABASE_URL=postgres://… EMAIL_FROM=shop@local.test cargo run --example order
//! ```
//!
//! A running Facteur on the same database sends the first mail; the second never existed.

#![expect(clippy::print_stdout, reason = "an example that tells what happened")]

use sqlx::PgPool;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[expect(clippy::disallowed_methods, reason = "an example is its own main program")]
    let url =
        std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL to the database that Facteur uses")?;
    let pool = PgPool::connect(&url).await?;
    facteur::migrate(&pool).await?;
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS example_orders (id bigserial PRIMARY KEY, customer text NOT NULL)",
    )
    .execute(&pool)
    .await?;

    let kept = order(&pool, "ada@local.test", Payment::Accepted).await?;
    let undone = order(&pool, "bob@local.test", Payment::Refused).await?;
    println!("Ada's order committed:    {}", described(&pool, kept).await?);
    println!("Bob's order rolled back:  {}", described(&pool, undone).await?);
    Ok(())
}

enum Payment {
    Accepted,
    Refused,
}

/// Stores an order and queues its mail in one transaction; whether both are kept is the payment's.
async fn order(
    pool: &PgPool,
    customer: &str,
    payment: Payment,
) -> Result<facteur::EmailId, Box<dyn std::error::Error>> {
    let mut transaction = pool.begin().await?;
    sqlx::query("INSERT INTO example_orders (customer) VALUES ($1)")
        .bind(customer)
        .execute(&mut *transaction)
        .await?;
    let subject = "Your order";
    let id = facteur::send_email(&mut *transaction, customer, subject, "Thank you, it is on its way.", None)
        .await?;
    match payment {
        Payment::Accepted => transaction.commit().await?,
        Payment::Refused => transaction.rollback().await?,
    }
    Ok(id)
}

async fn described(pool: &PgPool, id: facteur::EmailId) -> Result<String, Box<dyn std::error::Error>> {
    let email = facteur::Outbox::new(pool.clone()).find(id).await?;
    Ok(match email {
        Some(email) => format!("the mail {id} is {}", email.deliveries[0].state),
        None => format!("there is no mail {id}"),
    })
}
