//! What the API lets one caller do.

use std::num::NonZeroU32;
use std::time::Duration;

use super::fetching::Fetching;
use super::profile::Environment;
use super::reader::Reader;

/// What the API lets one caller do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests a second of one caller; none is as many as it likes.
    pub rate: Option<NonZeroU32>,
    /// How long a request's body may take to arrive.
    pub request_timeout: Duration,
    /// How many proxies of one's own are in front; what they say of the caller is believed.
    pub trusted_hops: u8,
    /// Which files it may have fetched.
    pub fetching: Fetching,
}

impl Limits {
    /// Development's: as many requests as one likes, 60 seconds for each.
    pub fn open() -> Self {
        Self {
            rate: None,
            request_timeout: Duration::from_secs(60),
            trusted_hops: 0,
            fetching: Fetching::of(Environment::Development),
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, environment: Environment) -> Self {
        let default = match environment {
            Environment::Development => None,
            Environment::Staging | Environment::Production => NonZeroU32::new(100),
        };
        let accepts = "a number of requests a second such as 10/s, up to 100000/s, or off";
        let rate = reader.parse("API_RATE", accepts, parse_rate).map_or(default, |found| found.value);
        let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
        let open = Self::open().request_timeout;
        Self {
            rate,
            request_timeout: reader.duration("API_REQUEST_TIMEOUT", open, bounds),
            trusted_hops: reader.number("HTTP_TRUSTED_HOPS", 0, 0..=16),
            fetching: Fetching::read(reader, environment),
        }
    }
}

fn parse_rate(text: &str) -> Option<Option<NonZeroU32>> {
    if text == "off" {
        return Some(None);
    }
    let number: NonZeroU32 = text.strip_suffix("/s").unwrap_or(text).parse().ok()?;
    (number.get() <= 100_000).then_some(Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_a_second_or_off() {
        assert_eq!(parse_rate("10/s"), Some(NonZeroU32::new(10)));
        assert_eq!(parse_rate("10"), Some(NonZeroU32::new(10)));
        assert_eq!(parse_rate("off"), Some(None));
        for text in ["", "0", "0/s", "-1", "10/m", "100001/s", "no"] {
            assert_eq!(parse_rate(text), None, "{text}");
        }
    }
}
