//! `MAIL_DOMAIN_LIMITS`: how much may go to one recipients' domain.

use std::collections::BTreeMap;

use super::faults::shown;
use super::reader::{Found, Reader};
use super::relay::parse_host;
use super::transport_url::pace;
use super::transports::Pace;

/// The name of every domain that is not named.
const OTHERS: &str = "*";
const MOST_AT_ONCE: u32 = 10_000;

/// How much may go to one domain, all processes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainLimit {
    /// So many mails in such a time, evenly: never more in any such time.
    pub rate: Option<Pace>,
    /// So many mails under way at once.
    pub at_once: Option<u32>,
}

/// How much may go to each domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DomainLimits {
    /// By domain, in lower-case A-labels; none is without limits.
    named: BTreeMap<String, Option<DomainLimit>>,
    /// Of each domain that is not named, each for itself.
    others: Option<DomainLimit>,
}

impl DomainLimits {
    /// Whether no domain is limited.
    pub fn is_empty(&self) -> bool {
        self.others.is_none() && self.named.values().all(Option::is_none)
    }

    /// The limit of a domain in lower-case A-labels.
    pub fn of(&self, domain: &str) -> Option<DomainLimit> {
        self.named.get(domain).copied().unwrap_or(self.others)
    }

    /// As `MAIL_DOMAIN_LIMITS` has it: `gmail.com=20/s,4 example.org=off *=10`.
    ///
    /// # Errors
    /// Each entry that is not one, with what is accepted.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let (mut limits, mut problems) = (Self::default(), Vec::new());
        for entry in text.split_whitespace() {
            match entry.split_once('=').and_then(|(domain, limit)| Some((domain, limits_of(limit)?))) {
                Some((OTHERS, limit)) if limits.others.is_none() => limits.others = limit,
                Some((OTHERS, _)) => problems.push(twice(OTHERS)),
                Some((domain, limit)) => match a_labels(domain) {
                    Some(domain) if limits.named.contains_key(&domain) => problems.push(twice(&domain)),
                    Some(domain) => drop(limits.named.insert(domain, limit)),
                    None => problems.push(not_one(entry)),
                },
                None => problems.push(not_one(entry)),
            }
        }
        if problems.is_empty() { Ok(limits) } else { Err(problems) }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let Some(Found { name, value }) = reader.text("MAIL_DOMAIN_LIMITS") else { return Self::default() };
        Self::parse(&value).unwrap_or_else(|problems| {
            problems.into_iter().for_each(|problem| reader.fault(&[&name], problem));
            Self::default()
        })
    }
}

fn not_one(entry: &str) -> String {
    format!(
        "{} is not domain=rate, domain=number or both, such as gmail.com=20/s,4: a rate is 20/s, 100/m, 1000/h or \
         5000/d, a number from 1 to {MOST_AT_ONCE} is mails at once, off is no limit, and the domain * is each other \
         domain",
        shown(entry)
    )
}

fn twice(domain: &str) -> String {
    format!("has {domain}= more than once")
}

/// `20/s`, `4`, `20/s,4` or `off`; none is not any of them.
fn limits_of(text: &str) -> Option<Option<DomainLimit>> {
    if text == "off" {
        return Some(None);
    }
    let mut limit = DomainLimit { rate: None, at_once: None };
    for part in text.split(',') {
        if part.contains('/') {
            let rate = pace(part, "smhd")?;
            if limit.rate.replace(rate).is_some() {
                return None;
            }
        } else {
            let most = part.parse().ok().filter(|most| (1..=MOST_AT_ONCE).contains(most))?;
            if limit.at_once.replace(most).is_some() {
                return None;
            }
        }
    }
    Some(Some(limit))
}

/// As recipients are kept: lower case, A-labels.
fn a_labels(domain: &str) -> Option<String> {
    let ascii = idna::domain_to_ascii_strict(domain).ok()?;
    let is_name = parse_host(&ascii).is_some() && ascii.parse::<std::net::IpAddr>().is_err();
    (is_name && !ascii.ends_with('.') && (ascii.contains('.') || ascii == "localhost")).then_some(ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limit(text: &str, domain: &str) -> Option<DomainLimit> {
        DomainLimits::parse(text).expect("good").of(domain)
    }

    #[test]
    fn a_domain_has_a_rate_a_number_at_once_or_both() {
        let rate = |mails, seconds| Some(Pace { mails, per: Duration::from_secs(seconds) });
        let text = "gmail.com=20/s,4 Yahoo.COM=3 m\u{fc}nchen.de=100/m example.org=off *=2,1000/d";
        for (domain, expected) in [
            ("gmail.com", Some(DomainLimit { rate: rate(20, 1), at_once: Some(4) })),
            ("yahoo.com", Some(DomainLimit { rate: None, at_once: Some(3) })),
            ("xn--mnchen-3ya.de", Some(DomainLimit { rate: rate(100, 60), at_once: None })),
            ("example.org", None),
            ("mail.gmail.com", Some(DomainLimit { rate: rate(1_000, 86_400), at_once: Some(2) })),
        ] {
            assert_eq!(limit(text, domain), expected, "{domain}");
        }
        assert_eq!(limit("gmail.com=4", "example.org"), None);
        assert!(!DomainLimits::parse("gmail.com=4").expect("good").is_empty());
        assert!(DomainLimits::parse(" gmail.com=off ").expect("good").is_empty());
    }

    #[test]
    fn what_is_not_a_limit_says_what_is() {
        for bad in [
            "gmail.com",
            "gmail.com=",
            "=4",
            "gmail.com=0",
            "gmail.com=-1",
            "gmail.com=10001",
            "gmail.com=20/w",
            "gmail.com=0/s",
            "gmail.com=20/s,30/s",
            "gmail.com=4,5",
            "gmail.com=4,",
            "gmail.com=off,4",
            "ada@gmail.com=4",
            "com=4",
            "10.0.0.1=4",
            "gmail.com.=4",
            "*.com=4",
            "g mail.com=4",
        ] {
            let problems = DomainLimits::parse(bad).expect_err(bad);
            assert!(problems[0].contains("such as gmail.com=20/s,4"), "{bad}: {problems:?}");
        }
        let twice = DomainLimits::parse("a.test=1 A.test=2 *=1 *=2").expect_err("twice");
        assert_eq!(twice, ["has a.test= more than once", "has *= more than once"]);
    }
}
