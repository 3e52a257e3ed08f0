//! The plain text of an e-mail that came as HTML alone.

use html2text::config;

/// Columns, unless a word or an address is longer.
const WIDTH: usize = 78;
/// HTML larger than this is sent without: nobody reads such a text.
const MAX_HTML: usize = 2_000_000;
/// Parsing takes time by the square of how many tags are open inside one another: so many of them at
/// most, and so many tags in all, should somebody hide the depth from [`is_deep`].
const MAX_DEPTH: usize = 250;
const MAX_TAGS: usize = 20_000;

/// What the HTML says, in plain text; none when there is no such thing.
pub(super) fn of(html: &str) -> Option<String> {
    if html.len() > MAX_HTML || html.matches('<').count() > 2 * MAX_TAGS || is_deep(html) {
        return None;
    }
    let config = config::plain().allow_width_overflow().no_table_borders().no_link_wrapping();
    let text = config.string_from_read(html.as_bytes(), WIDTH).ok()?;
    let text: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let text = text.trim_matches('\n');
    // Its own characters are the caller's; NUL would be refused as a text, and is one here too.
    (!text.trim().is_empty() && !text.contains('\0')).then(|| format!("{text}\n"))
}

/// Elements that have no end tag.
const VOID: [&str; 9] = ["br", "img", "hr", "meta", "link", "input", "col", "wbr", "area"];

/// Whether many elements are open inside one another. A rough look: no comments, no scripts.
fn is_deep(html: &str) -> bool {
    let mut open: Vec<String> = Vec::new();
    for tag in html.split('<').skip(1) {
        let (end, tag) = tag.strip_prefix('/').map_or((false, tag), |tag| (true, tag));
        let length = tag.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(tag.len());
        let name = tag[..length].to_ascii_lowercase();
        if end {
            // One that ends nothing near is no end.
            let near = open.iter().rev().take(8).position(|earlier| *earlier == name);
            near.into_iter().for_each(|above| open.truncate(open.len() - above - 1));
        } else if name.starts_with(|c: char| c.is_ascii_alphabetic())
            && !VOID.contains(&name.as_str())
            // <p> after <p>, <li> after <li>: the first ends there.
            && (open.last() != Some(&name) || matches!(name.as_str(), "div" | "span" | "table" | "b" | "i" | "font"))
        {
            open.push(name);
        }
        if open.len() > MAX_DEPTH {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn what_a_reader_sees_and_no_more() {
        let text = of("<html><head><style>p{color:red}</style><title>T</title></head><body><h1>Hello</h1>
            <p>Your order is <b>ready</b>: <a href=\"https://x.test/o?id=7\">see it</a>.</p>
            <script>alert(1)</script><ul><li>one</li><li>two</li></ul></body></html>")
        .unwrap();
        for there in ["Hello", "Your order is", "ready", "https://x.test/o?id=7", "one", "two"] {
            assert!(text.contains(there), "{there} is not in {text:?}");
        }
        for not_there in ["color:red", "alert", "<p>"] {
            assert!(!text.contains(not_there), "{not_there} is in {text:?}");
        }
    }

    #[test]
    fn nothing_to_say_is_no_text() {
        for html in ["", " ", "<img src=\"cid:logo\">", "<!-- x -->"] {
            assert_eq!(of(html), None, "{html:?}");
        }
    }

    #[test]
    fn odd_html_ends() {
        for html in [
            "<div>".repeat(20_000),
            "<div></x>".repeat(20_000),
            "<table><tr><td>".repeat(300),
            "<b><i>".repeat(2_000),
            "&#0;&#xd800;&bogus;".repeat(100),
            "x".repeat(100_000),
        ] {
            let _ = of(&html);
        }
        assert!(super::is_deep(&"<div></x>".repeat(300)));
        for flat in
            ["<p>a<b>b</b><br>".repeat(1_000), "<div><p>x</p></div>".repeat(1_000), "<li>x".repeat(1_000)]
        {
            assert!(!super::is_deep(&flat), "{flat:.20}");
            assert!(of(&flat).is_some());
        }
    }
}
