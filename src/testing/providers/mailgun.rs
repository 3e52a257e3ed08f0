//! Mailgun v3: forms in, JSON out, except where it is not.

use serde_json::json;

use super::manners::{Manners, Trouble};
use super::record::TakenMail;
use super::wire::{Received, Said};
use crate::settings::{Api, Mailgun, Region};

pub(super) const MANNERS: Manners = Manners {
    settings,
    // Basic api:key-fake
    knows: |request| request.header("authorization") == Some("Basic YXBpOmtleS1mYWtl"),
    send: "/v3/mg.example.com/messages.mime",
    login: "/v3/domains/mg.example.com",
    read,
    took: |id, _| {
        let id = format!("<{id}@mg.example.com>");
        Said::json(200, &json!({ "id": id, "message": "Queued. Thank you." }))
    },
    refuses,
};

fn settings(base_url: String) -> Api {
    Api::Mailgun(Mailgun {
        domain: "mg.example.com".into(),
        api_key: "key-fake".into(),
        region: Region::Default,
        base_url: Some(base_url),
    })
}

fn read(request: &Received) -> Option<TakenMail> {
    let kind = request.header("content-type")?.strip_prefix("multipart/form-data; boundary=")?;
    let fields = fields(&request.body, kind);
    let field = |name: &str| {
        let mut same = fields.iter().filter(|(given, _)| given == name);
        same.next().filter(|_| same.next().is_none()).map(|(_, value)| value.clone())
    };
    TakenMail::of_message(&String::from_utf8(field("to")?).ok()?, field("message")?)
}

/// RFC 7578: the fields, with their names.
fn fields(body: &[u8], boundary: &str) -> Vec<(String, Vec<u8>)> {
    let find = |hay: &[u8], needle: &[u8]| hay.windows(needle.len()).position(|piece| piece == needle);
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = [b"\r\n", body].concat();
    let mut fields = Vec::new();
    while let Some(start) = find(&rest, delimiter.as_bytes()) {
        rest.drain(..start + delimiter.len());
        let (Some(head), Some(end)) = (find(&rest, b"\r\n\r\n"), find(&rest, delimiter.as_bytes())) else {
            break;
        };
        let text = String::from_utf8_lossy(&rest[..head]).into_owned();
        let name = text.split("name=\"").nth(1).and_then(|tail| tail.split('"').next());
        fields.push((name.unwrap_or_default().to_owned(), rest[head + 4..end].to_vec()));
    }
    fields
}

fn refuses(trouble: Trouble) -> Said {
    let (status, message) = match trouble {
        Trouble::Malformed => (400, "from parameter is missing"),
        Trouble::Recipient => (400, "'to' parameter is not a valid address. please check documentation"),
        Trouble::Throttled => {
            (429, "Sender account-requests-per-sec limit exceeded, try again after 30 seconds")
        }
        Trouble::Credentials => return Said::new(401, "Forbidden".into()),
        Trouble::Suspended => (403, "Account is disabled. Please contact support."),
        Trouble::Sender => (400, "Domain mg.example.com is not allowed to send: unverified"),
        Trouble::Quota => (402, "Message limit reached, please upgrade your plan"),
        Trouble::Address => return Said::new(200, "Mailgun Magnificent API".into()),
        Trouble::Unwell => return Said::new(503, "Service Unavailable".into()),
        Trouble::Broken => (500, "Internal Server Error"),
    };
    Said::json(status, &json!({ "message": message }))
}
