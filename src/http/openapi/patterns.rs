//! What texts must look like, as regular expressions that ECMAScript, Rust and Python read alike.
//!
//! They are as strict as the parsers or a little stricter, never laxer: a domain in other letters than
//! ASCII and base64 in lines are taken too. `tests/openapi.rs` holds them to the parsers.

/// Control characters, line ends and what turns the direction of a text.
const BARRED: &str = r"\u0000-\u001F\u007F-\u009F\u2028-\u202E\u2066-\u2069";

/// One line of a header.
pub(super) fn line() -> String {
    format!("^[^{BARRED}]*$")
}

pub(super) const NO_NUL: &str = r"^[^\u0000]*$";
pub(super) const NAME: &str = r"^[^\u0000-\u001F\u007F-\u009F]*$";
pub(super) const TAG: &str = "^[A-Za-z0-9_-]*$";
pub(super) const KEY: &str = "^[!-~](?:[ -~]*[!-~])?$";
pub(super) const CONTENT_ID: &str = "^[A-Za-z0-9._@-]*$";
pub(super) const HTTPS: &str = "^https://[^\\s]+$";

/// Groups of four; the last may lack its padding.
pub(super) const BASE64: &str = "^(?:[A-Za-z0-9+/]{4})*\
     (?:[A-Za-z0-9+/][AQgw](?:==)?|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=?)?$";

pub(super) const CONTENT_TYPE: &str = "^(?:[A-Za-z0-9][A-Za-z0-9._+-]*/[A-Za-z0-9][A-Za-z0-9._+-]*\
     (?:; ?[A-Za-z0-9_-]+=[A-Za-z0-9._-]+)*)?$";

/// A base name is left.
pub(super) fn filename() -> String {
    format!(r"^(?:[^{BARRED}]*[/\\])?(?!\.{{1,2}}$)[^/\\{BARRED}]{{1,255}}$")
}

/// An address alone.
pub(super) fn address() -> String {
    format!("^(?![^]{{255}}){}$", address_part()).replace("[^]", r"[\s\S]")
}

/// An address, alone or with a name before it.
pub(super) fn mailbox() -> String {
    let quoted = format!(r#""(?:[^{BARRED}<"\\]|\\[^{BARRED}<]){{0,200}}" *"#);
    let plain = format!(r#"[^{BARRED}<" ][^{BARRED}<]{{0,199}}"#);
    let address = address_part();
    format!("^(?:(?!.{{255}}){address}|(?: *(?:{quoted}|{plain}))?<(?![^>]{{255}}){address}>)$")
}

fn address_part() -> String {
    let atom = "[A-Za-z0-9#$&'*+/=?^_`{|}~-]+";
    // IDNA keeps two hyphens there for its own.
    let guard = "(?!(?![Xx][Nn])[A-Za-z0-9-]{2}--)";
    let tail = "(?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
    format!(
        r"(?![^@]{{65}})(?![^@]*=\?){atom}(?:\.{atom})*@(?:{guard}[A-Za-z0-9]{tail}\.)+{guard}[A-Za-z]{tail}"
    )
}

/// ISO 8601, or a few plain words; not whether there is such a day, and whether it is soon enough.
pub(super) fn moment() -> String {
    let iso = "[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]\
               (?::[0-5][0-9])?(?:\\.[0-9]{1,9})?(?:[Zz]|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)?";
    let unit = "(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)";
    let day = "(?:today|tomorrow|mon|tue|wed|thu|fri|sat|sun|monday|tuesday|wednesday|thursday|friday\
               |saturday|sunday)";
    let clock = "(?:noon|(?:[01]?[0-9]|2[0-3]):[0-5][0-9]|(?:0?[1-9]|1[0-2])(?::[0-5][0-9])? ?(?:am|pm))";
    let words =
        format!("now|in (?:(?:an?|one) {unit}|[0-9]{{1,5}} ?{unit})|{day} at {clock}(?: (?:utc|gmt|z))?");
    format!("^(?:{iso}|{})$", in_any_case(&words))
}

/// Names of headers that a caller may set.
pub(super) fn header_name(reserved: &[&str]) -> String {
    let reserved = in_any_case(&reserved.join("|"));
    let content = in_any_case("content-");
    format!("^(?!(?:{reserved})$)(?!{content})[A-Za-z0-9_-]{{1,76}}$")
}

/// Each letter as a class of both; classes and what is escaped stay as they are.
fn in_any_case(pattern: &str) -> String {
    let mut in_class = false;
    let each = |c: char| {
        in_class = (in_class || c == '[') && c != ']';
        match c {
            'a'..='z' if !in_class => format!("[{}{c}]", c.to_ascii_uppercase()),
            c => c.to_string(),
        }
    };
    pattern.chars().map(each).collect()
}
