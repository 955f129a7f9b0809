//! Models of the Hugging Face Hub: names are resolved to directories before a command sees them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use smpo_hub::{HubError, HubName, RepoKind, Repository, Settings, observe};

/// Remark of errors on models that are not there.
pub const HUB_NAMES: &str = "a model of the Hugging Face Hub is hf://ORG/MODEL";

/// Shows downloads on standard error, a line each.
pub fn show_downloads() {
    observe(|download| {
        if download.done == 0 && download.total > 0 {
            crate::output::note(&format!("downloading {} ({:.1} MB)", download.file, download.total as f64 / 1e6));
        }
    });
}

/// Arguments with a directory in place of every name of a model. Names of data sets stay: their files are chosen where
/// they are read.
///
/// # Errors
/// When a model cannot be downloaded.
pub fn local_arguments(arguments: impl Iterator<Item = OsString>) -> Result<Vec<OsString>, HubError> {
    arguments
        .map(|argument| {
            let text = argument.to_string_lossy();
            match text.split_once('=').filter(|(flag, _)| flag.starts_with("--")) {
                Some((flag, value)) if value.starts_with("hf://") => {
                    let mut local = OsString::from(format!("{flag}="));
                    local.push(model_dir(Path::new(value))?);
                    Ok(local)
                }
                _ => Ok(model_dir(Path::new(&argument))?.into_os_string()),
            }
        })
        .collect()
}

/// The directory of a model; any other path as it is.
///
/// # Errors
/// When a model cannot be downloaded.
pub fn model_dir(path: &Path) -> Result<PathBuf, HubError> {
    match HubName::of_path(path)? {
        Some(name) if name.kind == RepoKind::Model => Repository::open(name, &Settings::from_env())?.model_dir(),
        Some(_) | None => Ok(path.to_path_buf()),
    }
}
