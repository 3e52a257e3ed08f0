//! Servers that close connections between two mails, as they may: no attempt is lost to it.

use std::time::Duration;

use facteur::settings::Relay;
use facteur::testing::{Fault, Script, SmtpServer, Stage};

use crate::case::{Figures, Scale};
use crate::database::Database;
use crate::smtp_worker::{burnt_attempts, emptied, worker};
use crate::transport::deadlines;

/// Mails that a server takes on one connection.
const EACH: usize = 20;
/// How long a server lets a connection idle or live.
const LIMIT: Duration = Duration::from_millis(200);

/// What a server does, and what is sent to it: so many rounds of so many mails.
struct Habit {
    name: &'static str,
    script: Script,
    rounds: usize,
    mails: usize,
    /// Connections that cannot be done without.
    connections: usize,
}

pub(crate) async fn r11(scale: Scale) -> Figures {
    let rounds = scale.pick(5, 50);
    let many = scale.pick(100, 1_000);
    let late = Fault::reply(421, "4.7.0 too many mails on this connection");
    let habits = [
        Habit {
            name: "idle",
            script: Script::new().idle_limit(LIMIT),
            rounds,
            mails: 1,
            connections: rounds,
        },
        Habit {
            name: "after_20",
            script: Script::new().at(Stage::Mail, late).on_mail_of_connection(EACH + 1),
            rounds: 1,
            mails: many,
            connections: many / EACH,
        },
        Habit {
            name: "hang_up_after_20",
            script: Script::new().close_after(EACH),
            rounds: 1,
            mails: many,
            connections: many / EACH,
        },
        Habit {
            name: "lifetime",
            script: Script::new().lifetime(LIMIT),
            rounds,
            mails: 1,
            connections: rounds,
        },
    ];
    let mut figures = Figures::new();
    let database = Database::new().await;
    for habit in habits {
        kept(&habit, emptied(&database).await, &mut figures).await;
    }
    figures
}

async fn kept(habit: &Habit, database: &Database, figures: &mut Figures) {
    let server = SmtpServer::start(habit.script.clone()).await.unwrap();
    let relay = Relay { max_connections: 2, ..server.relay() };
    let worker = worker(database, &relay, deadlines(Duration::from_secs(10)));
    for round in 1..=habit.rounds {
        database.enqueue(habit.mails).await;
        worker.drain().await.unwrap();
        if round < habit.rounds {
            pause(habit, &server).await;
        }
    }
    let mails = habit.rounds * habit.mails;
    let sent = database.number("SELECT count(*) FROM facteur.outcomes WHERE final = 'sent'").await;
    let Habit { name, connections, .. } = habit;
    figures
        .exactly(&format!("{name}_sent"), sent, mails as i64)
        .exactly(&format!("{name}_burnt_attempts"), burnt_attempts(database).await, 0)
        .at_least(&format!("{name}_connections"), server.counters().opened, *connections)
        .must(server.accepted().len() == mails, format!("{name}: each mail once"))
        // One more than the other slot may need.
        .must(server.counters().opened <= connections + 1, format!("{name}: not one for each mail"));
}

/// Until the server has closed, or would at the next mail.
async fn pause(habit: &Habit, server: &SmtpServer) {
    if habit.name == "idle" {
        server.wait_until(|server| server.counters().open == 0).await;
    } else {
        tokio::time::sleep(LIMIT + Duration::from_millis(20)).await;
    }
}
