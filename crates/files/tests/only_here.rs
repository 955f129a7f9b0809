//! Files and directories of other crates are renamed into place by this crate alone.

use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_other_crate_syncs_or_renames() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(crates).unwrap() {
        let source = entry.unwrap().path().join("src");
        if source.is_dir() && !source.starts_with(crates.join("files")) {
            sources(&source, &mut found);
        }
    }
    assert!(found.len() > 300, "{} files", found.len());
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        for banned in ["fs::rename(", ".sync_all(", ".persist("] {
            assert!(!text.contains(banned), "{}: `{banned}…)`: use smpo_files", path.display());
        }
    }
}
