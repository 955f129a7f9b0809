//! Files of a data set of the Hugging Face Hub.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use smpo_hub::{HubError, HubName, RepoKind, Repository, Settings};

use crate::sources::{Purpose, is_data, of_purpose};

/// The data files of a name, downloaded: all of a split, or those of its path.
pub(crate) fn hub_files(name: HubName, purpose: Purpose) -> Result<Vec<PathBuf>, HubError> {
    let (text, path) = (name.to_string(), name.path.clone());
    let fail = |problem: String| HubError::Request { name: text.clone(), problem };
    if name.kind == RepoKind::Model {
        return Err(fail(format!("expected a data set, got a model; is it hf://datasets/{}?", name.repo)));
    }
    let repository = Repository::open(name, &Settings::from_env())?;
    let chosen = choose(repository.files(), &path, purpose).map_err(fail)?;
    chosen.iter().map(|file| repository.fetch(&file.to_string_lossy())).collect()
}

/// Files of a repository by a path: a file, a folder, a pattern, or a split; all of one split where it is empty.
fn choose(files: &[String], path: &str, purpose: Purpose) -> Result<Vec<PathBuf>, String> {
    if files.iter().any(|file| file == path) {
        return Ok(vec![path.into()]);
    }
    let data: Vec<PathBuf> = files.iter().map(PathBuf::from).filter(|file| is_data(file)).collect();
    if data.is_empty() {
        let other = "the revision `@refs/convert/parquet` of many data sets has them as Parquet";
        let files = smpo_suggest::counted(files.len(), "file");
        return Err(format!("expected data files, found none among {files}; {other}"));
    }
    let chosen: Vec<PathBuf> = match glob::Pattern::new(path) {
        _ if path.is_empty() => of_purpose(Path::new(""), data.clone(), purpose),
        Ok(pattern) if path.contains(['*', '?', '[']) => {
            data.iter().filter(|file| pattern.matches_path(file)).cloned().collect()
        }
        _ => {
            let inside: Vec<_> = data.iter().filter(|file| file.starts_with(path)).cloned().collect();
            match inside.is_empty() {
                false => of_purpose(Path::new(path), inside, purpose),
                true => data.iter().filter(|file| split_of(file).is_some_and(|split| split == path)).cloned().collect(),
            }
        }
    };
    let splits = |files: &[PathBuf]| files.iter().filter_map(|file| split_of(file)).collect::<BTreeSet<_>>();
    let listed = |splits: BTreeSet<String>| splits.into_iter().collect::<Vec<_>>().join(", ");
    if chosen.is_empty() {
        return Err(format!("no file, folder or split `{path}`; its splits are {}", listed(splits(&data))));
    }
    let several = splits(&chosen);
    if several.len() > 1 && !path.contains(['*', '?', '[']) {
        return Err(format!("its files are of several splits ({}); name one after a slash", listed(several)));
    }
    Ok(chosen)
}

/// The split of a file: its name without ending and number (`train_prefs-00000-of-00001.parquet`), under its folder
/// unless that is `data`.
fn split_of(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?.split('.').next()?;
    let numbered = name.rsplit_once("-of-").and_then(|(start, _)| start.rsplit_once('-'));
    let split = numbered.map_or(name, |(split, _)| split);
    match file.parent().and_then(Path::to_str) {
        None | Some("" | "data") => Some(split.to_string()),
        Some(folder) => Some(format!("{folder}/{split}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Purpose, choose};

    const PREFS: [&str; 6] = [
        "README.md",
        "data/test_prefs-00000-of-00001.parquet",
        "data/train_prefs-00000-of-00002.parquet",
        "data/train_prefs-00001-of-00002.parquet",
        "data/train_sft-00000-of-00001.parquet",
        "extra/notes.jsonl",
    ];

    fn chosen(files: &[&str], path: &str, purpose: Purpose) -> Result<String, String> {
        let files: Vec<String> = files.iter().map(ToString::to_string).collect();
        let found = choose(&files, path, purpose)?;
        Ok(found.iter().map(|file| file.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_path_is_a_split_a_file_a_folder_or_a_pattern() {
        let train = |path| chosen(&PREFS, path, Purpose::Train);
        let prefs = "data/train_prefs-00000-of-00002.parquet data/train_prefs-00001-of-00002.parquet";
        assert_eq!(train("train_prefs").unwrap(), prefs);
        assert_eq!(train("data/train_prefs*").unwrap(), prefs);
        assert_eq!(train("extra").unwrap(), "extra/notes.jsonl");
        assert_eq!(train("extra/notes").unwrap(), "extra/notes.jsonl");
        assert_eq!(train("README.md").unwrap(), "README.md", "whoever names a file gets it");
        let test = chosen(&PREFS, "", Purpose::HoldOut).unwrap();
        assert_eq!(test, "data/test_prefs-00000-of-00001.parquet");
        assert_eq!(chosen(&["train.jsonl", "test.jsonl"], "", Purpose::Train).unwrap(), "train.jsonl");
    }

    #[test]
    fn what_is_not_clear_is_an_error_with_the_splits() {
        let error = chosen(&PREFS, "", Purpose::Train).unwrap_err();
        assert!(error.contains("several splits (train_prefs, train_sft)"), "{error}");
        let error = chosen(&PREFS, "dev", Purpose::Train).unwrap_err();
        assert!(error.contains("no file, folder or split `dev`") && error.contains("extra/notes"), "{error}");
        let error = chosen(&["rows.csv"], "", Purpose::Train).unwrap_err();
        assert!(error.contains("@refs/convert/parquet"), "{error}");
    }
}
