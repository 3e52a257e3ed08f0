use std::time::SystemTime;

use lettre::message::header::{ContentDisposition, ContentId, ContentType, HeaderName, HeaderValue};
use lettre::message::{
    Mailbox as WireMailbox, Message, MessageBuilder, MultiPart, MultiPartKind, SinglePart,
};

use super::{Address, Attachment, Mailbox, StoredEmail};

/// Why an e-mail cannot be rendered. What came through [`EmailBuilder`](super::EmailBuilder) always can;
/// rows that somebody wrote by hand may not.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// lettre's stricter reading of an address.
    #[error("an address cannot be written: {0}")]
    Address(#[from] lettre::address::AddressError),
    /// A required part is missing.
    #[error("the message cannot be built: {0}")]
    Message(#[from] lettre::error::Error),
    /// A header name.
    #[error("the header name {0:?} cannot be written")]
    HeaderName(String),
    /// An attachment's type.
    #[error("the content type {0:?} cannot be written")]
    ContentType(String),
}

impl StoredEmail {
    /// The message as it leaves (RFC 5322, RFC 2045): ASCII, CRLF line ends, no line over 998 octets.
    ///
    /// The same value gives the same bytes, whichever attempt, process or transport asks.
    ///
    /// # Errors
    /// Only for an e-mail that did not come through [`EmailBuilder`](super::EmailBuilder).
    pub fn render(&self) -> Result<Vec<u8>, RenderError> {
        let message = match self.parts()? {
            Part::Single(part) => self.head()?.singlepart(part)?,
            Part::Multi(part) => self.head()?.multipart(part)?,
        };
        Ok(message.formatted())
    }

    fn head(&self) -> Result<MessageBuilder, RenderError> {
        // lettre asks for an envelope; ours is per delivery, and blind recipients are not known here.
        let from = wire(&self.from)?;
        let envelope = lettre::address::Envelope::new(Some(from.email.clone()), vec![from.email.clone()])?;
        let mut head = Message::builder()
            .envelope(envelope)
            .date(SystemTime::from(self.date))
            .message_id(Some(format!("<{}>", self.message_id)))
            .from(from)
            .subject(&self.subject);
        for mailbox in &self.to {
            head = head.to(wire(mailbox)?);
        }
        for mailbox in &self.cc {
            head = head.cc(wire(mailbox)?);
        }
        for mailbox in &self.reply_to {
            head = head.reply_to(wire(mailbox)?);
        }
        // Some relays replace the Message-ID; this one survives, so that copies can still be matched.
        head = head.raw_header(raw("X-Entity-Ref-ID", &self.id.to_string())?);
        for header in &self.headers {
            head = head.raw_header(raw(&header.name, &header.value)?);
        }
        Ok(head)
    }

    /// `mixed(related(alternative(text, html), inline…), attached…)`, less what is not needed.
    fn parts(&self) -> Result<Part, RenderError> {
        let (inline, attached): (Vec<_>, Vec<_>) =
            self.attachments.iter().partition(|a| a.content_id.is_some());
        let mut part = match (&self.text, &self.html) {
            (Some(text), Some(html)) => {
                let alternative = self.multi(MultiPartKind::Alternative, "alt");
                Part::Multi(alternative.singlepart(plain(text)).singlepart(html_part(html)))
            }
            (None, Some(html)) => Part::Single(html_part(html)),
            (text, None) => Part::Single(plain(text.as_deref().unwrap_or_default())),
        };
        for (kind, name, files) in
            [(MultiPartKind::Related, "rel", inline), (MultiPartKind::Mixed, "mix", attached)]
        {
            if !files.is_empty() {
                part = Part::Multi(with_files(self.multi_with(kind, name, part), &files)?);
            }
        }
        Ok(part)
    }

    fn multi(&self, kind: MultiPartKind, name: &str) -> lettre::message::MultiPartBuilder {
        MultiPart::builder().kind(kind).boundary(format!("{}-{name}", self.boundary))
    }

    fn multi_with(&self, kind: MultiPartKind, name: &str, first: Part) -> MultiPart {
        match first {
            Part::Single(part) => self.multi(kind, name).singlepart(part),
            Part::Multi(part) => self.multi(kind, name).multipart(part),
        }
    }
}

enum Part {
    Single(SinglePart),
    Multi(MultiPart),
}

fn with_files(mut part: MultiPart, files: &[&Attachment]) -> Result<MultiPart, RenderError> {
    for file in files {
        let bad_type = |_| RenderError::ContentType(file.content_type.clone());
        let builder = SinglePart::builder().header(ContentType::parse(&file.content_type).map_err(bad_type)?);
        let builder = match &file.content_id {
            Some(id) => builder
                .header(ContentDisposition::inline_with_name(&file.filename))
                .header(ContentId::from(format!("<{id}>"))),
            None => builder.header(ContentDisposition::attachment(&file.filename)),
        };
        part = part.singlepart(builder.body(file.content.clone()));
    }
    Ok(part)
}

fn plain(text: &str) -> SinglePart {
    SinglePart::builder().header(ContentType::TEXT_PLAIN).body(with_crlf(text))
}

fn html_part(html: &str) -> SinglePart {
    SinglePart::builder().header(ContentType::TEXT_HTML).body(with_crlf(html))
}

/// Bare CR and bare LF become CRLF: a lone one is what SMTP smuggling is made of (CVE-2023-51764).
fn with_crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}

