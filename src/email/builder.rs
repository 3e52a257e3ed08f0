use time::OffsetDateTime;

use super::address::{AddressError, Mailbox};
use super::attachment::{Attachment, AttachmentError};
use super::field::{FieldError, single_line};
use super::header::{Header, HeaderError};

/// Characters of a subject.
const MAX_SUBJECT: usize = 998;
/// Mailboxes in one of `to`, `cc`, `bcc`, `reply_to`.
const MAX_RECIPIENTS: usize = 50;
/// Custom headers, and their bytes together.
const MAX_HEADERS: usize = 50;
const MAX_HEADER_BYTES: usize = 16_000;
/// Bytes of text, HTML and attachments together, before they are encoded for the way.
const MAX_BYTES: usize = 25 * 1024 * 1024;

/// An e-mail that has been checked: whatever is in here can be stored, rendered and sent.
///
/// ```
/// use facteur::Email;
///
/// let email = Email::builder("Shop <shop@example.com>", "ada@example.com", "Your order", "Thank you.")
///     .html("<p>Thank you.</p>")
///     .reply_to("help@example.com")
///     .build()?;
/// # Ok::<(), facteur::InvalidEmail>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Email {
    pub(crate) from: Mailbox,
    pub(crate) to: Vec<Mailbox>,
    pub(crate) cc: Vec<Mailbox>,
    pub(crate) bcc: Vec<Mailbox>,
    pub(crate) reply_to: Vec<Mailbox>,
    pub(crate) subject: String,
    pub(crate) text: Option<String>,
    pub(crate) html: Option<String>,
    pub(crate) headers: Vec<Header>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) scheduled_at: Option<OffsetDateTime>,
    pub(crate) expires_at: Option<OffsetDateTime>,
    pub(crate) priority: Priority,
    pub(crate) on_unknown: OnUnknown,
    pub(crate) idempotency_key: Option<String>,
}

/// Which of two due mails goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(i16)]
pub enum Priority {
    /// One-time codes, password resets.
    Urgent = 0,
    /// Before the rest.
    High = 1,
    /// Everything that says nothing else.
    #[default]
    Normal = 2,
    /// Digests and reports; never starved.
    Low = 3,
}

/// What becomes of a mail when nobody can know whether the server took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnknown {
    /// Sent again, later: at least one copy arrives, perhaps two, with the same `Message-ID`.
    #[default]
    Retry,
    /// Parked until a person decides: at most one copy arrives.
    Hold,
}

/// A field that cannot be taken, by the name its caller knows it by, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidEmail {
    /// `to`, `subject`, `headers[2]`, …
    pub field: String,
    /// What is wrong with it, and what is accepted.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each is said by its text")]
