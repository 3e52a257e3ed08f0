//! The two facts of a certificate that a person asks for: whose it is, and until when.

/// The common name of its subject, if it has one, and when it ends, as `2027-01-31 12:00:00 UTC`. None: it cannot be read.
pub(super) fn facts(certificate: &[u8]) -> Option<(Option<String>, String)> {
    const VERSION: u8 = 0xA0;
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // Its number, its signature's algorithm, its issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (_, validity, fields) = element(fields)?;
    let (_, subject, _) = element(fields)?;
    let (_, _, end) = element(validity)?;
    Some((common_name(subject), moment(end)?))
}

fn common_name(mut names: &[u8]) -> Option<String> {
    /// 2.5.4.3
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    while !names.is_empty() {
        let (_, set, rest) = element(names)?;
        let (_, pair, _) = element(set)?;
        let (_, kind, value) = element(pair)?;
        if kind == COMMON_NAME {
            return Some(String::from_utf8_lossy(element(value)?.1).into_owned());
        }
        names = rest;
    }
    None
}

/// UTCTime or GeneralizedTime (RFC 5280 §4.1.2.5).
fn moment(time: &[u8]) -> Option<String> {
    const UTC_TIME: u8 = 0x17;
    let (tag, text, _) = element(time)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match tag {
        UTC_TIME if text >= "50" => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        _ => text.to_owned(),
    };
    let part = |from: usize| text.get(from..from + 2);
    let (year, month, day) = (text.get(..4)?, part(4)?, part(6)?);
    Some(format!("{year}-{month}-{day} {}:{}:{} UTC", part(8)?, part(10)?, part(12)?))
}

/// The first element (X.690 §8.1): its tag, its content, and what is behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (length, rest) =
                rest.split_at_checked(usize::from(long & 0x7F)).filter(|(l, _)| l.len() <= 3)?;
            (length.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_time_are_read() {
        let shown = |tag: u8, text: &str| moment(&[&[tag, text.len() as u8], text.as_bytes()].concat());
        assert_eq!(shown(0x17, "270131235958Z").as_deref(), Some("2027-01-31 23:59:58 UTC"));
        assert_eq!(shown(0x17, "991231000000Z").as_deref(), Some("1999-12-31 00:00:00 UTC"));
        assert_eq!(shown(0x18, "20500101000000Z").as_deref(), Some("2050-01-01 00:00:00 UTC"));
        assert_eq!(shown(0x17, "2701"), None);
    }

    #[test]
    fn what_is_no_certificate_is_not_read() {
        for bytes in
            [&b""[..], b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03abc", &[0x30; 100]]
        {
            assert_eq!(facts(bytes), None);
        }
    }
}