fn raw(name: &str, value: &str) -> Result<HeaderValue, RenderError> {
    let unusable = |_| RenderError::HeaderName(name.to_owned());
    let name = HeaderName::new_from_ascii(name.to_owned()).map_err(unusable)?;
    Ok(HeaderValue::new(name, value.to_owned()))
}

fn wire(mailbox: &Mailbox) -> Result<WireMailbox, RenderError> {
    Ok(WireMailbox::new(mailbox.name.clone(), wire_address(&mailbox.address)?))
}

fn wire_address(address: &Address) -> Result<lettre::Address, RenderError> {
    Ok(lettre::Address::new(address.local(), address.domain())?)
}

#[cfg(test)]
mod tests {
    use super::super::Header;
    use super::*;
    use time::OffsetDateTime;
    use uuid::Uuid;

    fn email() -> StoredEmail {
        StoredEmail {
            id: Uuid::nil().into(),
            message_id: "00000000@x.test".into(),
            date: OffsetDateTime::UNIX_EPOCH,
            boundary: "b0".into(),
            from: "Évariste <a@x.test>".parse().unwrap(),
            to: vec!["b@x.test".parse().unwrap()],
            cc: vec![],
            reply_to: vec![],
            subject: "Votre commande nº 7".into(),
            text: Some("un\ndeux\rtrois\r\n".into()),
            html: Some("<p>été</p>".into()),
            headers: vec![Header { name: "X-Campaign".into(), value: "été".into() }],
            attachments: vec![],
        }
    }

    fn rendered(email: &StoredEmail) -> String {
        String::from_utf8(email.render().unwrap()).unwrap()
    }

    #[test]
    fn the_same_email_gives_the_same_bytes() {
        let mut email = email();
        email.attachments.push(Attachment::new("a.pdf", "application/pdf", vec![0, 255, 10]));
        email.attachments.push(Attachment::new("b.png", "image/png", vec![1]).inline("logo"));
        assert_eq!(email.render().unwrap(), email.render().unwrap());
    }

    #[test]
    fn identity_is_written_and_the_blind_are_not() {
        let text = rendered(&email());
        assert!(text.contains("Message-ID: <00000000@x.test>\r\n"), "{text}");
        assert!(text.contains("Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"), "{text}");
        assert!(text.contains("X-Entity-Ref-ID: 00000000-0000-0000-0000-000000000000\r\n"), "{text}");
        assert!(!text.to_lowercase().contains("bcc:"), "{text}");
    }

    #[test]
    fn whatever_the_body_only_crlf_leaves_and_no_line_is_too_long() {
        let mut email = email();
        email.html = None;
        for body in [
            "\n.\n",
            "\r\n.\r\nMAIL FROM:<e@x.test>\r\n",
            "\r.\r",
            ".",
            "a\rb\nc",
            &"x".repeat(5000),
            &"é".repeat(3000),
        ] {
            email.text = Some(body.to_owned());
            let text = rendered(&email);
            assert!(text.is_ascii());
            let bare = text.replace("\r\n", "");
            assert!(!bare.contains(['\r', '\n']), "{body:?} left a bare line end: {text:?}");
            assert!(text.split("\r\n").all(|line| line.len() <= 998), "{body:?}");
        }
    }

    #[test]
    fn a_long_subject_is_folded() {
        let mut email = email();
        email.subject = "mot ".repeat(249);
        assert!(rendered(&email).split("\r\n").all(|line| line.len() <= 998));
    }

    #[test]
    fn parts_nest_as_readers_expect() {
        let mut email = email();
        email.attachments.push(Attachment::new("a.pdf", "application/pdf", vec![0]));
        email.attachments.push(Attachment::new("b.png", "image/png", vec![1]).inline("logo"));
        let text = rendered(&email);
        let order = [
            "multipart/mixed",
            "multipart/related",
            "multipart/alternative",
            "text/plain",
            "text/html",
            "image/png",
            "application/pdf",
        ];
        let places: Vec<usize> = order.iter().map(|kind| text.find(kind).expect(kind)).collect();
        assert!(places.is_sorted(), "{text}");
    }
}
