//! Clients of `POST /emails/batch` that are gone before the answer: all of the batch, or none of it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use facteur::email::EmailBuilder;
use facteur::outbox::Origin;
use facteur::{Attachment, Email};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::door::{Door, email};
use crate::support::outbox::TestOutbox;

const SIZE: i64 = 5;

/// Batches of which some part is there, and not all: e-mails, their files, their deliveries.
async fn torn(t: &TestOutbox) -> i64 {
    t.number(&format!(
        "SELECT count(*) FROM (
           SELECT FROM facteur.emails e
           LEFT JOIN facteur.attachments f ON f.email_id = e.id AND octet_length(f.content) = 3000
           LEFT JOIN facteur.deliveries d ON d.email_id = e.id
           GROUP BY split_part(e.subject, ' ', 1)
           HAVING (count(*), count(f.email_id), count(d.email_id)) <> ({SIZE}, {SIZE}, {SIZE})) AS broken"
    ))
    .await
}

async fn whole(t: &TestOutbox) -> i64 {
    t.number("SELECT count(*) FROM facteur.emails").await / SIZE
}

fn request(name: usize) -> Vec<u8> {
    let file = json!([{"filename": "abc.txt", "content": "QUJD".repeat(1_000)}]);
    let emails: Vec<Value> = (0..SIZE)
        .map(|i| email(json!({"subject": format!("batch{name} {i}"), "attachments": file})))
        .collect();
    let body = json!(emails).to_string();
    let head = format!(
        "POST /emails/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_a_whole_batch_or_none() {
    const CLIENTS: usize = 150;
    let door = Door::open().await;
    let address = door.base.trim_start_matches("http://").to_owned();
    let begun = Instant::now();
    let all: Vec<Value> = (0..SIZE).map(|i| email(json!({"subject": format!("usual {i}"), "attachments": [{"filename": "a", "content": "QUJD".repeat(1_000)}]}))).collect();
    let usual =
        crate::door::answer(door.request(reqwest::Method::POST, "/emails/batch").json(&json!(all))).await;
    assert_eq!(usual.status, 200, "{}", usual.body);
    let usual = begun.elapsed();
    for i in 0..CLIENTS {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let request = request(i);
        // Every third in the middle of it.
        let part = if i % 3 == 0 { request.len() * i / CLIENTS } else { request.len() };
        stream.write_all(&request[..part]).await.unwrap();
        let pause = usual.mul_f64(1.5 * i as f64 / CLIENTS as f64);
        tokio::task::spawn_blocking(move || std::thread::sleep(pause)).await.unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
        assert_eq!(torn(&door.t).await, 0, "nobody ever sees a part of one");
    }
    until_idle(&door.t).await;
    assert_eq!(torn(&door.t).await, 0);
    let whole = whole(&door.t).await - 1;
    assert!((1..CLIENTS as i64).contains(&whole), "{whole} of {CLIENTS}: some came too late to be stopped");
}

/// Nothing of what was asked for is still being written.
async fn until_idle(t: &TestOutbox) {
    let busy = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'";
    let mut quiet = 0;
    let end = Instant::now() + Duration::from_secs(20);
    while quiet < 20 {
        quiet = if t.number(busy).await == 0 { quiet + 1 } else { 0 };
        assert!(Instant::now() < end, "a statement does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn one(batch: usize, i: i64) -> EmailBuilder {
    Email::builder("shop@x.test", "ada@x.test", format!("batch{batch} {i}"), "Hello").attach(Attachment::new(
        "abc.txt",
        "text/plain",
        b"ABC".repeat(1_000),
    ))
}

/// Without a server that carries the request to its end: the work itself, dropped at each place at which it waits.
#[tokio::test]
async fn a_batch_that_is_dropped_at_any_moment_is_whole_or_none() {
    let t = TestOutbox::new().await;
    let origin = Origin { caller: Some("shop".into()), request: None, batch: true };
    let mut ended = 0;
    for most in 1.. {
        let emails: Vec<Email> = (0..SIZE).map(|i| one(most, i).build().unwrap()).collect();
        let waits = drop_after(most, t.outbox.enqueue_all(&emails, &origin)).await;
        assert_eq!(torn(&t).await, 0, "dropped when it waited for the {most}th time");
        ended += i32::from(waits.is_some());
        if ended == 3 {
            eprintln!("dropped at {} places", most - ended as usize);
            break;
        }
    }
    until_idle(&t).await;
    assert_eq!(torn(&t).await, 0);
    assert!(whole(&t).await >= 3, "what was answered is there");
}

/// Drops it when it is not done after so many times of waiting.
async fn drop_after<F: Future>(most: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = 0;
    std::future::poll_fn(move |context: &mut Context<'_>| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if polls == most => Poll::Ready(None),
        Poll::Pending => {
            polls += 1;
            Poll::Pending
        }
    })
    .await
}
