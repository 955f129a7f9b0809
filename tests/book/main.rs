//! The book: every command block of it is run, its links lead somewhere, its chapters are complete.
//!
//! A page's blocks of `sh` run in order, by one bash, in a directory of the page's own that `world.rs` has filled: names on
//! the pages (`MODEL`, `pairs.jsonl`, `runs/before`) are files there, the demo's tiny model in the place of real ones. A block
//! that cannot run so says what it needs behind its language (`sh needs-gpu`); `untested.txt` lists these.
//! trycmd was tried on paper and does not fit: it runs single commands without a shell, and compares output, which here
//! would be that of another model.

mod json;
mod links;
mod reference;
mod run;
mod world;

use std::fs;
use std::path::PathBuf;

use smpo_fixtures::repository;

/// A page with its path from the root of the repository.
struct Page {
    name: String,
    text: String,
}

/// The book's pages in the order of `SUMMARY.md`, and the README.
fn pages() -> Vec<Page> {
    let read =
        |name: &str| fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let summary = read("docs/SUMMARY.md");
    let chapters = smpo_fixtures::markdown::links(&summary).into_iter().map(|link| format!("docs/{}", link.target));
    let names = std::iter::once("README.md".to_owned()).chain(chapters);
    names.map(|name| Page { text: read(&name), name }).collect()
}

/// Compares a committed file with its text now; writes it under `UPDATE_DOCS`.
fn current(path: &str, text: &str) {
    let file: PathBuf = repository().join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, text).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(committed, text, "{path}: UPDATE_DOCS=1 cargo test --release --workspace --test book");
}
