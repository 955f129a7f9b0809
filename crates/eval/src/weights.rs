//! Weight files of a local model and their hash.

use std::path::{Path, PathBuf};

use smpo_files::{FileError, sha256_file};
use smpo_gguf::GgufFile;

/// SHA-256 of a model's weights: of the file if there is one, else of the names and hashes of all files, sorted by
/// name.
///
/// # Errors
/// A file that cannot be read.
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

/// Safetensors files of a model directory, sorted by name, or all parts of a model in GGUF.
pub fn files(model: &Path) -> Vec<PathBuf> {
    if model.is_file() {
        return GgufFile::files(model);
    }
    let entries = std::fs::read_dir(model).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    files
}
