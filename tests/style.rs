//! Documentation comments name things.

use std::path::{Path, PathBuf};

/// A doc line that begins so describes a question instead of naming a thing: "True if …", "Bytes of …" instead.
const QUESTIONS: [&str; 5] = ["What ", "Whether ", "Where ", "Which ", "Why "];

/// All Rust files below `folder`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The text of a doc comment's line; none for other lines.
fn documentation(line: &str) -> Option<&str> {
    let line = line.trim_start();
    line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "))
}

#[test]
fn no_documentation_line_begins_with_a_question() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["crates", "tests", "examples", "benches", "datasets"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 400, "only {} files were read", files.len());
    let mut found = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for (index, line) in text.lines().enumerate() {
            if documentation(line).is_some_and(|text| QUESTIONS.iter().any(|question| text.starts_with(question))) {
                found.push(format!("{}:{}: {}", path.strip_prefix(root).unwrap().display(), index + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "say what it is with a noun:\n{}", found.join("\n"));
}

#[test]
fn a_question_is_found() {
    assert_eq!(documentation("    /// Whether it ended."), Some("Whether it ended."));
    assert_eq!(documentation("    // Why: rounding."), None);
}
