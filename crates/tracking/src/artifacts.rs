//! Files and folders as artefacts.

use std::fs;
use std::path::{Path, PathBuf};

use smpo_files::FileError;

use crate::error::TrackingError;

/// Path of a run's artefacts below the server's own store.
///
/// # Errors
/// [`TrackingError::ArtifactStore`] where clients write to the store themselves.
pub(crate) fn root(location: &str) -> Result<Vec<&str>, TrackingError> {
    let elsewhere = || TrackingError::ArtifactStore { location: location.to_owned() };
    let path = location.strip_prefix("mlflow-artifacts:").ok_or_else(elsewhere)?;
    // `mlflow-artifacts:/1/RUN/artifacts`, or with the server's own address before it.
    let path = match path.strip_prefix("//") {
        Some(with_host) => with_host.split_once('/').map(|(_, path)| path).ok_or_else(elsewhere)?,
        None => path.trim_start_matches('/'),
    };
    Ok(path.split('/').filter(|part| !part.is_empty()).collect())
}

/// The files of a path with their names among the artefacts: a file by its name, a folder with everything in it.
pub(crate) fn files(path: &Path) -> Result<Vec<(PathBuf, Vec<String>)>, TrackingError> {
    let whole = path.canonicalize().map_err(FileError::at(path, "read"))?;
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut found = Vec::new();
    walk(&whole, vec![name], &mut found)?;
    Ok(found)
}

/// Links inside a folder are left out: they may lead anywhere.
fn walk(path: &Path, place: Vec<String>, found: &mut Vec<(PathBuf, Vec<String>)>) -> Result<(), TrackingError> {
    let read = |error| TrackingError::from(FileError::at(path, "read")(error));
    let kind = fs::symlink_metadata(path).map_err(read)?;
    if kind.is_file() {
        found.push((path.to_owned(), place));
    } else if kind.is_dir() {
        let mut entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(read)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            walk(&entry.path(), place.iter().cloned().chain([name]).collect(), found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_with_and_without_host() {
        let parts = ["1", "abc", "artifacts"];
        assert_eq!(root("mlflow-artifacts:/1/abc/artifacts").unwrap(), parts);
        assert_eq!(root("mlflow-artifacts://h:5000/1/abc/artifacts").unwrap(), parts);
        for other in ["s3://bucket/1", "file:///mlruns/1", "/mlruns/1", "mlflow-artifacts://h", ""] {
            assert!(root(other).is_err(), "{other}");
        }
    }
}
