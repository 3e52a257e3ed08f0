//! Where a request comes from, as far as it can be believed.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, Request};

/// The network of whoever asks: an IPv4 address, or the /64 of an IPv6 address, which is one customer's.
///
/// With `hops` proxies of our own in front it is what the outermost of them saw: each adds one address to
/// `X-Forwarded-For`, so that it is the `hops`th from the end, and whatever is before it is anybody's word. A header
/// that did not come through so many of them is not believed. Empty when nothing is known.
pub(super) fn peer(request: &Request, hops: u8) -> String {
    let forwarded = forwarded(request, hops);
    let connected = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    forwarded.or(connected).map(network).unwrap_or_default()
}

fn forwarded(request: &Request, hops: u8) -> Option<IpAddr> {
    // Several header lines are one list (RFC 9110 §5.3).
    let lines = request.headers().get_all("x-forwarded-for").iter();
    let entries: Vec<&str> = lines.flat_map(|line| line.to_str().unwrap_or("?").split(',')).collect();
    let at = entries.len().checked_sub(usize::from(hops))?;
    entries.get(at).and_then(|entry| address(entry.trim()))
}

/// As proxies write it: bare, in brackets, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

fn network(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let prefix = u128::from(ip) & !u128::from(u64::MAX);
            format!("{}/64", Ipv6Addr::from(prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn seen(headers: &[&str], hops: u8) -> String {
        let mut request = axum::http::Request::builder();
        for header in headers {
            request = request.header("x-forwarded-for", *header);
        }
        let mut request = request.body(Body::empty()).expect("a request");
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 4711))));
        peer(&request, hops)
    }

    #[test]
    fn without_trusted_hops_no_header_is_believed() {
        assert_eq!(seen(&["203.0.113.7"], 0), "10.0.0.1");
        assert_eq!(seen(&["203.0.113.7, 203.0.113.8"], 0), "10.0.0.1");
    }

    #[test]
    fn what_the_outermost_trusted_proxy_saw_counts_and_nothing_before_it() {
        for (headers, hops, expected) in [
            (&["203.0.113.7"][..], 1, "203.0.113.7"),
            (&["1.1.1.1, 203.0.113.7"], 1, "203.0.113.7"),
            (&["1.1.1.1", "203.0.113.7"], 1, "203.0.113.7"),
            (&["1.1.1.1, 203.0.113.7, 172.16.0.2"], 2, "203.0.113.7"),
            (&["203.0.113.7:4711"], 1, "203.0.113.7"),
            (&["[2001:db8:1:2:3::4]:4711"], 1, "2001:db8:1:2::/64"),
            (&["2001:db8:1:2:aaaa::"], 1, "2001:db8:1:2::/64"),
            (&["::ffff:203.0.113.7"], 1, "203.0.113.7"),
        ] {
            assert_eq!(seen(headers, hops), expected, "{headers:?} through {hops}");
        }
    }

    #[test]
    fn a_header_that_came_another_way_or_is_none_leaves_the_connection_itself() {
        for (headers, hops) in
            [(&[][..], 1), (&["203.0.113.7"], 2), (&["unknown"], 1), (&[""], 1), (&["203.0.113.7, "], 1)]
        {
            assert_eq!(seen(headers, hops), "10.0.0.1", "{headers:?} through {hops}");
        }
    }
}
