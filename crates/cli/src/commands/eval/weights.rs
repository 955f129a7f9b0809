//! Files of a model: their size and their hash.

use std::path::{Path, PathBuf};

use smpo_results::{Error, hash_bytes, hash_file};

/// Weights up to here are small enough to be loaded once per core.
const SMALL_BYTES: u64 = 256 << 20;

/// Engines side by side for a model: one per core when it is small, else one.
pub fn instances(model: &Path) -> usize {
    let bytes: u64 = files(model).iter().filter_map(|file| std::fs::metadata(file).ok()).map(|meta| meta.len()).sum();
    if bytes <= SMALL_BYTES { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 }
}

/// SHA-256 of the weights: of the file where there is one, else of the names and hashes of all, in order.
///
/// # Errors
/// When a file cannot be read.
pub fn sha256(model: &Path) -> Result<String, Error> {
    let files = files(model);
    if let [file] = files.as_slice() {
        return hash_file(file);
    }
    let mut list = String::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        list.push_str(&format!("{name} {}\n", hash_file(file)?));
    }
    Ok(hash_bytes(list.as_bytes()))
}

/// The weight files of a directory, sorted by name, or the file itself.
fn files(model: &Path) -> Vec<PathBuf> {
    if model.is_file() {
        return vec![model.to_owned()];
    }
    let entries = std::fs::read_dir(model).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    files
}
