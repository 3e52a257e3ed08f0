//! W3C Trace Context: the header `traceparent`.

use std::fmt;

use uuid::Uuid;

/// Which trace, which span in it, and whether anybody keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) trace: u128,
    pub(super) span: u64,
    pub(super) sampled: bool,
}

impl Context {
    /// `00-{trace}-{span}-{flags}`; none for anything else, all zeros among it. Of a later version, what this one knows.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version == "00" && parts.next().is_some() || version == "ff" {
            return None;
        }
        number(version, 2)?;
        let (trace, span, flags) = (number(trace, 32)?, number(span, 16)?, number(flags, 2)?);
        let context = Self { trace, span: u64::try_from(span).ok()?, sampled: flags & 1 == 1 };
        (trace != 0 && span != 0).then_some(context)
    }

    /// The root of a trace that nobody has begun.
    pub(super) fn root() -> Self {
        Self { trace: Uuid::new_v4().as_u128(), span: new_span(), sampled: true }
    }

    /// A span of the same trace.
    pub(super) fn child(self) -> Self {
        Self { span: new_span(), ..self }
    }
}

fn new_span() -> u64 {
    // Of a random UUID's halves this one has no bits but the variant's that are fixed, so it is never zero.
    Uuid::new_v4().as_u64_pair().1
}

/// Lower-case hexadecimal of just this length.
fn number(text: &str, digits: usize) -> Option<u128> {
    let good = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    good.then(|| u128::from_str_radix(text, 16).ok())?
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_as_it_is_written() {
        assert_eq!(Context::parse(GOOD).expect("good").to_string(), GOOD);
        let unsampled = Context::parse(&GOOD.replace("-01", "-00")).expect("good");
        assert!(!unsampled.sampled && !unsampled.child().sampled);
        assert!(Context::parse(&format!("01{}-more", &GOOD[2..])).is_some(), "a later version");
        assert_eq!(Context::parse(&Context::root().to_string()).map(|c| c.sampled), Some(true));
    }

    #[test]
    fn what_is_none_begins_a_trace_of_its_own() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Context::parse(bad), None, "{bad}");
        }
    }
}
