//! docs/imports.md is current, and the tables hold together.

use std::collections::BTreeSet;

use smpo_fixtures::repository;
use smpo_imports::{Group, PROFILES, documentation};

#[test]
fn the_page_is_current() {
    let path = repository().join("docs/imports.md");
    let page = documentation::page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "UPDATE_DOCS=1 cargo test --release -p smpo-imports --test page writes docs/imports.md");
}

/// A key that stands twice in one table would have two fates.
#[test]
fn a_table_has_each_key_once() {
    for profile in PROFILES {
        let mut keys = BTreeSet::new();
        let own = profile.keys.iter().filter(|group| !matches!(group, Group::All(_)));
        for key in own.flat_map(Group::keys) {
            assert!(keys.insert(key.theirs), "{}: {} twice", profile.name, key.theirs);
        }
        for method in profile.methods {
            let mut keys = BTreeSet::new();
            for key in method.keys.iter().flat_map(Group::keys) {
                assert!(keys.insert(key.theirs), "{} {}: {} twice", profile.name, method.name, key.theirs);
            }
            assert!(method.kind.is_some() == method.refusal.is_empty(), "{} {}", profile.name, method.name);
        }
        for key in profile.distinctive {
            assert!(profile.all_keys().any(|known| known == *key), "{}: {key} is not in the table", profile.name);
        }
    }
}
