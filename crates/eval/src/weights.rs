//! Weight files of a local model and their hash.

use std::path::{Path, PathBuf};

use smpo_files::{FileError, is_file, sha256_file};
use smpo_gguf::GgufFile;

/// SHA-256 of a model's weights: of the file if there is one, else of the names and hashes of all files, sorted by
/// name.
///
/// # Errors
/// A file or directory that cannot be read.
pub fn sha256(model: &Path) -> Result<String, FileError> {
    let files = listed(model)?;
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
/// None where they cannot be listed.
pub fn files(model: &Path) -> Vec<PathBuf> {
    listed(model).unwrap_or_default()
}

fn listed(model: &Path) -> Result<Vec<PathBuf>, FileError> {
    if is_file(model)? {
        return Ok(GgufFile::files(model));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(model).map_err(FileError::at(model, "list"))? {
        files.push(entry.map_err(FileError::at(model, "list"))?.path());
    }
    files.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    files.sort();
    Ok(files)
}
