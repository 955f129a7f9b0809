//! Links between pages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use smpo_fixtures::markdown::{anchors, links};
use smpo_fixtures::repository;

use crate::pages;

/// All Markdown pages of the repository's documentation, from its root.
fn all_pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [
        "",
        "docs",
        "benches",
        "datasets/demo",
        "datasets/tutorial",
        "evals",
        "studies/termination",
        "python",
        "packaging",
    ] {
        let Ok(entries) = fs::read_dir(repository().join(folder)) else { continue };
        let names = entries.map(|entry| Path::new(folder).join(entry.unwrap().file_name()));
        found.extend(names.filter(|name| name.extension().is_some_and(|ending| ending == "md")));
    }
    assert!(found.len() > 25, "{found:?}");
    found
}

/// A path without `.` and `..`; `None` above the root.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if !normal.pop() => return None,
            Component::Normal(name) => normal.push(name),
            _ => {}
        }
    }
    Some(normal)
}

/// Complaints about a page's links.
fn broken(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(repository().join(page)).unwrap();
    let mut found = Vec::new();
    for link in links(&text) {
        if link.target.contains("://") || link.target.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
        let file = if path.is_empty() { Some(page.to_owned()) } else { normal(&page.parent().unwrap().join(path)) };
        let Some(file) = file.filter(|file| repository().join(file).exists()) else {
            found.push(format!("{}:{}: {} does not exist", page.display(), link.line, link.target));
            continue;
        };
        let there = || anchors(&fs::read_to_string(repository().join(&file)).unwrap());
        if !anchor.is_empty() && !there().iter().any(|known| known == anchor) {
            found.push(format!("{}:{}: {} has no heading #{anchor}", page.display(), link.line, file.display()));
        }
    }
    found
}

#[test]
fn every_link_leads_somewhere() {
    let found: Vec<String> = all_pages().iter().flat_map(|page| broken(page)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The rendered book has the pages of `docs` alone: what lies elsewhere is linked by its address on the project's site.
#[test]
fn the_book_links_to_its_own_pages() {
    let chapters: BTreeSet<String> = pages().into_iter().map(|page| page.name).collect();
    let mut found = Vec::new();
    for page in pages().iter().filter(|page| page.name != "README.md") {
        for link in links(&page.text) {
            let path = link.target.split('#').next().unwrap_or_default();
            let page_of_book = !path.ends_with(".md") || chapters.contains(&format!("docs/{path}"));
            if !link.target.contains("://") && (path.starts_with("..") || !page_of_book) {
                found.push(format!("{}:{}: {}", page.name, link.line, link.target));
            }
        }
    }
    assert!(found.is_empty(), "not in the book:\n{}", found.join("\n"));
}

#[test]
fn every_page_is_a_chapter() {
    let chapters: BTreeSet<String> = pages().into_iter().map(|page| page.name).collect();
    for entry in fs::read_dir(repository().join("docs")).unwrap() {
        let name = format!("docs/{}", entry.unwrap().file_name().to_string_lossy());
        if name.ends_with(".md") && name != "docs/SUMMARY.md" {
            assert!(chapters.contains(&name), "docs/SUMMARY.md: expected {name}");
        }
    }
    assert!(repository().join("book.toml").exists());
}
