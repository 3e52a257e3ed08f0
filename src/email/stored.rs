use time::OffsetDateTime;

use super::{Attachment, EmailId, Header, Mailbox};

/// An e-mail as the outbox keeps it: what is needed to render it, the same every time.
///
/// The blind recipients are not here: they are in the envelopes of their deliveries only.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEmail {
    /// Its name.
    pub id: EmailId,
    /// The `Message-ID` without angle brackets, fixed when it was enqueued.
    pub message_id: String,
    /// The `Date`, fixed when it was enqueued, to the second.
    pub date: OffsetDateTime,
    /// What the MIME boundaries are made of, fixed when it was enqueued.
    pub boundary: String,
    /// The author, and the envelope's sender.
    pub from: Mailbox,
    /// Recipients that everybody sees.
    pub to: Vec<Mailbox>,
    /// Recipients of visible copies.
    pub cc: Vec<Mailbox>,
    /// Where answers go.
    pub reply_to: Vec<Mailbox>,
    /// In plain Unicode.
    pub subject: String,
    /// The plain text.
    pub text: Option<String>,
    /// The HTML.
    pub html: Option<String>,
    /// The caller's own headers, in order.
    pub headers: Vec<Header>,
    /// The files, in order.
    pub attachments: Vec<Attachment>,
}
