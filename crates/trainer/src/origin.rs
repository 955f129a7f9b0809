//! Origin of a run: fingerprints of its rows, its base and its reference, by which a resumed run knows them again.
//!
//! A checkpoint holds the origin of its steps, and `origin.json` that of the run. New rows that are taken on purpose begin
//! at their first epoch while steps go on counting; `rows/` has hashes of the rows trained on before, so that none of them
//! is held out.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smpo_data::{Row, Rows, TokenizedCompletion};

use crate::error::{TrainError, io};
use crate::run_dir::RunDir;

/// Length of a fingerprint, in bytes.
const BYTES: usize = 16;

/// Length of a row's hash in `rows/`, in bytes.
const ROW_BYTES: usize = 8;

/// Fingerprints of everything beside the configuration that a run is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Origin {
    /// Steps taken on earlier rows: the first epoch of these begins after them.
    pub since: u64,
    /// Files of `rows/` with the rows of those steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<String>,
    /// The data, file by file.
    files: Vec<FileOrigin>,
    /// The base's weights, if they are read again in a resumed run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The reference model's weights, if the objective needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// Rows that a run takes from a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileOrigin {
    file: PathBuf,
    train: usize,
    held_out: usize,
    /// Fingerprint of both, in order.
    rows: String,
}

impl FileOrigin {
    fn counts(&self) -> String {
        match self.held_out {
            0 => smpo_suggest::counted(self.train, "row"),
            held_out => format!("{} and {held_out} held out", smpo_suggest::counted(self.train, "row")),
        }
    }
}

impl Origin {
    /// The origin of a first step on `rows`.
    pub fn of(rows: &Rows) -> Self {
        let (mut train, mut held_out) = (&rows.train[..], &rows.held_out[..]);
        let mut files = Vec::with_capacity(rows.sources.len());
        for source in &rows.sources {
            let (of_train, rest) = train.split_at(source.train.min(train.len()));
            let (of_held_out, others) = held_out.split_at(source.held_out.min(held_out.len()));
            (train, held_out) = (rest, others);
            let mut hash = Sha256::new();
            for (part, rows) in [(b"train", of_train), (b"other", of_held_out)] {
                hash.update(part);
                rows.iter().for_each(|row| add_row(&mut hash, row));
            }
            files.push(FileOrigin {
                file: source.file.clone(),
                train: source.train,
                held_out: source.held_out,
                rows: smpo_files::hex(&hash.finalize()[..BYTES]),
            });
        }
        Origin { since: 0, earlier: Vec::new(), files, base: None, reference: None }
    }

    /// The origin of the step after `step` on these rows, after steps on those of `before`.
    pub fn after(self, before: &Self, step: u64) -> Self {
        let earlier = before.earlier.iter().cloned().chain([before.rows_name()]).collect();
        Origin { since: step, earlier, ..self }
    }

    /// The origin of the next step on the same rows as those of `before`.
    pub fn going_on(self, before: &Self) -> Self {
        Origin { since: before.since, earlier: before.earlier.clone(), ..self }
    }

    /// Differences between these rows and those of `now`, a phrase a file; none if the rows are the same, wherever their
    /// files are.
    pub fn changed_rows(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for index in 0..self.files.len().max(now.files.len()) {
            let change = match (self.files.get(index), now.files.get(index)) {
                (Some(was), Some(is)) if was.rows == is.rows => continue,
                (Some(was), Some(is)) if was.file != is.file => {
                    format!("{} ({}) is now {} ({})", was.file.display(), was.counts(), is.file.display(), is.counts())
                }
                (Some(was), Some(is)) if was.counts() == is.counts() => {
                    format!("{} has {} as before, but others", is.file.display(), is.counts())
                }
                (Some(was), Some(is)) => format!("{} had {} and has {}", is.file.display(), was.counts(), is.counts()),
                (Some(was), None) => format!("{} ({}) is left out", was.file.display(), was.counts()),
                (None, Some(is)) => format!("{} ({}) is new", is.file.display(), is.counts()),
                (None, None) => continue,
            };
            changes.push(change);
        }
        changes
    }

