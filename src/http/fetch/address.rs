//! Which addresses are the internet's, and which are somebody's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 that is nobody's to fetch from (RFC 6890 and its successors), as network and length.
const CLOSED_V4: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    // 6to4's relays.
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // A cloud's own machine room, on an address that looks public (Azure).
    ([168, 63, 129, 16], 32),
    // Multicast; then what is reserved, broadcast among it.
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Parts of 2000::/3, the internet's part of IPv6, that are not the internet's after all.
const CLOSED_V6: [([u16; 3], u32); 5] = [
    // Assigned to protocols: Teredo, benchmarks, ORCHID.
    ([0x2001, 0, 0], 23),
    ([0x2001, 0x0db8, 0], 32),
    // 6to4: IPv4 inside, and nobody's way any more.
    ([0x2002, 0, 0], 16),
    ([0x3fff, 0, 0], 20),
    // The 6bone, given back.
    ([0x3ffe, 0, 0], 16),
];

/// Whether it is an address of the public internet. Everything else is somebody's own: private, loopback,
/// link-local, shared (CGNAT), multicast, documentation, reserved, or any of these written as IPv6.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// Whether it is this machine's own, also as an IPv4 address inside IPv6.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let within = |(network, length): &([u8; 4], u32)| {
        (v4.to_bits() ^ Ipv4Addr::from(*network).to_bits()).leading_zeros() >= *length
    };
    !CLOSED_V4.iter().any(within)
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let parts = v6.segments();
    // What a network translates for hosts without IPv4: as public as what is inside.
    if let Some(inside) = v6.to_ipv4_mapped() {
        return is_public_v4(inside);
    }
    let last = Ipv4Addr::from_bits(v6.to_bits() as u32);
    if parts[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return is_public_v4(last);
    }
    // ISATAP: the address of its tunnel's end is in the host's half.
    if parts[4] & 0xfdff == 0 && parts[5] == 0x5efe && !is_public_v4(last) {
        return false;
    }
    let within = |([a, b, c], length): &([u16; 3], u32)| {
        let network = Ipv6Addr::new(*a, *b, *c, 0, 0, 0, 0, 0);
        (v6.to_bits() ^ network.to_bits()).leading_zeros() >= *length
    };
    // ::/8 with its other translations, fc00::/7, fe80::/10, ff00::/8 and all the rest are outside.
    parts[0] >> 13 == 1 && !CLOSED_V6.iter().any(within)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOSED: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.170",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "168.63.129.16",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
    ];

    const OPEN: &[&str] = &[
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
    ];

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    /// Each way in which an IPv4 address is written as IPv6.
    fn translated(inside: Ipv4Addr) -> Vec<Ipv6Addr> {
        let [a, b, c, d] = inside.octets().map(u16::from);
        let (high, low) = (a << 8 | b, c << 8 | d);
        vec![
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
            // SIIT (RFC 2765).
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
            // NAT64, and its prefix for local use.
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, high, low >> 8, low << 8, 0, 0),
            // 6to4.
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            // Teredo: the server's, and the client's turned over.
            Ipv6Addr::new(0x2001, 0, high, low, 0, 0, 0xffff, 0xffff),
            Ipv6Addr::new(0x2001, 0, 0x0101, 0x0101, 0, 0, !high, !low),
            // ISATAP, in a public network.
            Ipv6Addr::new(0x2a00, 1, 2, 3, 0, 0x5efe, high, low),
            Ipv6Addr::new(0x2a00, 1, 2, 3, 0x0200, 0x5efe, high, low),
        ]
    }

    #[test]
    fn what_is_somebodys_own_is_closed_however_it_is_written() {
        for text in CLOSED {
            assert!(!is_public(v4(text).into()), "{text}");
            for written in translated(v4(text)) {
                assert!(!is_public(written.into()), "{text} as {written}");
            }
        }
    }

    #[test]
    fn what_is_public_is_open_also_through_nat64() {
        for text in OPEN {
            assert!(is_public(v4(text).into()), "{text}");
            for written in [translated(v4(text))[0], translated(v4(text))[3]] {
                assert!(is_public(written.into()), "{text} as {written}");
            }
        }
        for text in ["2606:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "2400:cb00::1"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn the_rest_of_ipv6_is_closed() {
        for text in [
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "100::1",
            "2001:db8::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "3fff::1",
            "3ffe::1",
            "5f00::1",
            "4000::1",
            "1fff::1",
            "64:ff9b:1::1",
            "64:ff9b:0:1::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn this_machine_is_told_from_the_rest() {
        for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_loopback(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "::", "0.0.0.0", "64:ff9b::7f00:1", "2002:7f00:1::1"] {
            assert!(!is_loopback(text.parse().unwrap()), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_translated_form_of_a_closed_address_is_closed(network in 0..CLOSED_V4.len(), host: u32) {
            let (network, length) = CLOSED_V4[network];
            let mask = u32::MAX.checked_shr(length).unwrap_or(0);
            let inside = Ipv4Addr::from_bits(Ipv4Addr::from(network).to_bits() | host & mask);
            prop_assert!(!is_public(inside.into()), "{inside}");
            for written in translated(inside) {
                prop_assert!(!is_public(written.into()), "{inside} as {written}");
            }
        }

        /// The standard library's own words for a part of it.
        #[test]
        fn what_the_standard_library_knows_is_closed(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let known = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast()
                || v4.is_documentation() || v4.is_unspecified() || v4.is_multicast();
            prop_assert!(!known || !is_public(v4.into()), "{v4}");
        }
    }
}
