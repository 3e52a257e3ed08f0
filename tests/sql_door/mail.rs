//! An e-mail as a caller writes it, for either door.

use facteur::email::{EmailBuilder, OnUnknown, Priority};
use facteur::{Attachment, Email};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Mail {
    pub(crate) from: String,
    /// The first is the function's first argument.
    pub(crate) to: Vec<String>,
    pub(crate) cc: Vec<String>,
    pub(crate) bcc: Vec<String>,
    pub(crate) reply_to: Vec<String>,
    pub(crate) subject: String,
    pub(crate) text: Option<String>,
    pub(crate) html: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) files: Vec<File>,
    pub(crate) scheduled_at: Option<OffsetDateTime>,
    pub(crate) expires_at: Option<OffsetDateTime>,
    pub(crate) priority: Priority,
    pub(crate) on_unknown: OnUnknown,
    pub(crate) key: Option<String>,
    pub(crate) supersedes: Option<String>,
    pub(crate) sensitive: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) id: Option<String>,
    pub(crate) content: Vec<u8>,
}

/// What every door takes.
pub(crate) fn good() -> Mail {
    Mail {
        from: "Shop <shop@x.test>".into(),
        to: vec!["ada@x.test".into()],
        subject: "Your order".into(),
        text: Some("Thank you.".into()),
        ..Mail::default()
    }
}

pub(crate) fn file(name: &str, kind: &str, id: Option<&str>) -> File {
    File {
        name: name.into(),
        kind: kind.into(),
        id: id.map(str::to_owned),
        content: vec![0, 255, 10, 13, 46],
    }
}

impl Mail {
    pub(crate) fn builder(&self) -> EmailBuilder {
        let first = &self.to[0];
        let mut builder =
            Email::builder(&self.from, first, &self.subject, self.text.as_deref().unwrap_or(""))
                .priority(self.priority)
                .on_unknown(self.on_unknown)
                .sensitive(self.sensitive);
        builder = if self.text.is_none() { builder.without_text() } else { builder };
        builder = self.to[1..].iter().fold(builder, |b, a| b.to(a));
        builder = self.cc.iter().fold(builder, |b, a| b.cc(a));
        builder = self.bcc.iter().fold(builder, |b, a| b.bcc(a));
        builder = self.reply_to.iter().fold(builder, |b, a| b.reply_to(a));
        builder = self.html.iter().fold(builder, |b, html| b.html(html));
        builder = self.headers.iter().fold(builder, |b, (name, value)| b.header(name, value));
        builder = self.scheduled_at.into_iter().fold(builder, EmailBuilder::scheduled_at);
        builder = self.expires_at.into_iter().fold(builder, EmailBuilder::expires_at);
        builder = self.key.iter().fold(builder, |b, key| b.idempotency_key(key));
        builder = self.supersedes.iter().fold(builder, |b, name| b.supersedes(name));
        self.files.iter().fold(builder, |b, file| {
            let plain = Attachment::new(&file.name, &file.kind, file.content.clone());
            b.attach(file.id.iter().fold(plain, |a, id| a.inline(id)))
        })
    }

    /// The function's last argument.
    pub(crate) fn options(&self) -> Value {
        let time = |at: Option<OffsetDateTime>| at.map(|at| at.format(&Rfc3339).unwrap());
        let headers: Vec<Value> =
            self.headers.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|f| json!({"filename": f.name, "content_type": f.kind, "content_id": f.id, "content": base64(&f.content)}))
            .collect();
        let priority = ["urgent", "high", "normal", "low"][self.priority as usize];
        json!({
            "from": self.from, "to": self.to[1..], "cc": one_or_more(&self.cc), "bcc": one_or_more(&self.bcc),
            "reply_to": one_or_more(&self.reply_to), "headers": headers, "attachments": files,
            "scheduled_at": time(self.scheduled_at), "expires_at": time(self.expires_at),
            "priority": priority,
            "on_unknown": if self.on_unknown == OnUnknown::Hold { "hold" } else { "retry" },
            "idempotency_key": self.key, "supersedes": self.supersedes, "sensitive": self.sensitive,
        })
    }

    /// Every text of it.
    pub(crate) fn texts(&self) -> Vec<&String> {
        let files = self.files.iter().flat_map(|f| [Some(&f.name), Some(&f.kind), f.id.as_ref()]).flatten();
        let headers = self.headers.iter().flat_map(|(name, value)| [name, value]);
        let lists = [&self.to, &self.cc, &self.bcc, &self.reply_to].into_iter().flatten();
        let single = [self.text.as_ref(), self.html.as_ref(), self.key.as_ref(), self.supersedes.as_ref()];
        [&self.from, &self.subject]
            .into_iter()
            .chain(lists)
            .chain(headers)
            .chain(files)
            .chain(single.into_iter().flatten())
            .collect()
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &String> {
        [&self.to, &self.cc, &self.bcc, &self.reply_to].into_iter().flatten().chain([&self.from])
    }
}

/// One is given as a text, as most will.
fn one_or_more(texts: &[String]) -> Value {
    match texts {
        [one] => json!(one),
        more => json!(more),
    }
}

/// RFC 4648 §4.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut coded = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let number = three.iter().chain([&0; 2]).take(3).fold(0usize, |n, byte| n << 8 | usize::from(*byte));
        for place in 0..4 {
            let digit = char::from(DIGITS[number >> (18 - 6 * place) & 63]);
            coded.push(if place <= three.len() { digit } else { '=' });
        }
    }
    coded
}
