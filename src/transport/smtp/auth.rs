//! Logging in (RFC 4954): with a token where there is one, else with PLAIN or LOGIN.

use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials as LettreCredentials, Mechanism};
use lettre::transport::smtp::commands::Auth;
use lettre::transport::smtp::response::Response;
use tokio::time::timeout;

use super::super::Stage;
use super::super::recorder::Mode;
use super::SmtpTransport;
use super::connection::Connection;
use super::failure::Failure;
use super::oauth::Tokens;
use crate::settings::{Credentials, ExposeSecret, SecretString};

impl SmtpTransport {
    /// Whatever login is set, in this order: XOAUTH2, PLAIN, LOGIN.
    pub(super) async fn log_in(&self, mut connection: Connection) -> Result<Connection, Failure> {
        let can_show_token = connection.offers.has_mechanism("XOAUTH2");
        match (&self.tokens, &self.relay.credentials) {
            (Some(tokens), _) if can_show_token => self.log_in_with_token(connection, tokens).await,
            (_, Some(credentials)) => {
                connection.auth(credentials).await?;
                Ok(connection)
            }
            (Some(_), None) => {
                let text = "the server does not offer AUTH XOAUTH2, and no password is set".into();
                Err(Failure::Unfit { stage: Stage::Auth, text })
            }
            (None, None) => Ok(connection),
        }
    }

    /// A token that is refused may have been revoked, or have expired early: once, another is fetched.
    /// It is shown on a new connection, because some servers hang up on the first refusal.
    async fn log_in_with_token(
        &self,
        mut connection: Connection,
        tokens: &Tokens,
    ) -> Result<Connection, Failure> {
        let token = self.token(tokens, None).await?;
        match connection.show_token(tokens.mailbox(), &token).await {
            Ok(()) => return Ok(connection),
            Err(Failure::Refused { code: 535, .. }) => drop(connection),
            Err(failure) => return Err(failure),
        }
        let token = self.token(tokens, Some(&token)).await?;
        let mut connection = self.open().await?;
        connection.show_token(tokens.mailbox(), &token).await?;
        Ok(connection)
    }

    async fn token(&self, tokens: &Tokens, refused: Option<&SecretString>) -> Result<SecretString, Failure> {
        let token = tokens.get(refused, self.deadlines.auth).await?;
        if let Some(recorder) = &self.recorder {
            recorder.hide(&token);
            recorder.note("the token endpoint gave a token");
        }
        Ok(token)
    }
}

impl Connection {
    /// Logs in with PLAIN or LOGIN, whichever the server offers.
    async fn auth(&mut self, credentials: &Credentials) -> Result<(), Failure> {
        let known = [(Mechanism::Plain, "PLAIN"), (Mechanism::Login, "LOGIN")];
        let offered = known.into_iter().find(|(_, name)| self.offers.has_mechanism(name));
        let Some((mechanism, _)) = offered else {
            let text = "the server offers neither AUTH PLAIN nor AUTH LOGIN".into();
            return Err(Failure::Unfit { stage: Stage::Auth, text });
        };
        let given = given(&credentials.username, &credentials.password);
        self.wire.show(Mode::Secret);
        let answer = timeout(self.deadlines.auth, self.converse(mechanism, given)).await;
        self.wire.show(Mode::Commands);
        self.judge(Stage::Auth, &[235], answer)
    }

    /// lettre's own loop says QUIT to a refusal behind a challenge, and takes its answer for the refusal's.
    async fn converse(
        &mut self,
        mechanism: Mechanism,
        given: LettreCredentials,
    ) -> Result<Response, SmtpError> {
        let mut reply = self.smtp.command(Auth::new(mechanism, given.clone(), None)?).await?;
        // LOGIN has two challenges, PLAIN at most one.
        for _ in 0..2 {
            if !reply.has_code(334) {
                break;
            }
            reply = self.smtp.command(Auth::new_from_response(mechanism, given.clone(), &reply)?).await?;
        }
        Ok(reply)
    }

    async fn show_token(&mut self, mailbox: &SecretString, token: &SecretString) -> Result<(), Failure> {
        let given = given(mailbox, token);
        self.wire.show(Mode::Secret);
        let answer = timeout(self.deadlines.auth, async {
            let reply = self.smtp.command(Auth::new(Mechanism::Xoauth2, given, None)?).await?;
            // Why not, as JSON; the server says no once it has had an empty line for it.
            if reply.has_code(334) { self.smtp.command("\r\n").await } else { Ok(reply) }
        });
        let answer = answer.await;
        self.wire.show(Mode::Commands);
        self.judge(Stage::Auth, &[235], answer)
    }
}

fn given(name: &SecretString, secret: &SecretString) -> LettreCredentials {
    LettreCredentials::new(name.expose_secret().to_owned(), secret.expose_secret().to_owned())
}
