//! The comparison can fail: each rule of the SQL door is broken once, and it is seen.

use sqlx::AssertSqlSafe;

use crate::mail::Mail;
use crate::support::outbox::TestOutbox;
use crate::table::{accepted, bad};

/// A function, what stands in it, and what is put in its place.
const BREAKS: &[(&str, &str, &str)] = &[
    ("line_problem", "\\u0001-\\u001f", "\\u0001-\\u0008"),
    ("line_problem", "\\u007f-\\u009f", "\\u007f"),
    ("line_problem", "\\u2028\\u2029", ""),
    ("line_problem", "\\u202a-\\u202e", ""),
    ("line_problem", "\\u2066-\\u2069", ""),
    ("line_problem", "length(given) > most", "octet_length(given) > most"),
    ("line_problem", "position(found IN given) - 1", "position(found IN given)"),
    ("is_local_part", "<= 64", "<= 65"),
    ("is_local_part", "<= 64", "< 64"),
    ("is_local_part", "position('=?' IN given) = 0", "true"),
    ("is_local_part", "]+(\\.", "]*(\\."),
    ("is_local_part", "#$&", "#$%&"),
    ("is_local_part", "#$&", "!#$&"),
    ("is_local_part", "`{|}~-", "`{|~-"),
    ("a_label", "{0,61}", "{0,62}"),
    ("a_label", "[a-z0-9-]{0,61}[a-z0-9]", "[a-z0-9-]{0,62}"),
    ("a_label", "^[a-z0-9](", "^[a-z0-9-]("),
    ("a_label", "AND label !~ '^..--'", ""),
    ("a_label", "[a-z0-9-]", "[a-z0-9_-]"),
    ("a_label", "lower(given COLLATE \"C\")", "given"),
    ("a_label", "AND label NOT LIKE 'xn--%' THEN", "THEN"),
    ("a_label", "OR wide ~ '^-|-$|^..--' OR NOT normalize(wide, NFC) = wide", "OR true"),
    ("a_labels", "label !~ '^[0-9]+$' AND", ""),
    ("a_labels", "cardinality(labels) > 1 OR", ""),
    ("a_labels", "OR kept = 'localhost'", ""),
    ("a_labels", "OR kept = 'localhost'", "OR true"),
    ("address", "OR position('@' IN domain) > 0", ""),
    ("address", "octet_length(kept) > 254", "octet_length(kept) > 260"),
    ("address", "octet_length(kept) > 254", "octet_length(kept) > 250"),
    ("mailbox", "right(given, 1) <> '>'", "false"),
    ("mailbox", "OR name ~ '^\"' AND name !~ '^\"([^\"\\\\]|\\\\.)*\"$'", ""),
    (
        "mailbox",
        "regexp_replace(substr(name, 2, length(name) - 2), '\\\\(.)', '\\1', 'g')",
        "substr(name, 2, length(name) - 2)",
    ),
    ("mailbox", "(name, 200)", "(name, 201)"),
    ("mailbox", "btrim(left(given, open - 1), ' ')", "left(given, open - 1)"),
    ("mailbox", "octets > 213", "octets > 214"),
    ("mailbox", "octets > 213", "octets > 212"),
    ("mailbox", "field = 'from' AND octets", "octets"),
    ("mailbox", "'has a display name that ' || problem", "problem"),
    ("mailboxes", "count > 50", "count > 51"),
    ("mailboxes", "count > 50", "count > 49"),
    ("mailboxes", "i - 1)", "i)"),
    ("check_header", "{1,76}", "{1,77}"),
    ("check_header", "{1,76}", "{0,76}"),
    ("check_header", "{1,76}", "{1,75}"),
    ("check_header", "[A-Za-z0-9_-]", "[A-Za-z0-9_ :-]"),
    ("check_header", "'bcc', ", ""),
    ("check_header", "'sender', ", ""),
    ("check_header", "'dkim-signature',", ""),
    ("check_header", "'return-path'", "'x'"),
    ("check_header", "OR folded LIKE 'content-%'", ""),
    ("check_header", "lower(name COLLATE \"C\")", "name"),
    ("check_header", "(given, 4000)", "(given, 4001)"),
    ("check_headers", "count > 50", "count > 51"),
    ("check_headers", "bytes > 16000", "bytes > 160000"),
    ("checked_file", "'^.*[/\\\\]'", "'^.*[/]'"),
    ("checked_file", "'^.*[/\\\\]'", "'^.*[\\\\]'"),
    ("checked_file", "('', '.', '..')", "('', '.')"),
    ("checked_file", "('', '.', '..')", "('', '..')"),
    ("checked_file", "('', '.', '..')", "('.', '..')"),
    ("checked_file", "(name, 255)", "(name, 256)"),
    ("checked_file", "OR facteur.line_problem(type, 255) IS NOT NULL", ""),
    ("checked_file", "{1,127}", "{1,128}"),
    ("checked_file", "{1,127}", "{0,127}"),
    ("checked_file", "{1,127}", "{1,126}"),
    ("checked_file", "[A-Za-z0-9._@-]", "[A-Za-z0-9._@>-]"),
    ("checked_file", "jsonb_build_object('filename', name)", "'{}'"),
    ("is_content_type", "'^%1$s+/%1$s+", "'^%1$s+/%1$s*"),
    ("is_content_type", "'^%1$s+/", "'^%1$s*/"),
    ("is_content_type", "%1$s*|%2$s", "%1$s+|%2$s"),
    ("is_content_type", "''*+.", "''+."),
    ("check_bodies", "IF body IS NULL AND html IS NULL THEN", "IF false THEN"),
    ("check_times_and_names", "expires_at <= scheduled_at", "expires_at < scheduled_at"),
    ("check_times_and_names", "expires_at <= scheduled_at", "false"),
    ("check_times_and_names", "{1,255}", "{0,255}"),
    ("check_times_and_names", "{1,255}", "{1,254}"),
    ("check_times_and_names", "'^[ -~]", "'^[^é]"),
    ("check_times_and_names", "BETWEEN 1 AND 128", "BETWEEN 1 AND 129"),
    ("check_times_and_names", "BETWEEN 1 AND 128", "BETWEEN 0 AND 128"),
    ("check_times_and_names", "BETWEEN 1 AND 128", "BETWEEN 1 AND 127"),
    ("check_times_and_names", "\\u0001-\\u001f", "\\u0001"),
    ("check_times_and_names", "-\\u009f", ""),
    ("send_email", "(subject, 998)", "(subject, 999)"),
    ("send_email", "(subject, 998)", "(subject, 997)"),
    ("send_email", "PERFORM facteur.check_headers(v_headers);", ""),
    ("send_email", "GROUP BY 1 ORDER BY min(m.n)", "GROUP BY 1 ORDER BY 1"),
    ("send_email", "GROUP BY 1 ORDER BY min(m.n)", "ORDER BY m.n"),
    ("send_email", "to_all || cc_all || bcc_all", "to_all || bcc_all || cc_all"),
    ("send_email", "date_trunc('second', now())", "now()"),
    ("send_email", "due.at + interval '24 hours'", "due.at + interval '25 hours'"),
    ("send_email", "greatest(now(), v_scheduled)", "coalesce(v_scheduled, now())"),
    (
        "send_email",
        "SELECT a.id FROM accepted a WHERE v_sensitive",
        "SELECT a.id FROM accepted a WHERE false",
    ),
    ("send_email", "v_priority, v_hold, due.at", "2::smallint, v_hold, due.at"),
    ("send_email", "v_priority, v_hold, due.at", "v_priority, false, due.at"),
    ("send_email", "name_scope   text  := 'default'", "name_scope   text  := 'sql'"),
    ("send_email", "SELECT a.id, NULL, 'accepted'", "SELECT a.id, 0, 'accepted'"),
    ("send_email", "f.position - 1", "f.position"),
    ("send_email", "ARRAY['urgent', 'high'", "ARRAY['high', 'urgent'"),
    ("new_email_id", "28672", "16384"),
];

