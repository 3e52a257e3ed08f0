use std::error::Error;

use super::reach::Closed;

/// Why a file is not fetched; it ends the sentence that `attachments[0].path` begins.
///
/// What the other side answered is not in it: whoever may send could read with it what only this machine
/// may. A host that does not exist and one whose address is closed are told in the same words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "must be the address of a file, such as https://files.example.com/order.pdf, of at most 2048 characters"
    )]
    Url,
    #[error("must begin with https://")]
    Scheme,
    #[error("must not hold a user name or a password")]
    Credentials,
    #[error("must not name a port: files are fetched from https's own, 443")]
    Port,
    #[error(
        "has a host that is not found on the public internet; files of private networks and of this machine are not fetched"
    )]
    Address,
    #[error("has a host that does not answer")]
    Connect,
    #[error("has a host whose certificate is not accepted")]
    Certificate,
    #[error("is not to be had: its host answers with status {0}")]
    Status(u16),
    #[error("leads on to an address that is not fetched from, or leads on more than 3 times")]
    Redirect,
    #[error("is answered with a compressed file, which was not asked for")]
    Encoded,
    #[error("broke off before the file was whole")]
    Broken,
    #[error("is too large: the files that are fetched for one request have at most {0} bytes together")]
    TooLarge(usize),
    #[error("takes too long: the files of one request must arrive within {0} s")]
    TooSlow(u64),
    #[error("is one too many: a request may name {0} different addresses")]
    TooMany(usize),
    /// Ours to mend; logged.
    #[error("cannot be fetched by this server: its TLS is not set up")]
    Client,
}

impl From<reqwest::Error> for Refusal {
    fn from(error: reqwest::Error) -> Self {
        // Its text may hold the address, query and all.
        let error = error.without_url();
        if has::<Closed>(&error) {
            return Self::Address;
        }
        if has::<rustls::Error>(&error) {
            return Self::Certificate;
        }
        if error.is_connect() || error.is_timeout() { Self::Connect } else { Self::Broken }
    }
}

/// Whether an error of this kind is among the causes, also inside an I/O error.
fn has<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<E>() {
            return true;
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if inner.is_some_and(|inner| has::<E>(inner)) {
            return true;
        }
        next = error.source();
    }
    false
}
