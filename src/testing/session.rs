use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::authority::Identity;
use super::channel::{Channel, Over};
use super::fault::{Act, Fault};
use super::journal::{Journal, Open};
use super::record::AcceptedMail;
use super::script::{Moment, Script, Stage, Tls};

/// One connection: a good server's side of the dialogue, but for the faults of the script.
pub(super) struct Session {
    channel: Channel,
    script: Arc<Script>,
    journal: Arc<Journal>,
    connection: usize,
    born: Instant,
    authenticated: bool,
    mail: Mail,
    begun: usize,
    taken: usize,
}

/// The mail that is being spoken of.
#[derive(Default)]
struct Mail {
    number: usize,
    from: Option<String>,
    to: Vec<String>,
}

impl Session {
    pub(super) async fn run(stream: TcpStream, script: Arc<Script>, journal: Arc<Journal>, open: Open) {
        let channel = Channel::new(stream, Arc::clone(&journal), open.connection);
        let mut session = Self {
            channel,
            script,
            journal,
            connection: open.connection,
            born: Instant::now(),
            authenticated: false,
            mail: Mail::default(),
            begun: 0,
            taken: 0,
        };
        // However it ended: the journal has it.
        let _ended = match open.admitted {
            true => session.converse().await,
            false => session.dismiss("421 4.7.0 too many connections\r\n").await,
        };
    }