/// What takes no time.
fn light(mail: &Mail) -> bool {
    mail.texts().iter().map(|text| text.len()).sum::<usize>() < 100_000
}

async fn break_one(t: &TestOutbox, name: &str, right: &str, wrong: &str) -> bool {
    let definition = t.text(&format!("SELECT pg_get_functiondef('facteur.{name}'::regproc)")).await;
    if !definition.contains(right) {
        return false;
    }
    let broken = definition.replacen(right, wrong, 1);
    sqlx::raw_sql(AssertSqlSafe(broken)).execute(&t.pool).await.is_ok()
}

#[tokio::test]
#[ignore = "some minutes: for who changes a rule"]
async fn every_rule_that_is_broken_is_seen() {
    let mut unseen = Vec::new();
    for (name, right, wrong) in BREAKS {
        let t = TestOutbox::new().await;
        assert!(break_one(&t, name, right, wrong).await, "{name}: {right:?} cannot be made {wrong:?}");
        let compared = tokio::spawn(async move {
            for (_, mail) in bad().into_iter().filter(|(_, mail)| light(mail)) {
                t.by_both(&mail).await;
            }
            for mail in accepted().iter().filter(|mail| light(mail)) {
                assert!(matches!(t.by_both(mail).await, crate::both::Both::Took(..)), "{mail:?}");
            }
        });
        if compared.await.is_ok() {
            unseen.push(format!("{name}: {right:?} made {wrong:?}"));
        }
    }
    eprintln!("{} rules broken", BREAKS.len());
    assert!(unseen.is_empty(), "not seen:\n{}", unseen.join("\n"));
}
