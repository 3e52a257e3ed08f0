//! The inbox's SMTP server, over a socket.
#![cfg(feature = "local")]

mod inbox;

use std::path::Path;

use inbox::{Done, Smtp, client, start};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The mails in the folder, oldest first.
fn kept(folder: &Path) -> Done<Vec<String>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "eml") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| Ok(String::from_utf8(std::fs::read(path)?)?)).collect()
}

async fn announced(inbox: &inbox::Running) -> Done<Smtp> {
    let mut smtp = Smtp::greeted(inbox.smtp).await?;
    assert_eq!(smtp.say("MAIL FROM:<>").await?, "250");
    assert_eq!(smtp.say("RCPT TO:<a@local.test>").await?, "250");
    Ok(smtp)
}

#[tokio::test]
async fn a_conversation_is_answered_by_the_book() -> Done {
    let inbox = start().await?;
    let mut smtp = Smtp(tokio::io::BufReader::new(tokio::net::TcpStream::connect(inbox.smtp).await?));
    assert_eq!(smtp.reply().await?, "220");
    for (line, code) in [
        ("MAIL FROM:<a@b.test>", "503"),
        ("AUTH PLAIN AGEAYg==", "503"),
        ("EHLO", "501"),
        ("HELO me", "250"),
        ("EHLO me", "250"),
        ("RCPT TO:<a@b.test>", "503"),
        ("DATA", "503"),
        ("MAIL FROM:<a@b.test> SIZE=26214401", "552"),
        ("MAIL FROM:<a@b.test> SMTPUTF8", "555"),
        ("MAIL FROM:<a@b.test> SIZE=1000 BODY=8BITMIME", "250"),
        ("MAIL FROM:<a@b.test>", "503"),
        ("DATA", "503"),
        ("RCPT TO:<>", "501"),
        ("RCPT TO:<a@b.test>", "250"),
        ("RSET", "250"),
        ("DATA", "503"),
        ("NOOP", "250"),
        ("VRFY a", "252"),
        ("STARTTLS", "502"),
        ("NONSENSE", "500"),
        ("NOOP\nNOOP", "500"),
        ("QUIT", "221"),
    ] {
        let sent = line.replace("NOOP\nNOOP", "NOOP\n");
        let answer = if sent.ends_with('\n') {
            smtp.0.write_all(sent.as_bytes()).await?;
            smtp.reply().await?
        } else {
            smtp.say(line).await?
        };
        assert_eq!(answer, code, "{line}");
    }
    assert_eq!(smtp.reply().await?, "closed");
    assert_eq!(kept(&inbox.folder)?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn any_credentials_do() -> Done {
    let inbox = start().await?;
    for dialogue in [
        &[("AUTH PLAIN AGEAYg==", "235"), ("AUTH PLAIN AGEAYg==", "503")][..],
        &[("AUTH PLAIN", "334"), ("AGEAYg==", "235")],
        &[("AUTH LOGIN", "334"), ("YQ==", "334"), ("Yg==", "235")],
        &[("AUTH LOGIN YQ==", "334"), ("Yg==", "235")],
        &[("AUTH LOGIN", "334"), ("*", "501"), ("AUTH CRAM-MD5", "504")],
    ] {
        let mut smtp = Smtp::greeted(inbox.smtp).await?;
        for (line, code) in dialogue {
            assert_eq!(smtp.say(line).await?, *code, "{line}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_mail_arrives_whatever_its_body_holds() -> Done {
    let inbox = start().await?;
    let evil = "MAIL FROM:<x@evil.test>\r\nRCPT TO:<y@evil.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx";
    let ends = ["\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\n\n.\r\r\n"];
    let mut expected = Vec::new();
    for (cut, end) in ends.iter().enumerate() {
        let body = format!("Subject: {cut}\r\n\r\nbefore{end}{evil}\r\n");
        let mut smtp = announced(&inbox).await?;
        assert_eq!(smtp.say("DATA").await?, "354");
        // Cut in the middle of what must not be taken for the end.
        let (first, second) = body.split_at(body.find("before").unwrap_or_default() + 7);
        for piece in [first, second, ".\r\n"] {
            smtp.0.write_all(piece.as_bytes()).await?;
            smtp.0.flush().await?;
        }
        assert_eq!(smtp.reply().await?, "250", "{end:?}");
        assert_eq!(smtp.say("QUIT").await?, "221");
        // The client did not stuff the dot behind CRLF, so the transport's rule takes it.
        expected.push(body.replace("\r\n.", "\r\n"));
    }
    assert_eq!(kept(&inbox.folder)?, expected);
    Ok(())
}

#[tokio::test]
async fn pipelined_mails_and_several_recipients_are_kept_apart() -> Done {
    let inbox = start().await?;
    let mut smtp = Smtp::greeted(inbox.smtp).await?;
    let mail = "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nRCPT TO:<e@f.test>\r\nDATA\r\n";
    smtp.0.write_all(format!("{mail}one\r\n.\r\n{mail}..two\r\n.\r\nQUIT\r\n").as_bytes()).await?;
    let mut answers = String::new();
    smtp.0.read_to_string(&mut answers).await?;
    let codes: Vec<&str> = answers.lines().filter_map(|line| line.get(..3)).collect();
    assert_eq!(codes, ["250", "250", "250", "354", "250", "250", "250", "250", "354", "250", "221"]);
    assert_eq!(kept(&inbox.folder)?, ["one\r\n", ".two\r\n"]);
    Ok(())
}

#[tokio::test]
async fn a_mail_is_on_the_list_when_its_250_is_said() -> Done {
    let inbox = start().await?;
    for number in 0..20 {
        inbox.deliver(&["a@local.test"], &format!("Subject: number {number}\r\n\r\n")).await?;
        let list = client()?.get(format!("http://{}/api/messages", inbox.http)).send().await?.text().await?;
        assert!(list.contains(&format!("number {number}\"")), "{list}");
    }
    Ok(())
}

#[tokio::test]
async fn a_mail_that_is_too_large_is_refused_and_the_conversation_goes_on() -> Done {
    let inbox = start().await?;
    let mut smtp = announced(&inbox).await?;
    assert_eq!(smtp.say("DATA").await?, "354");
    let line = format!("{}\r\n", "x".repeat(8190));
    for _ in 0..3201 {
        smtp.0.write_all(line.as_bytes()).await?;
    }
    assert_eq!(smtp.say(".").await?, "552");
    assert_eq!(smtp.say("NOOP").await?, "250");
    assert_eq!(kept(&inbox.folder)?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn endless_lines_mistakes_and_browsers_are_sent_away() -> Done {
    let inbox = start().await?;
    let mut smtp = Smtp::greeted(inbox.smtp).await?;
    assert_eq!(smtp.say(&"x".repeat(100_000)).await?, "500");
    for _ in 0..19 {
        assert_eq!(smtp.say("NONSENSE").await?, "500");
    }
    assert_eq!(smtp.say("NONSENSE").await?, "421");
    let mut smtp = Smtp::greeted(inbox.smtp).await?;
    assert_eq!(smtp.say("POST / HTTP/1.1").await?, "554");
    assert_eq!(smtp.reply().await?, "closed");
    Ok(())
}

#[tokio::test]
async fn lettre_delivers_with_a_login() -> Done {
    let inbox = start().await?;
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(inbox.smtp.port())
        .credentials(Credentials::new("anybody".into(), "anything".into()))
        .build();
    let message = Message::builder()
        .from("a@local.test".parse()?)
        .to("b@local.test".parse()?)
        .subject("Bonjour à tous")
        .body("Été\n.\n..\nfin".to_owned())?;
    let sent = message.formatted();
    transport.send(message).await?;
    assert_eq!(kept(&inbox.folder)?, [format!("{}\r\n", String::from_utf8(sent)?.trim_end_matches("\r\n"))]);
    Ok(())
}
