//! Keys that nothing reads, counted over a file.

use std::collections::BTreeMap;

use serde::Serialize;

/// A column or message key that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadKey {
    /// Its name, such as `source` or `chosen[].weight`.
    pub key: String,
    /// Rows in which it says something.
    pub rows: u64,
    /// The first of them.
    pub first_line: u64,
}

impl std::fmt::Display for UnreadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ({})", self.key, self.rows)
    }
}

/// Unread keys of the rows so far.
#[derive(Debug, Default)]
pub(crate) struct UnreadKeys {
    /// Rows that have it, and the first of them.
    keys: BTreeMap<String, (u64, u64)>,
}

impl UnreadKeys {
    /// Adds the keys of a row.
    pub fn add(&mut self, keys: &[String], line: u64) {
        for key in keys {
            match self.keys.get_mut(key) {
                Some((rows, _)) => *rows += 1,
                None => {
                    self.keys.insert(key.clone(), (1, line));
                }
            }
        }
    }

    /// The keys by name.
    pub fn list(self) -> Vec<UnreadKey> {
        self.keys.into_iter().map(|(key, (rows, first_line))| UnreadKey { key, rows, first_line }).collect()
    }
}

/// Unread keys with their rows, for people.
pub fn list_unread(unread: &[UnreadKey]) -> String {
    unread.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
