use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use rustls::{ClientConfig, RootCertStore};

use super::reach::Gatekeeper;
use super::refusal::Refusal;
use super::{Inner, Room, target};

/// Name look-up, TCP and TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// A file that has moved, to a store that signs its addresses, which has moved too.
const MOST_REDIRECTS: usize = 3;

/// A file as it came.
pub(super) struct Fetched {
    pub(super) content: Vec<u8>,
    pub(super) content_type: Option<String>,
}

impl Inner {
    pub(super) async fn fetch(&self, path: &str, room: &Room) -> Result<Fetched, Refusal> {
        let mut url = target::parse(path, &self.rules, self.reach.as_ref())?;
        let client = self.client.get_or_init(|| client(self)).as_ref().ok_or(Refusal::Client)?;
        for _ in 0..=MOST_REDIRECTS {
            let request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            let answer = request.send().await?;
            match answer.status().as_u16() {
                200 => return read(answer, room).await,
                301 | 302 | 303 | 307 | 308 => url = self.next(&url, &answer)?,
                status => return Err(Refusal::Status(status)),
            }
        }
        Err(Refusal::Redirect)
    }

    /// Where a redirect leads, if one may go there.
    fn next(&self, url: &Url, answer: &Response) -> Result<Url, Refusal> {
        let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        let to = to.and_then(|to| url.join(to).ok()).ok_or(Refusal::Redirect)?;
        target::check(to, &self.rules, self.reach.as_ref()).map_err(|_| Refusal::Redirect)
    }
}

async fn read(mut answer: Response, room: &Room) -> Result<Fetched, Refusal> {
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    if header(CONTENT_ENCODING).is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(Refusal::Encoded);
    }
    if answer.content_length().is_some_and(|bytes| !room.has(bytes)) {
        return Err(Refusal::TooLarge(super::MOST_BYTES));
    }
    let content_type = header(CONTENT_TYPE).map(str::to_owned);
    let mut content = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        room.take(chunk.len())?;
        content.extend_from_slice(&chunk);
    }
    Ok(Fetched { content, content_type })
}

/// HTTP/1.1 over rustls; every connection is new, so that each was looked up and checked.
fn client(inner: &Inner) -> Option<Client> {
    let roots = inner.roots.clone().unwrap_or_else(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    });
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.inspect_err(|error| tracing::error!(%error, "TLS cannot be set up")).ok()?;
    let client = Client::builder()
        .tls_backend_preconfigured(tls.with_root_certificates(roots).with_no_client_auth())
        .http1_only()
        .no_proxy()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT)
        .pool_max_idle_per_host(0)
        .dns_resolver(Gatekeeper(Arc::clone(&inner.reach)))
        .user_agent(concat!("facteur/", env!("CARGO_PKG_VERSION")))
        .build();
    client.inspect_err(|error| tracing::error!(%error, "no client for attachments")).ok()
}