pub enum Problem {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    #[error("is missing: {0}")]
    Missing(&'static str),
    #[error("has {count} entries, the most is {limit}")]
    TooMany { count: usize, limit: usize },
    #[error("is {bytes} bytes long, the most is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("has a NUL character, which no mail may carry")]
    Nul,
    #[error("must be later than scheduled_at")]
    ExpiresFirst,
    #[error("must be 1 to 255 printable ASCII characters")]
    Key,
}

impl InvalidEmail {
    fn new(field: impl Into<String>, problem: impl Into<Problem>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Collects an e-mail's fields as they come; [`build`](Self::build) checks them all.
#[derive(Debug, Clone, Default)]
#[must_use = "an e-mail is made by build()"]
pub struct EmailBuilder {
    from: String,
    to: Vec<String>,
    cc: Vec<String>,
    bcc: Vec<String>,
    reply_to: Vec<String>,
    subject: String,
    text: Option<String>,
    html: Option<String>,
    headers: Vec<Header>,
    attachments: Vec<Attachment>,
    scheduled_at: Option<OffsetDateTime>,
    expires_at: Option<OffsetDateTime>,
    priority: Priority,
    on_unknown: OnUnknown,
    idempotency_key: Option<String>,
}

impl Email {
    /// Starts an e-mail with the four things that each has. Addresses are `ada@example.com` or
    /// `Ada Lovelace <ada@example.com>`.
    pub fn builder(
        from: impl Into<String>,
        to: impl Into<String>,
        subject: impl Into<String>,
        text: impl Into<String>,
    ) -> EmailBuilder {
        EmailBuilder {
            from: from.into(),
            to: vec![to.into()],
            subject: subject.into(),
            text: Some(text.into()),
            ..EmailBuilder::default()
        }
    }

    /// Everybody who gets a copy, each once, in the order `to`, `cc`, `bcc`: one delivery each.
    pub fn envelope_recipients(&self) -> Vec<&super::Address> {
        let mut recipients = Vec::new();
        for mailbox in self.to.iter().chain(&self.cc).chain(&self.bcc) {
            if !recipients.contains(&&mailbox.address) {
                recipients.push(&mailbox.address);
            }
        }
        recipients
    }

    /// Whether a retry-safe key came with it.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }
}

impl EmailBuilder {
    /// One more recipient that everybody sees.
    pub fn to(mut self, mailbox: impl Into<String>) -> Self {
        self.to.push(mailbox.into());
        self
    }

    /// A recipient of a visible copy.
    pub fn cc(mut self, mailbox: impl Into<String>) -> Self {
        self.cc.push(mailbox.into());
        self
    }

    /// A recipient that nobody sees: in the envelope, never in a header.
    pub fn bcc(mut self, mailbox: impl Into<String>) -> Self {
        self.bcc.push(mailbox.into());
        self
    }

    /// Where answers go instead of to `from`.
    pub fn reply_to(mut self, mailbox: impl Into<String>) -> Self {
        self.reply_to.push(mailbox.into());
        self
    }

    /// The HTML alternative of the text.
    pub fn html(mut self, html: impl Into<String>) -> Self {
        self.html = Some(html.into());
        self
    }

    /// Leaves the plain text out: the mail then needs HTML.
    pub fn without_text(mut self) -> Self {
        self.text = None;
        self
    }

    /// A header of the caller's own.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// A file.
    pub fn attach(mut self, attachment: Attachment) -> Self {
        self.attachments.push(attachment);
        self
    }

    /// Not before this moment, on the database's clock.
    pub fn scheduled_at(mut self, at: OffsetDateTime) -> Self {
        self.scheduled_at = Some(at);
        self
    }

    /// Not after this moment: a stale one-time code is never sent. 24 hours after it was due when unset.
    pub fn expires_at(mut self, at: OffsetDateTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Which of two due mails goes first.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// What to do when nobody can know whether the server took it.
    pub fn on_unknown(mut self, on_unknown: OnUnknown) -> Self {
        self.on_unknown = on_unknown;
        self
    }

    /// Calling twice with one key enqueues once.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be taken, by name. Nothing is repaired silently, except that
    /// domains are written in A-labels and attachments keep their base name only.
    pub fn build(self) -> Result<Email, InvalidEmail> {
        single_line(&self.subject, MAX_SUBJECT).map_err(|e| InvalidEmail::new("subject", e))?;
        if self.to.is_empty() {
            return Err(InvalidEmail::new("to", Problem::Missing("an address is expected")));
        }
        check_bodies(&self)?;
        check_headers(&self.headers)?;
        check_times_and_key(&self)?;
        Ok(Email {
            from: mailbox("from", &self.from)?,
            to: mailboxes("to", &self.to)?,
            cc: mailboxes("cc", &self.cc)?,
            bcc: mailboxes("bcc", &self.bcc)?,
            reply_to: mailboxes("reply_to", &self.reply_to)?,
            attachments: attachments(self.attachments)?,
            subject: self.subject,
            text: self.text,
            html: self.html,
            headers: self.headers,
            scheduled_at: self.scheduled_at,
            expires_at: self.expires_at,
            priority: self.priority,
            on_unknown: self.on_unknown,
            idempotency_key: self.idempotency_key,
        })
    }
}

fn mailbox(field: &str, text: &str) -> Result<Mailbox, InvalidEmail> {
    text.parse::<Mailbox>().map_err(|e| InvalidEmail::new(field, e))
}

fn mailboxes(field: &str, texts: &[String]) -> Result<Vec<Mailbox>, InvalidEmail> {
    let count = texts.len();
    if count > MAX_RECIPIENTS {
        return Err(InvalidEmail::new(field, Problem::TooMany { count, limit: MAX_RECIPIENTS }));
    }
    let named = |i: usize| if count == 1 { field.to_owned() } else { format!("{field}[{i}]") };
    texts.iter().enumerate().map(|(i, text)| mailbox(&named(i), text)).collect()
}

fn check_bodies(email: &EmailBuilder) -> Result<(), InvalidEmail> {
    for (field, body) in [("text", &email.text), ("html", &email.html)] {
        if body.as_ref().is_some_and(|body| body.contains('\0')) {
            return Err(InvalidEmail::new(field, Problem::Nul));
        }
    }
    if email.text.is_none() && email.html.is_none() {
        return Err(InvalidEmail::new("text", Problem::Missing("text or html is expected")));
    }
    let bodies = email.text.iter().chain(&email.html).map(String::len);
    let bytes = bodies.chain(email.attachments.iter().map(|a| a.content.len())).sum();
    if bytes > MAX_BYTES {
        return Err(InvalidEmail::new("the e-mail", Problem::TooLarge { bytes, limit: MAX_BYTES }));
    }
    Ok(())
}

fn check_headers(headers: &[Header]) -> Result<(), InvalidEmail> {
    let count = headers.len();
    if count > MAX_HEADERS {
        return Err(InvalidEmail::new("headers", Problem::TooMany { count, limit: MAX_HEADERS }));
    }
    let bytes = headers.iter().map(|h| h.name.len() + h.value.len()).sum();
    if bytes > MAX_HEADER_BYTES {
        return Err(InvalidEmail::new("headers", Problem::TooLarge { bytes, limit: MAX_HEADER_BYTES }));
    }
    for (i, header) in headers.iter().enumerate() {
        header.check().map_err(|e| InvalidEmail::new(format!("headers[{i}]"), e))?;
    }
    Ok(())
}

fn attachments(attachments: Vec<Attachment>) -> Result<Vec<Attachment>, InvalidEmail> {
    let checked = attachments.into_iter().map(Attachment::check).enumerate();
    checked.map(|(i, a)| a.map_err(|e| InvalidEmail::new(format!("attachments[{i}]"), e))).collect()
}

fn check_times_and_key(email: &EmailBuilder) -> Result<(), InvalidEmail> {
    if let (Some(from), Some(until)) = (email.scheduled_at, email.expires_at)
        && until <= from
    {
        return Err(InvalidEmail::new("expires_at", Problem::ExpiresFirst));
    }
    let printable = |key: &String| {
        (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    };
    match &email.idempotency_key {
        Some(key) if !printable(key) => Err(InvalidEmail::new("idempotency_key", Problem::Key)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> EmailBuilder {
        Email::builder("a@x.test", "b@x.test", "hi", "text")
    }

    fn refused(builder: EmailBuilder) -> String {
        builder.build().unwrap_err().field
    }

    #[test]
    fn each_field_is_named_when_it_is_refused() {
        assert_eq!(refused(Email::builder("nobody", "b@x.test", "s", "t")), "from");
        assert_eq!(refused(Email::builder("a@x.test", "", "s", "t")), "to");
        assert_eq!(refused(builder().to("no")), "to[1]");
        assert_eq!(refused(builder().cc("no")), "cc");
        assert_eq!(refused(builder().bcc("no")), "bcc");
        assert_eq!(refused(builder().reply_to("no")), "reply_to");
        assert_eq!(refused(Email::builder("a@x.test", "b@x.test", "hi\r\nBcc: e@x", "t")), "subject");
        assert_eq!(refused(builder().html("a\0b")), "html");
        assert_eq!(refused(builder().without_text()), "text");
        assert_eq!(refused(builder().header("X-A", "1").header("Bcc", "e@x.test")), "headers[1]");
        assert_eq!(refused(builder().attach(Attachment::new("..", "text/plain", vec![]))), "attachments[0]");
        assert_eq!(refused(builder().idempotency_key("")), "idempotency_key");
        let (early, late) = (OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH + time::Duration::HOUR);
        assert_eq!(refused(builder().scheduled_at(late).expires_at(early)), "expires_at");
    }

    #[test]
    fn the_limits_hold() {
        let many = (0..51).fold(builder(), |b, i| b.cc(format!("c{i}@x.test")));
        assert_eq!(refused(many), "cc");
        let headers = (0..51).fold(builder(), |b, i| b.header(format!("X-{i}"), "v"));
        assert_eq!(refused(headers), "headers");
        let heavy = builder().attach(Attachment::new("a", "text/plain", vec![0; MAX_BYTES]));
        assert_eq!(refused(heavy), "the e-mail");
        let long = Email::builder("a@x.test", "b@x.test", "x".repeat(999), "t");
        assert_eq!(refused(long), "subject");
    }

    #[test]
    fn one_recipient_fifty_times_is_one_delivery() {
        let email = (0..49).fold(builder(), |b, _| b.to("b@X.test")).bcc("c@x.test").build().unwrap();
        let recipients: Vec<&str> = email.envelope_recipients().into_iter().map(|a| a.as_str()).collect();
        assert_eq!(recipients, ["b@x.test", "c@x.test"]);
    }
}
