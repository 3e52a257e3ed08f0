//! Where the process of this container answers probes: for `facteur check --live`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::faults::Faults;
use super::http;
use super::profile::Environment;
use super::reader::Reader;
use super::variables::Variables;

/// The API's address, and that of metrics and probes where they have one. Looks at nothing else: a fault elsewhere
/// says nothing on whether the process lives.
///
/// # Errors
/// One of these variables is malformed.
pub fn read(variables: &Variables) -> Result<Vec<SocketAddr>, Faults> {
    let mut reader = Reader::new(variables);
    let environment = Environment::read(&mut reader, Environment::Production);
    let api = http::read(&mut reader, environment);
    let metrics = http::read_metrics(&mut reader);
    let addresses = [Some(api), metrics].into_iter().flatten().map(reached).collect();
    reader.finish(Some(addresses))
}

/// Who listens on every address is asked on loopback.
fn reached(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Vec<String> {
        let addresses = read(&Variables::from_iter(pairs.iter().copied())).expect("no fault");
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_api_is_asked_first_and_then_the_port_of_the_metrics() {
        assert_eq!(asked(&[]), ["127.0.0.1:8000"]);
        assert_eq!(asked(&[("HTTP_HOST", "::"), ("HTTP_PORT", "8080")]), ["[::1]:8080"]);
        let own = [("METRICS_PORT", "9464"), ("METRICS_HOST", "0.0.0.0")];
        assert_eq!(asked(&own), ["127.0.0.1:8000", "127.0.0.1:9464"]);
        // No JWT key, no database, no relay: none of its business.
        assert_eq!(asked(&[("APP_ENV", "production"), ("JWT_SECRET", "short")]), ["127.0.0.1:8000"]);
    }
}