    /// True if rows of these and of `now` that are held out differ.
    pub fn holds_out_others(&self, now: &Self) -> bool {
        let of = |origin: &Self| -> Vec<String> {
            origin.files.iter().filter(|file| file.held_out > 0).map(|file| file.rows.clone()).collect()
        };
        of(self) != of(now)
    }

    /// File of `rows/` with the hashes of these rows.
    fn rows_name(&self) -> String {
        let mut hash = Sha256::new();
        self.files.iter().for_each(|file| hash.update(&file.rows));
        format!("{}.bin", smpo_files::hex(&hash.finalize()[..BYTES]))
    }

    /// Moves held-out rows that were trained on before to the rows to train on; returns their number.
    ///
    /// # Errors
    /// When the hashes of earlier rows cannot be read, or no row is left to hold out.
    pub fn keep_apart(&self, dir: &RunDir, rows: &mut Rows) -> Result<usize, TrainError> {
        let mut trained = HashSet::new();
        for name in &self.earlier {
            let path = dir.rows().join(name);
            let bytes = fs::read(&path).map_err(io(&path, "read"))?;
            trained.extend(bytes.chunks_exact(ROW_BYTES).map(<[u8]>::to_vec));
        }
        if trained.is_empty() || rows.held_out.is_empty() {
            return Ok(0);
        }
        let all = std::mem::take(&mut rows.held_out);
        let (before, held_out): (Vec<Row>, Vec<Row>) =
            all.into_iter().partition(|row| trained.contains(&row_hash(row)));
        rows.held_out = held_out;
        if rows.held_out.is_empty() {
            return Err(TrainError::NothingHeldOut { rows: before.len() });
        }
        let moved = before.len();
        rows.train.extend(before);
        Ok(moved)
    }

    /// Reads the origin of a run; `None` if it has none, as runs of earlier versions.
    pub fn read(path: &Path) -> Result<Option<Self>, TrainError> {
        match fs::read(path) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io(path, "read")(error)),
        }
    }

    /// Writes the origin of a run, and the hashes of the rows it trains on.
    pub fn write(&self, dir: &RunDir, train: &[Row]) -> Result<(), TrainError> {
        let hashes: Vec<u8> = train.iter().flat_map(row_hash).collect();
        let rows = dir.rows().join(self.rows_name());
        if !rows.is_file() {
            smpo_files::write_whole(&rows, &hashes)?;
        }
        let path = dir.origin();
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::from).map_err(io(&path, "write"))?;
        Ok(smpo_files::write_whole(&path, &text)?)
    }
}

/// Adds everything of a row that a step depends on.
fn add_row(hash: &mut Sha256, row: &Row) {
    let mut add = |ids: &[u32]| {
        hash.update((ids.len() as u64).to_le_bytes());
        ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    };
    add(&row.prompt);
    for side in [&row.chosen, &row.rejected] {
        add(side.as_ref().map_or(&[], TokenizedCompletion::ids));
    }
    row.group.iter().for_each(|scored| add(scored.completion.ids()));
    row.group.iter().for_each(|scored| hash.update(scored.reward.to_le_bytes()));
    if let Some(margin) = row.margin {
        hash.update(margin.to_le_bytes());
    }
    for side in row.completions() {
        hash.update([u8::from(side.finished())]);
        side.scored().iter().flat_map(|turn| [turn.start, turn.end]).for_each(|place| hash.update(place.to_le_bytes()));
        side.is_terminator().iter().for_each(|terminator| hash.update([u8::from(*terminator)]));
    }
}

fn row_hash(row: &Row) -> Vec<u8> {
    let mut hash = Sha256::new();
    add_row(&mut hash, row);
    hash.finalize()[..ROW_BYTES].to_vec()
}
