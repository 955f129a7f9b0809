//! All that is kept of rows: places, digests, numbers.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use smpo_data::{JsonRow, Location};

use crate::text::{RowKind, RowText};

/// Digests of the rows that were read, by their number.
#[derive(Debug, Default)]
pub(crate) struct Index {
    paths: Vec<Arc<Path>>,
    /// File and line.
    places: Vec<(u32, u64)>,
    /// Digest of the compared text; `None` of an empty one, which is like no other.
    pub keys: Vec<Option<u128>>,
    /// Digest of the row as it stands in its file.
    fingerprints: Vec<u64>,
    /// Larger ones are kept rather; empty where the first row is.
    pub preferences: Vec<f64>,
    /// Hashes of the bands, as many per row; empty where there are none.
    pub bands: Vec<u32>,
    /// Rows of each kind, references left out.
    pub kinds: BTreeMap<RowKind, u64>,
    /// One more than the last place of a text in any row.
    pub text_places: usize,
    /// Number of rows before those of the inputs.
    pub references: usize,
    /// Digests of further prompts of a row, where it is compared with references and has several.
    pub of_turns: HashMap<u32, Vec<u128>>,
}

/// Kind, digests and numbers of one row.
pub(crate) struct Entry {
    pub kind: RowKind,
    pub key: Option<u128>,
    pub fingerprint: u64,
    pub preference: Option<f64>,
    pub bands: Vec<u32>,
    /// One more than the last place of a text.
    pub text_places: usize,
    /// Digests of further prompts.
    pub of_turns: Vec<u128>,
}

impl Index {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Adds a row.
    pub fn push(&mut self, location: &Location, entry: Entry, is_reference: bool) {
        if self.paths.last().is_none_or(|last| **last != *location.path) {
            self.paths.push(location.path.clone());
        }
        if !entry.of_turns.is_empty() {
            self.of_turns.insert(self.places.len() as u32, entry.of_turns);
        }
        self.places.push((self.paths.len() as u32 - 1, location.line));
        self.keys.push(entry.key);
        self.fingerprints.push(entry.fingerprint);
        self.preferences.extend(entry.preference);
        self.bands.extend(entry.bands);
        self.text_places = self.text_places.max(entry.text_places);
        match is_reference {
            true => self.references += 1,
            false => *self.kinds.entry(entry.kind).or_default() += 1,
        }
    }

    /// The place of a row.
    pub fn location(&self, row: u32) -> Location {
        let (path, line) = self.places[row as usize];
        Location { path: self.paths[path as usize].clone(), line }
    }

    /// True if the row number `row` is still what it was.
    pub fn is(&self, row: usize, json: &JsonRow) -> bool {
        self.fingerprints.get(row) == Some(&fingerprint(json))
    }
}

/// Digest within this process.
pub(crate) fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Digest of a row as it stands in its file, within this process.
pub(crate) fn fingerprint(row: &JsonRow) -> u64 {
    hash_of(&row.json)
}

/// Digest of the compared texts; `None` where there are none.
pub(crate) fn key(text: &RowText) -> Option<u128> {
    if text.is_empty() {
        return None;
    }
    let mut hash = Sha256::new();
    for part in &text.parts {
        hash.update([part.place as u8]);
        hash.update((part.text.len() as u64).to_le_bytes());
        hash.update(&part.text);
    }
    hash.update(&text.beside);
    Some(hash.finalize().iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte)))
}
