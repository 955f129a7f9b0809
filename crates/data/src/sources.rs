//! Sources of rows: a file, a directory, a pattern of file names, or a data set of the Hugging Face Hub.

use std::io;
use std::path::{Component, Path, PathBuf};

use smpo_hub::{HubError, HubName};

use crate::hub_files::hub_files;
use crate::read_error::{Location, Problem, ReadError};

/// Endings of data files, before that of a packed one.
pub(crate) const ENDINGS: [&str; 4] = ["jsonl", "json", "ndjson", "parquet"];
/// Endings of packed files.
const PACKED: [&str; 2] = ["gz", "zst"];
/// Words in a path that set rows apart from those to train on.
const HELD_OUT: [&str; 8] = ["test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation"];
/// Words in a path of rows to train on.
const TRAIN: [&str; 2] = ["train", "training"];

/// A directory of the `datasets` library, with the way out.
const SAVED_TO_DISK: &str = "Arrow files, as `save_to_disk` of the `datasets` library writes them; save the rows as Parquet \
                             or JSON lines: `ds = load_from_disk(DIR)`, for each split `ds.to_parquet(FILE)` or `ds.to_json(FILE)`";

/// Use of the rows of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To train on.
    Train,
    /// To evaluate on.
    HoldOut,
}

/// The files of a source, in the order of their names: a file itself; the data files under a directory, of which those
/// for the purpose alone where their names tell (`train-00000.parquet`, `test/a.jsonl`); the files that a pattern matches;
/// or those of a data set of the Hub, downloaded.
///
/// # Errors
/// When there is none.
pub fn source_files(source: impl AsRef<Path>, purpose: Purpose) -> Result<Vec<PathBuf>, ReadError> {
    let source = source.as_ref();
    let fail = |problem| ReadError { location: Location { path: source.into(), line: 0 }, problem };
    let of_hub = |name: HubName| hub_files(name, purpose);
    if let Some(files) = HubName::of_path(source).transpose().map(|name| name.and_then(of_hub)) {
        return files.map_err(|error| match error {
            HubError::Request { problem, .. } => fail(Problem::Hub(problem)),
            other => fail(Problem::Hub(other.to_string())),
        });
    }
    let files = match source.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let found = walk(source, &is_data).map_err(|error| fail(Problem::Io(error)))?;
            if found.is_empty() && !walk(source, &is_arrow).map_err(|error| fail(Problem::Io(error)))?.is_empty() {
                return Err(fail(Problem::NotRows { got: SAVED_TO_DISK.to_string() }));
            }
            of_purpose(source, found, purpose)
        }
        Ok(_) => return Ok(vec![source.to_path_buf()]),
        Err(error) => match matches(source) {
            Some(found) => found,
            None => return Err(fail(Problem::Io(absent(source, error)))),
        },
    };
    if files.is_empty() {
        let expected = ENDINGS.map(|ending| format!("*.{ending}")).join(", ");
        return Err(fail(Problem::NoFiles { expected }));
    }
    Ok(files)
}

/// The files under a directory that are wanted, hidden ones apart.
fn walk(dir: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(dir)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // a link to a directory may lead back
        if entry.file_type()?.is_dir() {
            found.extend(walk(&path, is_wanted)?);
        } else if is_wanted(&path) && path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

/// True for a file of a data set as the `datasets` library keeps it.
fn is_arrow(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "arrow")
}

/// True for a file whose name says that it holds rows.
pub(crate) fn is_data(path: &Path) -> bool {
    let ending = |path: &Path| path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    let (mut last, mut stem) = (ending(path), path.to_path_buf());
    if last.as_deref().is_some_and(|last| PACKED.contains(&last)) {
        stem = path.with_extension("");
        last = ending(&stem);
    }
    // files about a data set
    let about = ["dataset_info", "dataset_infos", "dataset_dict", "state"];
    let name = stem.file_stem().unwrap_or_default().to_string_lossy();
    last.is_some_and(|last| ENDINGS.contains(&&*last)) && !about.contains(&&*name)
}

/// The files for a purpose; all where names do not tell, or all are for something else.
pub(crate) fn of_purpose(root: &Path, files: Vec<PathBuf>, purpose: Purpose) -> Vec<PathBuf> {
    let says = |file: &Path, known: &[&str]| {
        let inner = file.strip_prefix(root).unwrap_or(file).to_string_lossy().to_ascii_lowercase();
        inner.split(|c: char| !c.is_alphanumeric()).any(|word| known.contains(&word))
    };
    let (wanted, others): (&[&str], &[&str]) = match purpose {
        Purpose::Train => (&TRAIN, &HELD_OUT),
        Purpose::HoldOut => (&HELD_OUT, &TRAIN),
    };
    let named: Vec<PathBuf> = files.iter().filter(|file| says(file, wanted)).cloned().collect();
    if !named.is_empty() {
        return named;
    }
    let rest: Vec<PathBuf> = files.iter().filter(|file| !says(file, others)).cloned().collect();
    if rest.is_empty() { files } else { rest }
}

/// The files that a pattern matches, sorted; `None` for a path without `*`, `?` and `[`.
fn matches(pattern: &Path) -> Option<Vec<PathBuf>> {
    let text = pattern.to_str().filter(|text| text.contains(['*', '?', '[']))?;
    let found = glob::glob(text).ok()?;
    Some(found.flatten().filter(|path| path.is_file()).collect())
}

/// The error of a path that is not there, with another meaning that it may have had.
fn absent(source: &Path, error: io::Error) -> io::Error {
    let named = source.components().all(|part| matches!(part, Component::Normal(_)));
    if named && source.components().count() == 2 && source.extension().is_none() {
        let hint = format!("{error}; a data set of the Hugging Face Hub is `hf://datasets/{}`", source.display());
        return io::Error::new(error.kind(), hint);
    }
    error
}
