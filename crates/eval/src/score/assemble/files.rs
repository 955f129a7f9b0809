//! The files that are read: each once, and none without completions.

use smpo_files::resolved;

use super::CompletionFile;
use crate::input_error::InputError;

/// The files with completions, each content once.
pub(super) fn wanted(
    files: Vec<CompletionFile>,
    name: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Vec<CompletionFile>, InputError> {
    let mut wanted: Vec<CompletionFile> = Vec::new();
    let mut skipped = None;
    for file in files {
        let path = file.path.display();
        if let Some(damage) = &file.damage {
            notes.push(format!("{path}: {damage}"));
        }
        notes.extend(file.passed_over.clone());
        if let Some(reason) = &file.skipped {
            notes.push(format!("{path}: skipped: {reason}"));
            skipped.get_or_insert_with(|| InputError::whole(&file.path, reason.clone()));
            continue;
        }
        if let Some(first) = wanted.iter().find(|first| is_same(first, &file, name)) {
            notes.push(format!("{path}: the same as {}; it counts once", first.path.display()));
            continue;
        }
        wanted.push(file);
    }
    match (wanted.is_empty(), skipped) {
        (true, Some(error)) => Err(error),
        _ => Ok(wanted),
    }
}

/// True for one file under two names, and for two files of one content whose models are the same.
fn is_same(a: &CompletionFile, b: &CompletionFile, name: Option<&str>) -> bool {
    let same_path = || resolved(&a.path) == resolved(&b.path);
    let named = |file: &CompletionFile| name.is_some() || file.answers.iter().all(|answer| answer.model.is_some());
    a.sha256 == b.sha256 && (same_path() || named(a) && named(b))
}
