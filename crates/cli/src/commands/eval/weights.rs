//! The weight files of a model.

use std::path::{Path, PathBuf};

use smpo_files::{FileError, sha256_file};

/// SHA-256 of the weights: of the file where there is one, else of the names and hashes of all, in order.
///
/// # Errors
/// When a file cannot be read.
pub fn sha256(model: &Path) -> Result<String, FileError> {
    let files = files(model);
    if let [file] = files.as_slice() {
        return sha256_file(file);
    }
    let mut list = String::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        list.push_str(&format!("{name} {}\n", sha256_file(file)?));
    }
    Ok(smpo_files::sha256(list.as_bytes()))
}

/// The weight files of a directory, sorted by name, or the file itself.
pub fn files(model: &Path) -> Vec<PathBuf> {
    if model.is_file() {
        return vec![model.to_owned()];
    }
    let entries = std::fs::read_dir(model).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    files
}
