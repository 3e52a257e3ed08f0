//! No guarantee without the name of its test: each test that the papers name is there.

use std::path::Path;

const PAPERS: [&str; 5] =
    ["README.md", "README.fr.md", "ARCHITECTURE.md", "docs/metrics.md", "docs/providers.md"];

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

#[test]
fn both_readmes_make_the_same_promises_with_the_same_proofs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of = |paper: &str| named(&std::fs::read_to_string(root.join(paper)).unwrap());
    assert_eq!(of("README.md"), of("README.fr.md"));
}
