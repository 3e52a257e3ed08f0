//! One provider's HTTP API, as mail leaves through it.

use secrecy::SecretString;

/// A provider and what it wants to know. `base_url` replaces the provider's address, for a test or an emulator.
#[derive(Debug, Clone)]
pub enum Api {
    /// Amazon SES, version 2.
    Ses(Ses),
    /// Mailgun.
    Mailgun(Mailgun),
    /// Twilio SendGrid.
    SendGrid(SendGrid),
    /// Postmark.
    Postmark(Postmark),
    /// Brevo.
    Brevo(Brevo),
    /// Mailjet.
    Mailjet(Mailjet),
    /// Scaleway Transactional Email.
    Scaleway(Scaleway),
}

/// Where a provider that has two places keeps the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Region {
    /// The provider's own: the United States for Mailgun and SendGrid, Europe for Mailjet.
    #[default]
    Default,
    /// The European Union.
    Eu,
    /// The United States.
    Us,
}

/// Amazon SES with the keys of an IAM user that may `ses:SendRawEmail` and `ses:GetAccount`.
#[derive(Debug, Clone)]
pub struct Ses {
    /// Such as `eu-west-3`.
    pub region: String,
    /// `AKIA…`; no secret by itself, kept like one.
    pub access_key_id: SecretString,
    /// Its secret, which signs and never leaves.
    pub secret_access_key: SecretString,
    /// Of temporary credentials.
    pub session_token: Option<SecretString>,
    /// The configuration set that the mails belong to.
    pub configuration_set: Option<String>,
    /// Instead of `https://email.{region}.amazonaws.com`.
    pub base_url: Option<String>,
}

/// Mailgun with a sending key of one domain.
#[derive(Debug, Clone)]
pub struct Mailgun {
    /// The sending domain, as Mailgun knows it.
    pub domain: String,
    /// The key.
    pub api_key: SecretString,
    /// Where the domain is.
    pub region: Region,
    /// Instead of `https://api.mailgun.net` or `https://api.eu.mailgun.net`.
    pub base_url: Option<String>,
}

/// SendGrid with a key that has the scope `mail.send`.
#[derive(Debug, Clone)]
pub struct SendGrid {
    /// `SG.…`.
    pub api_key: SecretString,
    /// Where the (sub)user is.
    pub region: Region,
    /// Instead of `https://api.sendgrid.com` or `https://api.eu.sendgrid.com`.
    pub base_url: Option<String>,
}

/// Postmark with the token of one server.
#[derive(Debug, Clone)]
pub struct Postmark {
    /// The server's token.
    pub server_token: SecretString,
    /// The stream; Postmark's `outbound` when unset.
    pub message_stream: Option<String>,
    /// Instead of `https://api.postmarkapp.com`.
    pub base_url: Option<String>,
}

/// Brevo.
#[derive(Debug, Clone)]
pub struct Brevo {
    /// `xkeysib-…`.
    pub api_key: SecretString,
    /// Instead of `https://api.brevo.com`.
    pub base_url: Option<String>,
}

/// Mailjet.
#[derive(Debug, Clone)]
pub struct Mailjet {
    /// The public half of the key.
    pub api_key: SecretString,
    /// The secret half.
    pub secret_key: SecretString,
    /// Where the account is.
    pub region: Region,
    /// Instead of `https://api.mailjet.com` or `https://api.us.mailjet.com`.
    pub base_url: Option<String>,
}

/// Scaleway Transactional Email with a key that may `TransactionalEmailFullAccess`.
#[derive(Debug, Clone)]
pub struct Scaleway {
    /// Such as `fr-par`.
    pub region: String,
    /// The project's UUID.
    pub project_id: String,
    /// The secret half of an API key.
    pub secret_key: SecretString,
    /// Instead of `https://api.scaleway.com`.
    pub base_url: Option<String>,
}
