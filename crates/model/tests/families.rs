//! The table of families: each row has a file, golden models and a place in the documents.

mod reference;

use std::fs;
use std::path::Path;

use reference::{case_dir, cases, models_in};
use smpo_model::{Config, Family};

fn family_of(case: &str) -> Family {
    Config::from_dir(case_dir(case)).unwrap_or_else(|error| panic!("{case}: {error}")).family()
}

#[test]
fn each_family_has_a_file_and_each_file_a_row() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/families");
    let mut files: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|file| !["mod", "plain", "unsupported"].contains(&file.as_str()))
        .collect();
    files.sort();
    let mut rows: Vec<&str> = Family::ALL.iter().map(|family| family.module()).collect();
    rows.sort_unstable();
    assert_eq!(files, rows);
}

#[test]
fn each_family_has_golden_models() {
    for family in Family::ALL {
        let case = family.module();
        assert!(cases().contains(&case), "{family:?}: add `{case}` to CASES of tests/golden/generate.py and run it");
        assert_eq!(family_of(case), *family);
        assert!(models_in("bfloat16").contains(&case), "{family:?}: run tests/golden/generate_bfloat16.py");
        assert_eq!(family_of(&format!("bfloat16/{case}")), *family);
    }
}

#[test]
fn each_family_is_named_in_the_book() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/families.md");
    let names: Vec<&str> = Family::ALL.iter().map(|family| family.name()).collect();
    let expected = format!("The decoder runs {}.", names.join(", "));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&fs::read_to_string(page).unwrap()).contains(&expected), "docs/families.md: expected `{expected}`");
}
