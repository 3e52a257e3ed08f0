use super::record::TakenMail;
use super::wire::{Received, Said};
use super::{brevo, mailgun, mailjet, postmark, scaleway, sendgrid, ses};
use crate::settings::Api;

/// Whose API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the name of a provider")]
pub enum Provider {
    Ses,
    Mailgun,
    SendGrid,
    Postmark,
    Brevo,
    Mailjet,
    Scaleway,
}

/// What a provider can be unhappy about; each says it in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The request is not what the documentation says.
    Malformed,
    /// The recipient is invalid, or known to bounce.
    Recipient,
    /// Too many requests. Where the provider says for how long, it says 30 seconds.
    Throttled,
    /// The key is wrong.
    Credentials,
    /// The account was suspended.
    Suspended,
    /// The sender was not verified.
    Sender,
    /// The quota or the credits are used up.
    Quota,
    /// There is no API at this address.
    Address,
    /// Down for maintenance.
    Unwell,
    /// A fault inside.
    Broken,
}

/// How one provider behaves.
pub(super) struct Manners {
    /// The settings that lead to this address, with the key that it knows.
    pub(super) settings: fn(base_url: String) -> Api,
    /// Whether a request bears that key.
    pub(super) knows: fn(&Received) -> bool,
    /// Where mails are posted.
    pub(super) send: &'static str,
    /// Where a key is tried.
    pub(super) login: &'static str,
    /// The mail in a request; none when something required is missing.
    pub(super) read: fn(&Received) -> Option<TakenMail>,
    /// What it says of a mail that it took, under this id.
    pub(super) took: fn(&str, &TakenMail) -> Said,
    /// What it says otherwise.
    pub(super) refuses: fn(Trouble) -> Said,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Ses,
        Self::Mailgun,
        Self::SendGrid,
        Self::Postmark,
        Self::Brevo,
        Self::Mailjet,
        Self::Scaleway,
    ];

    pub(super) fn manners(self) -> &'static Manners {
        match self {
            Self::Ses => &ses::MANNERS,
            Self::Mailgun => &mailgun::MANNERS,
            Self::SendGrid => &sendgrid::MANNERS,
            Self::Postmark => &postmark::MANNERS,
            Self::Brevo => &brevo::MANNERS,
            Self::Mailjet => &mailjet::MANNERS,
            Self::Scaleway => &scaleway::MANNERS,
        }
    }
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::Recipient,
        Self::Throttled,
        Self::Credentials,
        Self::Suspended,
        Self::Sender,
        Self::Quota,
        Self::Address,
        Self::Unwell,
        Self::Broken,
    ];
}
