//! Amazon SES v2: rest-json, errors by the header `x-amzn-ErrorType`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::manners::{Manners, Trouble};
use super::record::TakenMail;
use super::wire::{Received, Said};
use crate::settings::{Api, Ses};

pub(super) const MANNERS: Manners = Manners {
    settings,
    knows,
    send: "/v2/email/outbound-emails",
    login: "/v2/email/account",
    read,
    took: |id, _| Said::json(200, &json!({ "MessageId": id })),
    refuses,
};

fn settings(base_url: String) -> Api {
    Api::Ses(Ses {
        region: "eu-west-3".into(),
        access_key_id: "AKIDFAKE".into(),
        secret_access_key: "fake-secret-access-key".into(),
        session_token: Some("fake-session-token".into()),
        configuration_set: None,
        base_url: Some(base_url),
    })
}

/// The shape of a signature: whose, for where, over what. Whether it is right is not for a fake to say.
fn knows(request: &Received) -> bool {
    let signature = request.header("authorization").unwrap_or_default();
    signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDFAKE/")
        && signature.contains("/eu-west-3/ses/aws4_request, SignedHeaders=")
        && signature.contains("host;x-amz-date;x-amz-security-token, Signature=")
        && request.header("x-amz-date").is_some()
        && request.header("x-amz-security-token") == Some("fake-session-token")
}

fn read(request: &Received) -> Option<TakenMail> {
    let body = request.json();
    let [to] = body["Destination"]["ToAddresses"].as_array()?.as_slice() else { return None };
    body["FromEmailAddress"].as_str()?;
    let raw = STANDARD.decode(body["Content"]["Raw"]["Data"].as_str()?).ok()?;
    TakenMail::of_message(to.as_str()?, raw)
}

fn refuses(trouble: Trouble) -> Said {
    let (status, kind, message) = match trouble {
        Trouble::Malformed => (400, "BadRequestException", "The input is not valid."),
        Trouble::Recipient => (400, "MessageRejected", "Invalid destination domain."),
        Trouble::Throttled => (429, "TooManyRequestsException", "Maximum sending rate exceeded."),
        Trouble::Credentials => {
            (403, "InvalidClientTokenId", "The security token included in the request is invalid.")
        }
        Trouble::Suspended => {
            (400, "AccountSuspendedException", "The account's ability to send email is restricted.")
        }
        Trouble::Sender => (
            400,
            "MessageRejected",
            "Email address is not verified. The following identities failed the check.",
        ),
        Trouble::Quota => (429, "ThrottlingException", "Daily message quota exceeded."),
        Trouble::Address => (404, "UnknownOperationException", ""),
        Trouble::Unwell => (503, "ServiceUnavailable", "Service is unavailable."),
        Trouble::Broken => (500, "InternalFailure", "An internal error occurred."),
    };
    Said::json(status, &json!({ "message": message })).header("x-amzn-ErrorType", kind)
}
