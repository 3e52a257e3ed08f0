//! What a server cannot take: SIZE, seven bits, addresses beyond ASCII.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod transport;

use facteur::testing::{Script, SmtpServer};
use facteur::transport::{Outcome, Parcel};

use transport::{FROM, MESSAGE, OpenGate, patient, send};

fn modes() -> [Script; 2] {
    [Script::new().without_pipelining(), Script::new()]
}

#[tokio::test]
async fn a_size_is_announced_where_it_is_asked_for() {
    let bytes = MESSAGE.len();
    for (script, said) in [
        (Script::new(), format!("MAIL FROM:<{FROM}> SIZE={bytes}\r\n")),
        (Script::new().size(0), format!("MAIL FROM:<{FROM}> SIZE={bytes}\r\n")),
        (Script::new().without_extensions(), format!("MAIL FROM:<{FROM}>\r\n")),
        (
            Script::new().without_extensions().extension("size"),
            format!("MAIL FROM:<{FROM}> SIZE={bytes}\r\n"),
        ),
    ] {
        let server = SmtpServer::start(script).await.unwrap();
        assert!(matches!(send(&patient(&server.relay()), "ada@example.test").await, Outcome::Sent(_)));
        assert!(server.conversations()[0].heard(&said), "{said}");
    }
}

#[tokio::test]
async fn a_mail_over_the_limit_is_refused_before_it_is_sent() {
    let limit = MESSAGE.len() as u64;
    for script in modes() {
        let server = SmtpServer::start(script.size(limit)).await.unwrap();
        let way = patient(&server.relay());
        let large = [MESSAGE, b"x\r\n"].concat();
        let parcel = Parcel { from: FROM, to: "ada@example.test", message: &large, email: &transport::EMAIL };
        for _ in 0..2 {
            let Outcome::Reject(report) = way.send(parcel, &OpenGate).await else { panic!() };
            let expected =
                format!("the message has {} bytes, and the server takes {limit} at most", limit + 3);
            assert_eq!((report.stage.as_str(), report.code, report.text), ("mail", None, expected));
        }
        assert!(!server.conversations()[0].heard("MAIL"));
        // It says nothing of the connection: the next goes out on the same, and fits exactly.
        assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
        assert_eq!((server.counters().opened, server.accepted().len()), (1, 1));
    }
}

#[tokio::test]
async fn messages_stay_in_seven_bits_whatever_the_server_could_take() {
    for script in [Script::new(), Script::new().without_extensions()] {
        let server = SmtpServer::start(script).await.unwrap();
        let way = patient(&server.relay());
        let message = stored("Déjà vu : 日本 🎉\r\n.\r\n").render().unwrap();
        let parcel =
            Parcel { from: FROM, to: "ada@example.test", message: &message, email: &transport::EMAIL };
        assert!(matches!(way.send(parcel, &OpenGate).await, Outcome::Sent(_)));
        let conversation = &server.conversations()[0];
        assert!(conversation.received().is_ascii());
        assert!(!conversation.heard("BODY="));
    }
}

fn stored(text: &str) -> facteur::email::StoredEmail {
    facteur::email::StoredEmail {
        id: uuid::Uuid::nil().into(),
        message_id: "1@example.test".into(),
        date: time::OffsetDateTime::UNIX_EPOCH,
        boundary: "b".into(),
        from: "shop@example.test".parse().unwrap(),
        to: vec!["ada@example.test".parse().unwrap()],
        cc: vec![],
        reply_to: vec![],
        subject: "Ça va ?".into(),
        text: Some(text.to_owned()),
        html: Some("<p>Déjà vu : 日本 🎉</p>".to_owned()),
        headers: vec![],
        attachments: vec![],
    }
}

#[tokio::test]
async fn an_address_beyond_ascii_goes_only_where_it_is_understood() {
    for (from, to, stage) in
        [(FROM, "zoë@example.test", "rcpt"), ("zoë@example.test", "ada@example.test", "mail")]
    {
        for script in modes() {
            let parcel = Parcel { from, to, message: MESSAGE, email: &transport::EMAIL };
            let server = SmtpServer::start(script.clone()).await.unwrap();
            let way = patient(&server.relay());
            let Outcome::Reject(report) = way.send(parcel, &OpenGate).await else { panic!("{to}") };
            assert_eq!((report.stage.as_str(), report.code), (stage, None));
            assert!(report.text.contains("SMTPUTF8"), "{}", report.text);
            assert!(!server.conversations()[0].heard("MAIL"));
            assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
            assert_eq!(server.counters().opened, 1);

            let server = SmtpServer::start(script.extension("SMTPUTF8")).await.unwrap();
            assert!(matches!(patient(&server.relay()).send(parcel, &OpenGate).await, Outcome::Sent(_)));
            assert!(server.conversations()[0].heard(" SMTPUTF8\r\n"));
            assert_eq!(server.accepted()[0].to, [to]);
        }
    }
}

#[tokio::test]
async fn a_domain_beyond_ascii_needs_nothing_of_the_server() {
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let parcel = Parcel { from: FROM, to: "ada@bücher.test", message: MESSAGE, email: &transport::EMAIL };
    assert!(matches!(patient(&server.relay()).send(parcel, &OpenGate).await, Outcome::Sent(_)));
    assert_eq!(server.accepted()[0].to, ["ada@xn--bcher-kva.test"]);
    assert!(!server.conversations()[0].heard("SMTPUTF8"));
}

#[tokio::test]
async fn what_is_no_address_is_that_mails_own_fault() {
    for (from, to) in [(FROM, "nobody"), ("nobody", "ada@example.test"), (FROM, "a@b.test>\r\nDATA")] {
        let server = SmtpServer::start(Script::new()).await.unwrap();
        let parcel = Parcel { from, to, message: MESSAGE, email: &transport::EMAIL };
        let outcome = patient(&server.relay()).send(parcel, &OpenGate).await;
        assert!(matches!(outcome, Outcome::Reject(_)), "{outcome:?}");
        assert!(!server.conversations()[0].heard("MAIL"));
    }
}
