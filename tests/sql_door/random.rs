//! Whatever is in whichever field, both doors say the same.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use crate::both::Both;
use crate::mail::{File, Mail, good};
use crate::support::outbox::TestOutbox;

const CASES: u32 = 1_500;

/// Texts in which what is special is frequent.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z@.<>\"\\\\ %!?=éÜ\u{202e}\u{2029}\r\n\u{85}\t;/+-]{0,16}",
        "[ -~]{0,24}",
        "\\PC{0,16}",
        any::<String>().prop_map(|text| text.chars().take(40).collect()),
    ]
}

fn address() -> impl Strategy<Value = String> {
    let local = "[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,9}|[a-z]{60,66}";
    let domain = "[a-z0-9-]{1,8}[.][a-z0-9]{1,4}|[a-zA-Z.-]{1,9}|localhost|[a-z]{62,64}[.]x|([a-z]{50}[.]){3,5}x|[a-zü]{1,5}[.]x|xn--[a-z0-9-]{1,6}[.]x|[0-9]{1,3}[.][0-9]{1,3}";
    let bare = prop_oneof![8 => (local, domain).prop_map(|(l, d)| format!("{l}@{d}")), 1 => nasty(), 1 => "[a-z]{0,3}[@.]{0,3}[a-z]{0,3}"];
    let name = "[A-Za-z ]{0,9}|\"[a-z,\\\\\" ]{0,6}\"|\"?[\\PC\r\u{9b}]{0,4}\"?|é{199,202}";
    (bare, option::weighted(0.4, name)).prop_map(|(bare, name)| match name {
        Some(name) => format!("{name} <{bare}>"),
        None => bare,
    })
}

fn header() -> impl Strategy<Value = (String, String)> {
    let name = "[A-Za-z0-9_-]{0,12}|X-[ -~]{0,4}|[Cc]ontent-[a-z]{0,4}|[Tt][Oo]|DATE|Reply-To|X{75,78}|É";
    (name, prop_oneof![4 => nasty(), 1 => "v{3990,4010}|é{3000}"])
}

fn file() -> impl Strategy<Value = File> {
    let name = prop_oneof!["[a-z./\\\\]{0,8}", nasty(), "é{250,260}"];
    let kind = prop_oneof![
        3 => "[a-z]{0,4}/[a-zA-Z.+*-]{0,6}",
        3 => "[a-z]{1,3}/[a-z]{1,3}(; {0,2}[a-z]{0,2}=?(\"[ -~]{0,4}\"|[a-z]{0,3}) {0,1}){1,3};? {0,1}",
        1 => "text/p{240,260}",
        1 => nasty(),
        1 => "[a-z/;=\" \\PC]{0,12}",
    ];
    let id = "[a-z0-9._@-]{0,9}|[ -~é]{1,4}|a{126,129}";
    (name, kind, option::of(id), vec(any::<u8>(), 0..20)).prop_map(|(name, kind, id, content)| File {
        name,
        kind,
        id,
        content,
    })
}

/// A good e-mail with one field, or a few, that may be anything.
fn mail() -> impl Strategy<Value = Mail> {
    let change = prop_oneof![
        4 => address().prop_map(|a| Mail { from: a, ..Mail::default() }),
        6 => vec(address(), 1..4).prop_map(|to| Mail { to, ..Mail::default() }),
        2 => vec(address(), 1..3).prop_map(|cc| Mail { cc, ..Mail::default() }),
        2 => vec(address(), 1..3).prop_map(|bcc| Mail { bcc, ..Mail::default() }),
        2 => vec(address(), 1..3).prop_map(|reply_to| Mail { reply_to, ..Mail::default() }),
        4 => prop_oneof![4 => nasty(), 1 => "é{990,1005}"].prop_map(|subject| Mail { subject, ..Mail::default() }),
        2 => nasty().prop_map(|text| Mail { text: Some(text), ..Mail::default() }),
        2 => nasty().prop_map(|html| Mail { html: Some(html), ..Mail::default() }),
        6 => vec(header(), 1..4).prop_map(|headers| Mail { headers, ..Mail::default() }),
        6 => vec(file(), 1..3).prop_map(|files| Mail { files, ..Mail::default() }),
        2 => prop_oneof![nasty(), "[ -~]{250,258}"].prop_map(|name| Mail { supersedes: Some(name), ..Mail::default() }),
        2 => prop_oneof![nasty(), "[ -~]{250,258}"].prop_map(|key| Mail { key: Some(key), ..Mail::default() }),
    ];
    vec(change, 1..3).prop_map(|changes| changes.into_iter().fold(good(), changed))
}

fn changed(mut mail: Mail, change: Mail) -> Mail {
    let none = Mail::default();
    macro_rules! take {
        ($($field:ident),*) => { $(if change.$field != none.$field { mail.$field = change.$field; })* };
    }
    take!(from, to, cc, bcc, reply_to, subject, text, html, headers, files, supersedes, key);
    mail
}

#[test]
fn whatever_is_written_both_doors_say_the_same() {
    let runtime = Runtime::new().unwrap();
    let t = runtime.block_on(TestOutbox::new());
    let (mut took, mut refused, mut left) = (0, 0, 0);
    let counts = std::cell::RefCell::new((&mut took, &mut refused, &mut left));
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 100,
        ..Config::default()
    });
    let result = runner.run(&mail(), |mail| {
        let both = runtime.block_on(async {
            // A key that comes again would be refused for that.
            t.execute("DELETE FROM facteur.idempotency").await;
            t.by_both(&mail).await
        });
        let mut counts = counts.borrow_mut();
        match both {
            Both::Took(..) => *counts.0 += 1,
            Both::Refused(_) => *counts.1 += 1,
            Both::LeftToOthers => *counts.2 += 1,
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    eprintln!(
        "of {CASES} e-mails: {took} taken by both doors, {refused} refused by both, {left} left to the library"
    );
    assert!(took > CASES / 10 && refused > CASES / 10, "both are tried");
    runtime.block_on(async { drop(t) });
}
