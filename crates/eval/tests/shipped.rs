//! The suites that ship with the project.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use smpo_eval::Suite;

fn evals() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../evals")
}

#[test]
fn every_shipped_suite_is_read() {
    let mut names = HashSet::new();
    for entry in std::fs::read_dir(evals()).expect("evals") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let suite = Suite::read(&path).unwrap_or_else(|error| panic!("{error}"));
            assert!(names.insert(suite.name.clone()), "two suites are called {}", suite.name);
        }
    }
    assert!(names.len() >= 2, "only {names:?}");
}

#[test]
fn ood_chat_is_as_broad_as_it_says() {
    let suite = Suite::read(&evals().join("ood-chat.toml")).expect("valid");
    assert!(suite.prompts.len() >= 1200, "{}", suite.prompts.len());
    let languages: HashSet<_> = suite.prompts.iter().filter_map(|prompt| prompt.language.as_deref()).collect();
    assert!(languages.len() >= 100, "{}", languages.len());
    assert!(suite.prompts.iter().all(|prompt| prompt.language.is_some()));
    // An exact match needs enough closed prompts, a slice enough prompts to be worth a line.
    assert!(suite.prompts.iter().filter(|prompt| prompt.closed).count() >= 150);
    let mut slices: BTreeMap<&str, usize> = BTreeMap::new();
    for prompt in &suite.prompts {
        *slices.entry(&prompt.slice).or_default() += 1;
    }
    assert!(slices.len() >= 12 && slices.values().all(|&count| count >= 40), "{slices:?}");
}

#[test]
fn ood_smoke_is_a_stratified_part_of_it() {
    let whole = Suite::read(&evals().join("ood-chat.toml")).expect("valid");
    let smoke = Suite::read(&evals().join("ood-smoke.toml")).expect("valid");
    assert_eq!(smoke.prompts.len(), 150);
    assert!(smoke.prompts.iter().all(|prompt| whole.prompts.contains(prompt)));
    let slices: HashSet<_> = whole.prompts.iter().map(|prompt| &prompt.slice).collect();
    for slice in slices {
        assert_eq!(smoke.prompts.iter().filter(|prompt| prompt.slice == *slice).count(), 10, "{slice}");
    }
}