    async fn converse(&mut self) -> Result<(), Over> {
        self.meet(Stage::Connect).await?;
        if let Some(Tls::Implicit(identity)) = self.script.tls.clone() {
            self.handshake(identity).await?;
        }
        self.answer(Stage::Banner, "220 scripted.test ESMTP\r\n").await?;
        loop {
            let line = self.command().await?;
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.ehlo().await?,
                "STARTTLS" => self.starttls().await?,
                "AUTH" => self.auth(rest).await?,
                "MAIL" => self.mail_from(rest).await?,
                "RCPT" => self.rcpt_to(rest).await?,
                "DATA" => self.data().await?,
                "RSET" => {
                    self.mail = Mail::default();
                    self.answer(Stage::Rset, "250 2.0.0 forgotten\r\n").await?;
                }
                "NOOP" => {
                    self.answer(Stage::Noop, "250 2.0.0 here\r\n").await?;
                }
                "QUIT" => {
                    self.answer(Stage::Quit, "221 2.0.0 bye\r\n").await?;
                    return Err(self.channel.hang_up().await);
                }
                _ => self.channel.write(b"500 5.5.2 what?\r\n").await?,
            }
        }
    }

    /// The next one, for which the script may not wait for ever.
    async fn command(&mut self) -> Result<String, Over> {
        let Some(limit) = self.script.idle_limit else { return self.channel.line().await };
        match timeout(limit, self.channel.line()).await {
            Ok(line) => line,
            Err(_) => Err(self.dismiss("421 4.4.2 idle for too long\r\n").await.err().unwrap_or(Over)),
        }
    }

    /// Says this, and closes.
    async fn dismiss(&mut self, words: &str) -> Result<(), Over> {
        self.channel.write(words.as_bytes()).await?;
        Err(self.channel.hang_up().await)
    }

    async fn ehlo(&mut self) -> Result<(), Over> {
        let mut lines = vec!["scripted.test".to_owned()];
        lines.extend(self.script.extensions.iter().cloned());
        if self.offers_starttls() {
            lines.push("STARTTLS".to_owned());
        }
        if let Some(login) = self.script.login.as_ref().filter(|login| !login.mechanisms.is_empty()) {
            lines.push(format!("AUTH {}", login.mechanisms));
        }
        let last = lines.pop().unwrap_or_default();
        let mut reply: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
        reply.push_str(&format!("250 {last}\r\n"));
        let behind_starttls =
            self.channel.is_encrypted() && matches!(self.script.tls, Some(Tls::StartTls(_)));
        let stage = if behind_starttls { Stage::EhloAfterTls } else { Stage::Ehlo };
        self.mail = Mail::default();
        self.answer(stage, &reply).await?;
        Ok(())
    }

    async fn starttls(&mut self) -> Result<(), Over> {
        let Some(Tls::StartTls(identity)) = self.script.tls.clone().filter(|_| self.offers_starttls()) else {
            return self.channel.write(b"502 5.5.1 no STARTTLS\r\n").await;
        };
        if self.answer(Stage::StartTls, "220 2.0.0 go\r\n").await? {
            self.handshake(identity).await?;
        }
        Ok(())
    }

    async fn handshake(&mut self, identity: Identity) -> Result<(), Over> {
        match self.fault(Stage::Tls) {
            None => {}
            Some(Fault { act: Act::Delay(by), .. }) => tokio::time::sleep(by).await,
            fault => {
                // After the client's first words: what comes before them is injection, not a handshake.
                self.channel.first_bytes().await?;
                self.perform(fault, "").await?;
                return Err(self.channel.hang_up().await);
            }
        }
        self.channel.secure(identity.config).await
    }

    async fn auth(&mut self, rest: &str) -> Result<(), Over> {
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let login = self.script.login.clone().filter(|login| login.offers(mechanism));
        let Some(login) = login else {
            return self.channel.write(b"504 5.5.4 not that way\r\n").await;
        };
        if self.tls_is_missing() {
            return self.channel.write(b"538 5.7.11 encrypt first\r\n").await;
        }
        let right = if mechanism.eq_ignore_ascii_case("XOAUTH2") {
            let right = login.takes_token(initial);
            // {"status":"401"}, which is to be answered before the refusal comes.
            if !right && !self.ask("eyJzdGF0dXMiOiI0MDEifQ==").await?.is_empty() {
                return self.channel.write(b"501 5.5.2 an empty line was due\r\n").await;
            }
            right
        } else if mechanism.eq_ignore_ascii_case("LOGIN") {
            let username = self.ask("VXNlcm5hbWU6").await?;
            let password = self.ask("UGFzc3dvcmQ6").await?;
            login.takes_login(&username, &password)
        } else if initial.is_empty() {
            let response = self.ask("").await?;
            login.takes_plain(&response)
        } else {
            login.takes_plain(initial)
        };
        let reply = if right { "235 2.7.0 welcome\r\n" } else { "535 5.7.8 wrong name or password\r\n" };
        self.authenticated = self.answer(Stage::Auth, reply).await? && right;
        Ok(())
    }

    /// A step of AUTH: RFC 4954 §4.
    async fn ask(&mut self, challenge: &str) -> Result<String, Over> {
        self.channel.write(format!("334 {challenge}\r\n").as_bytes()).await?;
        self.channel.line().await
    }

    async fn mail_from(&mut self, rest: &str) -> Result<(), Over> {
        if self.tls_is_missing() || (self.script.login.is_some() && !self.authenticated) {
            return self.channel.write(b"530 5.7.0 not before TLS and AUTH\r\n").await;
        }
        if self.mail.from.is_some() {
            return self.channel.write(b"503 5.5.1 one mail at a time\r\n").await;
        }
        self.mail.number = self.journal.begin_mail();
        self.begun += 1;
        if self.script.lifetime.is_some_and(|limit| self.born.elapsed() > limit) {
            return self.dismiss("421 4.7.0 this connection has lived long enough\r\n").await;
        }
        if self.answer(Stage::Mail, "250 2.1.0 sender ok\r\n").await? {
            self.mail.from = Some(path(rest));
        }
        Ok(())
    }

    async fn rcpt_to(&mut self, rest: &str) -> Result<(), Over> {
        if self.mail.from.is_none() {
            return self.channel.write(b"503 5.5.1 MAIL first\r\n").await;
        }
        self.mail.to.push(path(rest));
        if !self.answer(Stage::Rcpt, "250 2.1.5 recipient ok\r\n").await? {
            self.mail.to.pop();
        }
        Ok(())
    }

    async fn data(&mut self) -> Result<(), Over> {
        if self.mail.to.is_empty() {
            return self.channel.write(b"503 5.5.1 RCPT first\r\n").await;
        }
        if !self.answer(Stage::Data, "354 go on\r\n").await? {
            return Ok(());
        }
        let _in_data = self.journal.begin_data();
        self.channel.first_bytes().await?;
        self.meet(Stage::Body).await?;
        let content = self.channel.content().await?;
        let fault = self.fault(Stage::EndOfData);
        let mail = std::mem::take(&mut self.mail);
        if fault.as_ref().is_none_or(Fault::takes_the_mail) {
            let connection = self.connection;
            let from = mail.from.unwrap_or_default();
            self.take(AcceptedMail { connection, from, to: mail.to, content }).await?;
        }
        self.perform(fault, "250 2.0.0 taken\r\n").await?;
        if self.script.close_after.is_some_and(|mails| self.taken >= mails) {
            return Err(self.channel.hang_up().await);
        }
        Ok(())
    }

    /// Down on disk, then in the journal; only then may the client hear of it.
    async fn take(&mut self, mail: AcceptedMail) -> Result<(), Over> {
        if let Some(file) = self.script.record.clone() {
            let copy = mail.clone();
            let written = tokio::task::spawn_blocking(move || copy.append_to(&file)).await;
            // A mail that is not recorded is not taken: the client hears nothing good.
            written.map_err(|_| Over)??;
        }
        self.taken += 1;
        self.journal.accept(mail);
        Ok(())
    }

    /// The good reply, or what the script has in its place. True: the client was told yes.
    async fn answer(&mut self, stage: Stage, good: &str) -> Result<bool, Over> {
        let fault = self.fault(stage);
        self.perform(fault, good).await
    }

    /// A moment at which a good server says nothing.
    async fn meet(&mut self, stage: Stage) -> Result<(), Over> {
        match self.fault(stage) {
            // Not to read is what stalls somebody who writes; the connection ends with the server.
            Some(Fault { act: Act::Stall, .. }) if stage == Stage::Body => std::future::pending().await,
            Some(Fault { act: Act::Drip(every), .. }) if stage == Stage::Body => {
                Err(self.channel.sip(every).await)
            }
            fault => self.perform(fault, "").await.map(drop),
        }
    }

    fn fault(&self, stage: Stage) -> Option<Fault> {
        let (connection, mail) = (self.connection, self.mail.number);
        let moment = Moment { connection, mail, mail_of_connection: self.begun, recipients: &self.mail.to };
        self.journal.show(&self.script.rules, stage, &moment).map(|rule| rule.fault.clone())
    }

    async fn perform(&mut self, fault: Option<Fault>, good: &str) -> Result<bool, Over> {
        let yes = good.as_bytes();
        let channel = &mut self.channel;
        match fault.map(|fault| fault.act) {
            None if good.is_empty() => {}
            None => channel.write(yes).await?,
            Some(Act::Reply { code, bytes }) => {
                channel.write(&bytes).await?;
                if code == 421 {
                    return Err(channel.hang_up().await);
                }
                return Ok(code < 400);
            }
            Some(Act::Raw(bytes)) => channel.write(&bytes).await?,
            Some(Act::Stall) => return Err(channel.stall().await),
            Some(Act::Delay(by)) => {
                tokio::time::sleep(by).await;
                channel.write(yes).await?;
            }
            Some(Act::Drip(every)) => channel.drip(yes, every).await?,
            Some(Act::HangUp) => return Err(channel.hang_up().await),
            Some(Act::Reset) => return Err(channel.reset()),
            Some(Act::FollowedBy(bytes)) => channel.write(&[yes, &bytes].concat()).await?,
            Some(Act::Twice) => channel.write(&[yes, yes].concat()).await?,
            Some(Act::BareLf) => channel.write(good.replace("\r\n", "\n").as_bytes()).await?,
        }
        Ok(good.as_bytes().first().is_none_or(|digit| *digit < b'4'))
    }

    fn offers_starttls(&self) -> bool {
        let asked = matches!(self.script.tls, Some(Tls::StartTls(_)));
        asked && !self.script.strip_starttls && !self.channel.is_encrypted()
    }

    /// A stripped server takes what it is given: that is what the client must not do.
    fn tls_is_missing(&self) -> bool {
        self.offers_starttls()
    }
}

/// The address in `FROM:<a@x.test> SIZE=1`.
fn path(rest: &str) -> String {
    let address = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    address.map_or(rest, |(address, _)| address).to_owned()
}
