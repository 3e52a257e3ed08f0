//! What makes an e-mail acceptable: each field, its limits, and how they go together.

use super::address::Mailbox;
use super::attachment::Attachment;
use super::builder::{Email, EmailBuilder};
use super::field::single_line;
use super::header::Header;
use super::invalid::{InvalidEmail, Problem};
use super::tag::Tag;

/// Characters of a subject.
const MAX_SUBJECT: usize = 998;
/// Mailboxes in one of `to`, `cc`, `bcc`, `reply_to`.
const MAX_RECIPIENTS: usize = 50;
/// Custom headers, and their bytes together.
const MAX_HEADERS: usize = 50;
const MAX_HEADER_BYTES: usize = 16_000;
/// Tags of one e-mail.
const MAX_TAGS: usize = 50;
/// Characters of the name that newer e-mails supersede older ones by.
const MAX_NAME: usize = 128;
/// Octets of a sender's domain: behind the e-mail's id and an `@` it is the Message-ID, which has 250 at most.
const MAX_SENDER_DOMAIN: usize = 213;
/// Bytes of text, HTML and attachments together, before they are encoded for the way.
const MAX_BYTES: usize = 25 * 1024 * 1024;

impl EmailBuilder {
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
        check_supersedes(self.supersedes.as_deref())?;
        check_tags(&self.tags)?;
        Ok(Email {
            from: sender(&self.from)?,
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
            supersedes: self.supersedes,
            sensitive: self.sensitive,
            tags: self.tags,
        })
    }
}

impl Email {
    /// Puts another file in the place of an attachment, checked as [`build`](EmailBuilder::build) checks it.
    ///
    /// # Errors
    /// The file, or the e-mail with it, cannot be taken.
    #[cfg(feature = "server")]
    pub(crate) fn set_attachment(&mut self, position: usize, file: Attachment) -> Result<(), InvalidEmail> {
        let named = |e| InvalidEmail::new(format!("attachments[{position}]"), e);
        let file = file.check().map_err(named)?;
        if let Some(place) = self.attachments.get_mut(position) {
            *place = file;
        }
        check_size([&self.text, &self.html], &self.attachments)
    }
}

fn mailbox(field: &str, text: &str) -> Result<Mailbox, InvalidEmail> {
    text.parse::<Mailbox>().map_err(|e| InvalidEmail::new(field, e))
}

fn sender(text: &str) -> Result<Mailbox, InvalidEmail> {
    let from = mailbox("from", text)?;
    let (octets, limit) = (from.address.domain().len(), MAX_SENDER_DOMAIN);
    if octets > limit {
        return Err(InvalidEmail::new("from", Problem::SenderDomain { octets, limit }));
    }
    Ok(from)
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
    check_size([&email.text, &email.html], &email.attachments)
}

fn check_size(bodies: [&Option<String>; 2], files: &[Attachment]) -> Result<(), InvalidEmail> {
    let bodies = bodies.into_iter().flatten().map(String::len);
    let bytes = bodies.chain(files.iter().map(|a| a.content.len())).sum();
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

fn check_supersedes(name: Option<&str>) -> Result<(), InvalidEmail> {
    let good =
        |name: &str| (1..=MAX_NAME).contains(&name.chars().count()) && !name.contains(char::is_control);
    match name {
        Some(name) if !good(name) => Err(InvalidEmail::new("supersedes", Problem::Name { limit: MAX_NAME })),
        _ => Ok(()),
    }
}

fn check_tags(tags: &[Tag]) -> Result<(), InvalidEmail> {
    let count = tags.len();
    if count > MAX_TAGS {
        return Err(InvalidEmail::new("tags", Problem::TooMany { count, limit: MAX_TAGS }));
    }
    for (i, tag) in tags.iter().enumerate() {
        tag.check().map_err(|e| InvalidEmail::new(format!("tags[{i}]"), e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;

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
        assert_eq!(refused(builder().tag("a", "1").tag("b c", "2")), "tags[1]");
        let (early, late) = (OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH + time::Duration::HOUR);
        assert_eq!(refused(builder().scheduled_at(late).expires_at(early)), "expires_at");
    }

    #[test]
    fn the_name_of_what_is_superseded_is_1_to_128_characters() {
        for bad in [String::new(), "é".repeat(129), "login\0ada".into(), "login\nada".into()] {
            let error = builder().supersedes(bad).build().unwrap_err().to_string();
            assert_eq!(error, "supersedes must be 1 to 128 characters, none of them a control character");
        }
        for good in ["login-code:ada", "é", &"é".repeat(128)] {
            assert_eq!(builder().supersedes(good).build().unwrap().supersedes.as_deref(), Some(good));
        }
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
    fn a_senders_domain_leaves_room_for_the_message_id() {
        let of = |label: usize| format!("a@{}.{}.test", "b".repeat(label), vec!["c".repeat(63); 3].join("."));
        let from = |label| Email::builder(of(label), of(40), "s", "t").build();
        assert!(from(16).is_ok(), "213 octets");
        let error = from(17).unwrap_err().to_string();
        assert_eq!(
            error,
            "from has a domain of 214 octets, the most in a sender is 213: it is part of the Message-ID"
        );
    }

    #[test]
    fn one_recipient_fifty_times_is_one_delivery() {
        let email = (0..49).fold(builder(), |b, _| b.to("b@X.test")).bcc("c@x.test").build().unwrap();
        let recipients: Vec<&str> = email.envelope_recipients().into_iter().map(|a| a.as_str()).collect();
        assert_eq!(recipients, ["b@x.test", "c@x.test"]);
    }
}
