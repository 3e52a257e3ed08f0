//! Where the API listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::profile::Environment;
use super::reader::Reader;

/// Reads `HTTP_HOST` and `HTTP_PORT`: on a laptop this machine only, elsewhere everybody, because
/// a container is reached from outside it.
pub(super) fn read(reader: &mut Reader<'_>, environment: Environment) -> SocketAddr {
    let host = reader.parse("HTTP_HOST", "an IP address to listen on", parse_address);
    let default = match environment {
        Environment::Development => Ipv4Addr::LOCALHOST,
        Environment::Staging | Environment::Production => Ipv4Addr::UNSPECIFIED,
    };
    let host = host.map_or(IpAddr::V4(default), |found| found.value);
    SocketAddr::new(host, read_port(reader, "HTTP_PORT").unwrap_or(8000))
}

/// Reads `METRICS_HOST` and `METRICS_PORT`: nobody is asked for a token there, so it is this machine's
/// alone unless somebody says otherwise.
pub(super) fn read_metrics(reader: &mut Reader<'_>) -> Option<SocketAddr> {
    let host = reader.parse("METRICS_HOST", "an IP address to listen on", parse_address);
    let port = read_port(reader, "METRICS_PORT")?;
    Some(SocketAddr::new(host.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |found| found.value), port))
}

/// A port to listen on.
pub(super) fn read_port(reader: &mut Reader<'_>, name: &str) -> Option<u16> {
    let accepts = "a port: a number from 1 to 65535, or 0 for any free one";
    reader.parse(name, accepts, |text| text.parse().ok()).map(|found| found.value)
}

fn parse_address(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text).parse().ok()
}
