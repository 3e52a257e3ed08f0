//! Which domains beyond ASCII the SQL door takes: none that the library refuses, and each as the library writes it.

use crate::support::outbox::TestOutbox;
use facteur::email::Address;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// As the library writes it; none when it refuses it.
fn a_labels(domain: &str) -> Option<String> {
    let address: Address = format!("a@{domain}").parse().ok()?;
    Some(address.domain().to_owned())
}

/// The code points that IDNA leaves as they are in a label that is `around` it, in ranges.
fn kept_in(around: impl Fn(char) -> String) -> String {
    let kept = |c: char| {
        let label = around(c);
        a_labels(&format!("{label}.test")).is_some_and(|ascii| {
            let (unicode, result) = idna::domain_to_unicode(&ascii);
            result.is_ok() && unicode == format!("{label}.test")
        })
    };
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for c in ('\u{80}'..='\u{FFFF}').filter(|c| kept(*c)) {
        match ranges.last_mut() {
            Some((_, end)) if *end == u32::from(c) => *end += 1,
            _ => ranges.push((c.into(), u32::from(c) + 1)),
        }
    }
    let texts: Vec<String> = ranges.into_iter().map(|(from, end)| format!("[{from},{end})")).collect();
    format!("{{{}}}", texts.join(","))
}

#[tokio::test]
async fn the_letters_are_those_that_idna_leaves_as_they_are() {
    let t = TestOutbox::new().await;
    let letters = t.text("SELECT facteur.letters()::text").await;
    assert_eq!(letters, kept_in(|c| format!("q{c}q")), "facteur.letters()");
    let first = t.text("SELECT facteur.first_letters()::text").await;
    assert_eq!(first, kept_in(|c| format!("{c}q")), "facteur.first_letters()");
}

async fn sql(t: &TestOutbox, domains: &[String]) -> Vec<Option<String>> {
    sqlx::query_scalar(
        "SELECT facteur.a_labels(d) FROM unnest($1::text[]) WITH ORDINALITY AS t (d, n) ORDER BY n",
    )
    .bind(domains)
    .fetch_all(&t.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn what_the_sql_door_takes_the_library_writes_the_same() {
    let t = TestOutbox::new().await;
    let mut runner = TestRunner::deterministic();
    let label = prop_oneof![
        "[a-zA-Z0-9-]{0,12}",
        "xn--[a-z0-9-]{1,12}",
        "[a-z]{0,4}[à-ÿα-ωа-яäöüßĀ-žあ-ん一-龥가-힣ก-๛अ-ह]{1,6}[a-z0-9]{0,3}",
        "[a-z]{1,3}\\PC{1,3}",
        "[qaeo]\u{0301}|[a-z]\u{0323}\u{0301}|[\u{1100}-\u{1112}\u{1161}-\u{1175}\u{11a8}-\u{11c2}]{1,4}",
    ];
    let domain = prop_oneof![
        (label, "test|[a-z]{2,4}|[0-9]{1,3}").prop_map(|(label, end)| format!("{label}.{end}")),
        "[a-z.-]{0,9}",
        "localhost|LOCALHOST|\\[127[.]0[.]0[.]1\\]|[0-9]{1,3}[.][0-9]{1,3}",
    ];
    let given: Vec<String> = (0..20_000)
        .map(|_| domain.new_tree(&mut runner).unwrap().current())
        .filter(|d| !d.contains('\0'))
        .collect();
    let (mut both, mut ours, mut wide) = (0, 0, 0);
    // And each that the library takes once more, as its A-labels.
    let coded: Vec<String> = given.iter().filter_map(|d| a_labels(d)).collect();
    let all: Vec<String> = given.into_iter().chain(coded).collect();
    for (domain, taken) in all.iter().zip(sql(&t, &all).await) {
        let expected = a_labels(domain);
        match taken {
            Some(taken) => {
                assert_eq!(Some(&taken), expected.as_ref(), "{domain:?}");
                both += 1;
                wide += u32::from(taken.contains("xn--"));
            }
            None if expected.is_some() => {
                let beyond = !domain.is_ascii() || domain.to_ascii_lowercase().contains("xn--");
                assert!(beyond, "{domain:?} is ASCII, and refused in SQL alone");
                ours += 1;
            }
            None => {}
        }
    }
    eprintln!(
        "{} domains: {both} taken by both, {wide} of them beyond ASCII; {ours} by the library alone",
        all.len()
    );
    assert!(wide > 1_000, "the comparison has something to compare");
}

#[tokio::test]
async fn domains_of_some_languages() {
    let t = TestOutbox::new().await;
    for domain in [
        "ü.test",
        "été.example.fr",
        "straße.test",
        "bücher.xn--tda.test",
        "правда.рф",
        "ελλάδα.test",
        "例え.テスト",
        "한국.test",
        "ไทย.test",
        "हिन्दी.test",
        "xn--tda.test",
        "XN--TDA.test",
        "a--b.test",
        "ab-c.test",
    ] {
        assert_eq!(sql(&t, &[domain.to_owned()]).await, [a_labels(domain)], "{domain}");
        assert!(a_labels(domain).is_some(), "{domain}");
    }
    // What needs IDNA's own tables is refused here, and left to the other doors.
    for domain in
        ["Ü.test", "ｅｘａｍｐｌｅ.test", "a\u{3002}test", "שלום.test", "مثال.test", "e\u{301}.test"]
    {
        assert_eq!(sql(&t, &[domain.to_owned()]).await, [None], "{domain}");
        assert!(a_labels(domain).is_some(), "{domain}");
    }
    for domain in [
        "xn--a.test",
        "xn--.test",
        "xn--tda-.test",
        "xn--ls8h.test",
        "xn---tda.test",
        "xn--zzzzzzzzzzzz.test",
        "ab--c.test",
    ] {
        let taken = sql(&t, &[domain.to_owned()]).await[0].clone();
        assert!(taken.is_none() || taken == a_labels(domain), "{domain}: {taken:?}");
    }
}
