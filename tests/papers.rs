//! No guarantee without the name of its test: each test that the papers name is there.

use std::path::Path;

const PAPERS: [&str; 14] = [
    "README.md",
    "README.fr.md",
    "ARCHITECTURE.md",
    "docs/alerts.md",
    "docs/docker.md",
    "docs/events.md",
    "docs/http.md",
    "docs/metrics.md",
    "docs/operations.md",
    "docs/outbox.md",
    "docs/providers.md",
    "docs/restore.md",
    "docs/scaling.md",
    "docs/sql.md",
];

/// `file.rs::name` in a paper.
fn named(paper: &str) -> Vec<(String, String)> {
    let words = paper.split(|c: char| c.is_whitespace() || "`,()".contains(c));
    let names = words.filter_map(|word| word.split_once(".rs::"));
    names.map(|(file, name)| (format!("{file}.rs"), name.to_owned())).collect()
}

#[test]
fn every_test_that_a_paper_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for paper in PAPERS {
        let named = named(&std::fs::read_to_string(root.join(paper)).unwrap());
        assert!(!named.is_empty(), "{paper} names none");
        for (file, name) in named {
            let code =
                std::fs::read_to_string(root.join(&file)).unwrap_or_else(|e| panic!("{paper}: {file}: {e}"));
            assert!(
                code.contains(&format!("fn {name}()")),
                "{paper} names {file}::{name}, which is not there"
            );
        }
    }
}

/// `R01` in a paper.
fn cases(paper: &str) -> Vec<String> {
    let words = paper.split(|c: char| !c.is_ascii_alphanumeric());
    let is_case = |w: &&str| w.len() == 3 && w.starts_with('R') && w[1..].chars().all(|c| c.is_ascii_digit());
    words.filter(is_case).map(str::to_owned).collect()
}

#[test]
fn every_fault_that_a_paper_names_is_a_case_and_has_its_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |paper: &str| std::fs::read_to_string(root.join(paper)).unwrap();
    let suite = read("tests/faults/main.rs");
    let known: Vec<String> =
        suite.match_indices("case!(\"R").map(|(at, _)| suite[at + 7..at + 10].to_owned()).collect();
    let table = read("docs/reliability.md");
    let rows: Vec<String> =
        table.lines().filter_map(|l| l.strip_prefix("| R")).map(|l| format!("R{}", &l[..2])).collect();
    assert_eq!(rows, known, "docs/reliability.md has one row a case, in the order of the suite");
    for paper in ["README.md", "README.fr.md"] {
        let named = cases(&read(paper));
        assert!(!named.is_empty(), "{paper} names none");
        for case in named {
            assert!(known.contains(&case), "{paper} names the case {case}, which is not there");
        }
    }
    assert_eq!(cases(&read("README.md")), cases(&read("README.fr.md")));
}

#[test]
fn both_readmes_make_the_same_promises_with_the_same_proofs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of = |paper: &str| named(&std::fs::read_to_string(root.join(paper)).unwrap());
    assert_eq!(of("README.md"), of("README.fr.md"));
}
