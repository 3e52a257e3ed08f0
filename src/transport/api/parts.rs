//! What the APIs that want parts, and not a message, are given of an e-mail.

use serde_json::{Map, Value, json};

use super::request::base64;
use crate::email::{Attachment, Mailbox, StoredEmail};
use crate::transport::Parcel;

/// The one recipient of this delivery, under the name that the e-mail shows, if it shows them.
pub(super) fn recipient(parcel: Parcel<'_>) -> (&str, Option<&str>) {
    let visible = parcel.email.to.iter().chain(&parcel.email.cc);
    let shown = visible.into_iter().find(|mailbox| mailbox.address.as_str() == parcel.to);
    (parcel.to, shown.and_then(|mailbox| mailbox.name.as_deref()))
}

/// `{"email": …, "name": …}`, under the provider's own two keys.
pub(super) fn person(keys: [&str; 2], address: &str, name: Option<&str>) -> Value {
    let mut person = Map::from_iter([(keys[0].to_owned(), json!(address))]);
    if let Some(name) = name {
        person.insert(keys[1].to_owned(), json!(name));
    }
    Value::Object(person)
}

/// A mailbox likewise.
pub(super) fn mailbox(keys: [&str; 2], mailbox: &Mailbox) -> Value {
    person(keys, mailbox.address.as_str(), mailbox.name.as_deref())
}

/// `"Lovelace, Ada" <ada@example.com>` (RFC 5322 §3.4), the name in Unicode.
pub(super) fn written(address: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => {
            let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{quoted}\" <{address}>")
        }
        None => address.to_owned(),
    }
}

/// The text, never missing where there is no HTML either.
pub(super) fn text(email: &StoredEmail) -> Option<&str> {
    match (&email.text, &email.html) {
        (Some(text), _) if !text.is_empty() => Some(text),
        // All of them refuse a mail without any body.
        (_, None) => Some(" "),
        _ => None,
    }
}

/// The caller's headers and the one that names the e-mail whoever replaces the Message-ID; ASCII.
pub(super) fn headers(email: &StoredEmail) -> Vec<(&str, String)> {
    let own = email.headers.iter().map(|header| (header.name.as_str(), encoded(&header.value)));
    std::iter::once(("X-Entity-Ref-ID", email.id.to_string())).chain(own).collect()
}

/// The same as an object: the values of a name that comes twice are joined by a comma.
pub(super) fn header_map(email: &StoredEmail) -> Map<String, Value> {
    let mut map: Map<String, Value> = Map::new();
    for (name, value) in headers(email) {
        let same = map.iter_mut().find(|(seen, _)| seen.eq_ignore_ascii_case(name));
        match same {
            Some((_, Value::String(first))) => *first = format!("{first}, {value}"),
            _ => {
                map.insert(name.to_owned(), Value::String(value));
            }
        }
    }
    map
}

/// The files, each as the provider wants it.
pub(super) fn files(email: &StoredEmail, file: impl Fn(&Attachment, String) -> Value) -> Vec<Value> {
    email.attachments.iter().map(|one| file(one, base64(&one.content))).collect()
}

/// Words of RFC 2047, where there is anything but ASCII. Some providers send raw what they are given.
fn encoded(value: &str) -> String {
    if value.is_ascii() {
        return value.to_owned();
    }
    let mut words = vec![String::new()];
    for c in value.chars() {
        // 75 characters in all, 12 of them around the text.
        if words.last().is_some_and(|word| word.len() + c.len_utf8() > 45) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    let words = words.iter().map(|word| format!("=?utf-8?B?{}?=", base64(word.as_bytes())));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_leave_in_ascii_and_read_back_the_same() {
        let value = "été à la plage, un très long récit de vacances dont la fin n’est pas en vue";
        let line = encoded(value);
        assert!(line.is_ascii() && line.split(' ').all(|word| word.len() <= 75), "{line}");
        let mail = format!("Subject: {line}\r\n\r\n");
        let parsed = mail_parser::MessageParser::default().parse(mail.as_bytes()).unwrap();
        assert_eq!(parsed.subject(), Some(value));
        assert_eq!(encoded("plain"), "plain");
    }

    #[test]
    fn a_name_cannot_break_out_of_its_quotes() {
        assert_eq!(written("a@x.test", Some("A\" <e@x.test>, \\")), "\"A\\\" <e@x.test>, \\\\\" <a@x.test>");
        assert_eq!(written("a@x.test", None), "a@x.test");
    }
}
