//! Where traces go.

use secrecy::{ExposeSecret, SecretString};

use super::faults::Faults;
use super::reader::{Found, Reader};
use super::variables::Variables;

/// Where traces go, by OTLP over HTTP.
#[derive(Debug, Clone)]
pub struct Otlp {
    /// The whole address: the collector's, and `/v1/traces`.
    pub traces: String,
    /// Headers of each request; their values are secrets.
    pub headers: Vec<(String, SecretString)>,
    /// The name under which traces show this program.
    pub service: String,
}

impl Otlp {
    /// Reads the `OTEL_` variables; none when traces go nowhere.
    ///
    /// # Errors
    /// One of them is malformed.
    pub fn from_variables(variables: &Variables) -> Result<Option<Self>, Faults> {
        let mut reader = Reader::new(variables);
        let otlp = Self::read(&mut reader);
        reader.finish(Some(otlp))
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let accepts = "the address of a collector, such as http://collector:4318";
        let traces = reader.parse("OTEL_EXPORTER_OTLP_ENDPOINT", accepts, traces);
        let service = reader.parse("OTEL_SERVICE_NAME", "1 to 255 characters", |text| {
            let good = !text.contains(char::is_control) && text.chars().count() <= 255;
            good.then(|| text.to_owned())
        });
        let headers = reader.secret("OTEL_EXPORTER_OTLP_HEADERS").and_then(|found| headers(reader, &found));
        Some(Self {
            traces: traces?.value,
            headers: headers.unwrap_or_default(),
            service: service.map_or_else(|| "facteur".to_owned(), |found| found.value),
        })
    }
}

/// `http://collector:4318` becomes `http://collector:4318/v1/traces`.
fn traces(text: &str) -> Option<String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
    let good = !host.is_empty() && !host.starts_with('/') && !text.contains(['@', '?', '#', ' ']);
    good.then(|| format!("{}/v1/traces", text.trim_end_matches('/')))
}

fn headers(reader: &mut Reader<'_>, found: &Found<SecretString>) -> Option<Vec<(String, SecretString)>> {
    let pairs = found.value.expose_secret().split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs: Option<Vec<_>> = pairs.map(header).collect();
    if pairs.is_none() {
        reader.fault(&[&found.name], "name=value, several separated by commas");
    }
    pairs
}

/// The value may be percent-encoded, as the specification has it.
fn header(pair: &str) -> Option<(String, SecretString)> {
    let (name, value) = pair.split_once('=')?;
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let (name, value) = (name.trim(), decoded(value.trim())?);
    let good =
        !name.is_empty() && name.bytes().all(is_token) && value.bytes().all(|b| (b' '..=b'~').contains(&b));
    good.then(|| (name.to_ascii_lowercase(), value.into()))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Otlp>, Faults> {
        Otlp::from_variables(&Variables::from_iter(pairs.iter().copied()))
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn unset_goes_nowhere_and_the_rest_has_defaults() {
        assert!(read(&[]).expect("no fault").is_none());
        let otlp = read(&[ENDPOINT]).expect("no fault").expect("set");
        assert_eq!(
            (otlp.traces.as_str(), otlp.service.as_str()),
            ("http://collector:4318/v1/traces", "facteur")
        );
    }

    #[test]
    fn headers_are_read_and_never_shown() {
        let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20aHVudGVyMg==, x-tenant=a");
        let otlp = read(&[ENDPOINT, headers]).expect("no fault").expect("set");
        let shown: Vec<(&str, &str)> =
            otlp.headers.iter().map(|(n, v)| (n.as_str(), v.expose_secret())).collect();
        assert_eq!(shown, [("authorization", "Basic aHVudGVyMg=="), ("x-tenant", "a")]);
        assert!(!format!("{otlp:?}").contains("aHVudGVyMg"));
    }

    #[test]
    fn what_is_malformed_is_named_and_a_secret_not_echoed() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@collector"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0d%0a"),
        ] {
            let faults = read(&[ENDPOINT, (name, value)]).expect_err("a fault").to_string();
            assert!(faults.contains(name), "{faults}");
            assert!(!faults.contains("hunter2") || name.ends_with("ENDPOINT"), "{faults}");
        }
    }
}
