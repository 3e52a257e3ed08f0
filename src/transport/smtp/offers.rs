/// What the server said it can do, in its reply to EHLO (RFC 5321 §4.1.1.1).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Offers {
    /// Several commands in one write (RFC 2920).
    pub(super) pipelining: bool,
    /// Addresses in UTF-8 (RFC 6531).
    pub(super) smtputf8: bool,
    /// The size of a mail is announced (RFC 1870).
    pub(super) size: bool,
    /// The largest mail that it takes, where it says so.
    pub(super) largest: Option<u64>,
    /// Ways to log in, in capitals.
    mechanisms: Vec<String>,
}

impl Offers {
    /// Reads the lines of a reply without their codes; the first is the server's name.
    ///
    /// 8BITMIME is not looked for: messages are rendered in seven bits, whatever is in them, so that
    /// every server can take them and none has to change them, which would break a signature.
    pub(super) fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut offers = Self::default();
        for line in lines.skip(1) {
            let mut words = line.split_ascii_whitespace().map(str::to_ascii_uppercase);
            match words.next().as_deref() {
                Some("PIPELINING") => offers.pipelining = true,
                Some("SMTPUTF8") => offers.smtputf8 = true,
                Some("SIZE") => {
                    offers.size = true;
                    // Zero is no limit that the server knows of (RFC 1870 §4).
                    offers.largest = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                }
                Some("AUTH") => offers.mechanisms.extend(words),
                _ => {}
            }
        }
        offers
    }

    /// Whether one may log in like this.
    pub(super) fn has_mechanism(&self, name: &str) -> bool {
        self.mechanisms.iter().any(|one| one == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reply: &str) -> Offers {
        Offers::read(reply.lines())
    }

    #[test]
    fn keywords_are_read_in_any_case() {
        let offers = read("mx.test\npipelining\nSize 1000\nSMTPutf8\nAUTH plain XOAUTH2\n8BITMIME");
        assert!(offers.pipelining && offers.smtputf8 && offers.size);
        assert_eq!(offers.largest, Some(1000));
        assert!(offers.has_mechanism("PLAIN") && offers.has_mechanism("XOAUTH2"));
        assert!(!offers.has_mechanism("LOGIN"));
    }

    #[test]
    fn a_name_is_no_offer_and_zero_no_limit() {
        assert_eq!(read("PIPELINING"), Offers::default());
        for line in ["SIZE", "SIZE 0", "SIZE lots", "SIZE -1"] {
            let offers = read(&format!("mx.test\n{line}"));
            assert!(offers.size, "{line}");
            assert_eq!(offers.largest, None, "{line}");
        }
    }
}
