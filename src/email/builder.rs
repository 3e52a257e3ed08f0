use time::OffsetDateTime;

use super::address::Mailbox;
use super::attachment::Attachment;
use super::header::Header;
use super::tag::Tag;

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
    pub(crate) supersedes: Option<String>,
    pub(crate) sensitive: bool,
    pub(crate) tags: Vec<Tag>,
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

/// Collects an e-mail's fields as they come; [`build`](Self::build) checks them all.
#[derive(Debug, Clone, Default)]
#[must_use = "an e-mail is made by build()"]
pub struct EmailBuilder {
    pub(super) from: String,
    pub(super) to: Vec<String>,
    pub(super) cc: Vec<String>,
    pub(super) bcc: Vec<String>,
    pub(super) reply_to: Vec<String>,
    pub(super) subject: String,
    pub(super) text: Option<String>,
    pub(super) html: Option<String>,
    pub(super) headers: Vec<Header>,
    pub(super) attachments: Vec<Attachment>,
    pub(super) scheduled_at: Option<OffsetDateTime>,
    pub(super) expires_at: Option<OffsetDateTime>,
    pub(super) priority: Priority,
    pub(super) on_unknown: OnUnknown,
    pub(super) idempotency_key: Option<String>,
    pub(super) supersedes: Option<String>,
    pub(super) sensitive: bool,
    pub(super) tags: Vec<Tag>,
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

    /// The plain text.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
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

    /// Calling twice with one key enqueues once. 1 to 255 printable ASCII characters, kept for 24 hours.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Takes the place of every earlier e-mail with this name that is still queued: the newest login
    /// code cancels the ones before it. 1 to 128 characters, such as `login-code:ada`.
    ///
    /// What is being sent at that moment is not stopped, but is not tried again either.
    pub fn supersedes(mut self, name: impl Into<String>) -> Self {
        self.supersedes = Some(name.into());
        self
    }

    /// Wipes subject, bodies, headers and the content of the attachments once no delivery can be sent
    /// any more. The e-mail itself stays: who it went to, and what became of it.
    ///
    /// The idempotency key, if any, keeps a SHA-256 of the e-mail for its 24 hours.
    pub fn sensitive(mut self, sensitive: bool) -> Self {
        self.sensitive = sensitive;
        self
    }

    /// A label of the caller's own, such as `category`, `welcome`: kept with the e-mail, never sent along.
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push(Tag { name: name.into(), value: value.into() });
        self
    }
}
