use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_parser::{MessageParser, MimeHeaders};
use serde_json::Value;

/// A mail that a [`FakeProvider`](super::FakeProvider) took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenMail {
    /// Who gets it: the envelope.
    pub recipient: String,
    /// Its subject.
    pub subject: String,
    /// The Message-ID that came with it, without angle brackets.
    pub message_id: Option<String>,
    /// The `X-Entity-Ref-ID` that came with it: the e-mail's id.
    pub entity_ref: Option<String>,
    /// Its plain text.
    pub text: Option<String>,
    /// Its HTML.
    pub html: Option<String>,
    /// Its files: name and content.
    pub attachments: Vec<(String, Vec<u8>)>,
    /// The message, or the JSON that it is made of.
    pub raw: Vec<u8>,
}

impl TakenMail {
    /// From a whole message.
    pub(super) fn of_message(recipient: &str, raw: Vec<u8>) -> Option<Self> {
        let message = MessageParser::default().parse(&raw)?;
        let files = message
            .attachments()
            .map(|part| (part.attachment_name().unwrap_or_default().to_owned(), part.contents().to_vec()));
        let mail = Self {
            recipient: recipient.to_owned(),
            subject: message.subject().unwrap_or_default().to_owned(),
            message_id: message.message_id().map(str::to_owned),
            entity_ref: message.header_raw("X-Entity-Ref-ID").map(|value| value.trim().to_owned()),
            text: message.body_text(0).map(|text| text.into_owned()),
            html: message.body_html(0).map(|html| html.into_owned()),
            attachments: files.collect(),
            raw: vec![],
        };
        Some(Self { raw, ..mail })
    }

    /// Takes up a header that matters here.
    pub(super) fn header(&mut self, name: &str, value: &str) {
        if name.eq_ignore_ascii_case("message-id") {
            self.message_id = Some(value.trim_matches(['<', '>']).to_owned());
        } else if name.eq_ignore_ascii_case("x-entity-ref-id") {
            self.entity_ref = Some(value.to_owned());
        }
    }

    /// Takes up headers in an object.
    pub(super) fn headers(&mut self, map: &Value) {
        for (name, value) in map.as_object().into_iter().flatten() {
            self.header(name, value.as_str().unwrap_or_default());
        }
    }

    /// Takes up headers in a list, under the provider's two keys.
    pub(super) fn header_list(&mut self, list: &Value, keys: [&str; 2]) {
        for header in list.as_array().into_iter().flatten() {
            let word = |key: &str| header[key].as_str().unwrap_or_default();
            self.header(word(keys[0]), word(keys[1]));
        }
    }

    /// Takes up files in a list, under the provider's two keys. None for what is no base64.
    pub(super) fn files(&mut self, list: &Value, keys: [&str; 2]) -> Option<()> {
        for file in list.as_array().into_iter().flatten() {
            let content = STANDARD.decode(file[keys[1]].as_str()?).ok()?;
            self.attachments.push((file[keys[0]].as_str()?.to_owned(), content));
        }
        Some(())
    }
}

/// The one entry of a list of recipients; none when there are more or fewer.
pub(super) fn only(list: &Value, key: &str) -> Option<String> {
    match list.as_array()?.as_slice() {
        [one] => Some(one[key].as_str()?.to_owned()),
        _ => None,
    }
}

/// A text, where there is one.
pub(super) fn words(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}
