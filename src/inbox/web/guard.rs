//! Who may ask, and what a browser may do with the answer.
//!
//! The inbox has no password, because it listens on this machine only. But any web page that is
//! open in the developer's browser can send requests to this machine as well; this is what
//! keeps such pages out.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::failure::Failure;

/// For every answer that does not bring its own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Refuses names that are not this machine's, and other sites where it matters.
pub(super) async fn foreigners(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = header_text(headers, &header::HOST);
    // A name that an attacker's DNS lets point here (DNS rebinding) is still not one of ours.
    if !host.is_some_and(is_local) {
        let message = "this inbox answers to localhost, *.localhost, 127.0.0.1 and [::1] only: use one of them as the host";
        return Failure::new(StatusCode::MISDIRECTED_REQUEST, "misdirected_request", message).into_response();
    }
    if is_delicate(&request) && is_foreign(headers) {
        return Failure::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "another site may not ask this of the inbox",
        )
        .into_response();
    }
    next.run(request).await
}

/// What changes something, or keeps a connection.
fn is_delicate(request: &Request) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    !reads || matches!(request.uri().path(), "/api/events" | "/api/messages/wait")
}

/// Whether a browser says that another page is behind the request. A port of its own makes a
/// page another site: `localhost:3000` may be anything. Without a browser there is no such header.
fn is_foreign(headers: &HeaderMap) -> bool {
    let site = HeaderName::from_static("sec-fetch-site");
    let by_site = header_text(headers, &site).is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let host = header_text(headers, &header::HOST).unwrap_or_default();
    let origin = headers.get(header::ORIGIN);
    let by_origin = origin
        .is_some_and(|origin| !origin.as_bytes().eq_ignore_ascii_case(format!("http://{host}").as_bytes()));
    by_site || by_origin
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.to_ascii_lowercase();
    let below = name.strip_suffix(".localhost");
    let is_name = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
    };
    matches!(name.as_str(), "localhost" | "127.0.0.1" | "[::1]") || below.is_some_and(is_name)
}

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Adds what every answer carries.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With `no-referrer` a browser says `Origin: null` when it sends the clear form.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_DNS_PREFETCH_CONTROL, "off"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_and_no_others() {
        for host in
            ["localhost", "LOCALHOST:1080", "127.0.0.1:80", "[::1]", "[::1]:1080", "mail.app.localhost:1080"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.test",
            "localhost.evil.test",
            "evil-localhost",
            ".localhost",
            "127.0.0.1.evil.test:80",
            "127.0.0.2",
            "::1",
            "localhost@evil.test",
            "a@b.localhost",
            "localhost:80:80",
            "[::1]x",
            "0.0.0.0:1080",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn another_port_is_another_site() {
        let foreign = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            is_foreign(&pairs.chain([(header::HOST, HeaderValue::from_static("localhost:1080"))]).collect())
        };
        assert!(!foreign(&[]));
        assert!(!foreign(&[("origin", "http://localhost:1080"), ("sec-fetch-site", "same-origin")]));
        assert!(!foreign(&[("sec-fetch-site", "none")]));
        for origin in ["http://localhost:3000", "https://localhost:1080", "http://evil.test", "null", ""] {
            assert!(foreign(&[("origin", origin)]), "{origin}");
        }
        assert!(foreign(&[("sec-fetch-site", "same-site")]));
        assert!(foreign(&[("sec-fetch-site", "cross-site")]));
    }
}
