//! What the words of a reply say, whoever asks.

/// Subject and detail of an enhanced status code (RFC 3463) at the beginning of a text: `(1, 1)` of `5.1.1`.
pub(crate) fn enhanced(text: &str) -> Option<(u16, u16)> {
    let first = text.split_whitespace().find(|word| word.contains('.'))?;
    let mut numbers = first.split('.').map(str::parse::<u16>);
    match (numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()) {
        (Ok(2 | 4 | 5), Ok(subject), Ok(detail), None) => Some((subject, detail)),
        _ => None,
    }
}

/// Whether a text in lower case says that we are too fast: "Maximum sending rate exceeded", "Too many connections",
/// "receiving mail too quickly".
pub(crate) fn says_too_fast(text: &str) -> bool {
    const PHRASES: [&str; 8] = [
        "throttl",
        "ratelimit",
        "too quickly",
        "too fast",
        "too many connections",
        "too many messages",
        "slow down",
        "relay limit exceeded",
    ];
    let rate = text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| matches!(word, "rate" | "rates"));
    // Many recipients, or many hops, are no hurry.
    let many =
        text.contains("too many") && !["recipient", "hop", "received"].iter().any(|no| text.contains(no));
    rate || many || PHRASES.iter().any(|phrase| text.contains(phrase))
}
