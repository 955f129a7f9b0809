//! The second pass over the rows: those that stay are written, clusters get their texts.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use smpo_data::{JsonLines, JsonRow};

use crate::duplicates::{Duplicates, Observer, Progress, check_same};
use crate::near::Match;
use crate::text::{RowKind, RowText};
use crate::{By, CurationError, Keep, Method};

/// Result of a search for duplicates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of the layout.
    pub schema: u32,
    /// Settings of the search.
    pub settings: Settings,
    /// Input files.
    pub files: usize,
    /// Rows of the inputs.
    pub rows: u64,
    /// The same by kind.
    pub kinds: BTreeMap<RowKind, u64>,
    /// Rows of the suites and files that were compared with.
    pub references: u64,
    /// Rows that stay.
    pub kept: u64,
    /// Rows left out.
    pub left_out: u64,
    /// Of those, rows of the same text.
    pub exact: u64,
    /// Of those, rows of nearly the same text.
    pub near: u64,
    /// Rows without any text to compare; they stay.
    pub empty: u64,
    /// Rows with their duplicates, the largest cluster first.
    pub clusters: Vec<Cluster>,
}

/// Settings of a search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// `row`, `prompt`, `question` or a column.
    pub by: String,
    /// `exact`, `minhash` or `embeddings`.
    pub method: &'static str,
    /// Least similarity of near duplicates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Characters of a shingle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shingle: Option<usize>,
    /// Bands of the MinHash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bands: Option<usize>,
    /// Hash functions of a band.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub functions_per_band: Option<usize>,
    /// Share of the pairs at the threshold that MinHash finds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_at_threshold: Option<f64>,
    /// `first`, `longest` or a column.
    pub keep: String,
}

/// A row and those that repeat it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cluster {
    /// Rows, the kept one included.
    pub size: usize,
    /// The row that stands for the others.
    pub kept: Member,
    /// The others in their order.
    pub left_out: Vec<Member>,
}

/// A row of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Member {
    /// File.
    pub path: PathBuf,
    /// Line that it begins on, number of the row in a Parquet file, or of the prompt in a suite.
    pub line: u64,
    /// Similarity to the kept row.
    pub similarity: f64,
    /// Beginning of the compared text in its normal form; of the kept row and the least similar other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Duplicates {
    /// Writes the rows that stay as they are, whole or not at all, to `out` where one is given, and reports. `None` after a
    /// break.
    ///
    /// # Errors
    /// When a file changed or cannot be read any more, or the output cannot be written.
    pub fn write(&self, out: Option<&Path>, observer: Observer<'_>) -> Result<Option<Report>, CurationError> {
        let mut clusters = Clusters::of(self);
        for (row, json) in self.sources.references()?.enumerate() {
            clusters.quote(self, row, &json?)?;
        }
        let mut lines = out.map(JsonLines::create).transpose()?;
        let mut next = self.index.references;
        for (row, json) in self.sources.inputs()?.enumerate() {
            let (row, json) = (self.index.references + row, json?);
            next = row + 1;
            check_same(&self.index, row, &json)?;
            clusters.quote(self, row, &json)?;
            if let Some(lines) = lines.as_mut().filter(|_| self.repeats[row].is_none()) {
                lines.write_json(&json.json)?;
            }
            if row % 1024 == 0 && observer(Progress::Read(row as u64)) == ControlFlow::Break(()) {
                return Ok(None);
            }
        }
        if next < self.index.len() {
            return Err(CurationError::Changed { location: self.index.location(next as u32) });
        }
        if let Some(lines) = lines {
            lines.commit()?;
        }
        Ok(Some(self.report(clusters)))
    }

    fn report(&self, clusters: Clusters) -> Report {
        let rows = (self.index.len() - self.index.references) as u64;
        let left_out = self.repeats.iter().flatten().count() as u64;
        let is_near = |(row, found): &(usize, &Option<Match>)| {
            found.is_some_and(|found| self.index.keys[*row] != self.index.keys[found.row as usize])
        };
        let near = self.repeats.iter().enumerate().filter(is_near).count() as u64;
        Report {
            schema: 1,
            settings: self.settings(),
            files: self.sources.input_files(),
            rows,
            kinds: self.index.kinds.clone(),
            references: self.index.references as u64,
            kept: rows - left_out,
            left_out,
            exact: left_out - near,
            near,
            empty: self.index.keys[self.index.references..].iter().filter(|key| key.is_none()).count() as u64,
            clusters: clusters.finish(self),
        }
    }

    fn settings(&self) -> Settings {
        let minhash = self.options.minhash();
        let (method, threshold, shingle) = match self.options.method {
            Method::Exact => ("exact", None, None),
            Method::MinHash { threshold, shingle } => ("minhash", Some(threshold), Some(shingle)),
            Method::Embeddings { threshold } => ("embeddings", Some(threshold), None),
        };
        Settings {
            by: match &self.options.by {
                By::Row => "row".into(),
                By::Prompt => "prompt".into(),
                By::Question => "question".into(),
                By::Column(name) => format!("column {name}"),
            },
            method,
            threshold,
            shingle,
            bands: minhash.as_ref().map(crate::MinHash::bands),
            functions_per_band: minhash.as_ref().map(crate::MinHash::width),
            recall_at_threshold: minhash.zip(threshold).map(|(minhash, threshold)| minhash.recall(threshold)),
            keep: match &self.options.keep {
                Keep::First => "first".into(),
                Keep::Longest => "longest".into(),
                Keep::Best(column) => format!("best {column}"),
            },
        }
    }
}

/// Clusters while their texts are gathered.
struct Clusters {
    /// Leader with its rows, in order of the leaders.
    members: BTreeMap<u32, Vec<u32>>,
    /// Texts of leaders and of the least similar member of each.
    texts: BTreeMap<u32, String>,
}

impl Clusters {
    fn of(duplicates: &Duplicates) -> Self {
        let mut members: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (row, found) in duplicates.repeats.iter().enumerate() {
            if let Some(found) = found {
                members.entry(found.row).or_default().push(row as u32);
            }
        }
        let similarity = |row: &u32| duplicates.repeats[*row as usize].map_or(1.0, |found| found.similarity);
        let least = |rows: &Vec<u32>| rows.iter().copied().min_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        let wanted = members.iter().flat_map(|(leader, rows)| std::iter::once(*leader).chain(least(rows)));
        let texts = wanted.map(|row| (row, String::new())).collect();
        Clusters { members, texts }
    }

    /// Takes the text of a row where it is wanted.
    fn quote(&mut self, duplicates: &Duplicates, row: usize, json: &JsonRow) -> Result<(), CurationError> {
        if let Some(text) = self.texts.get_mut(&(row as u32)) {
            *text = RowText::of(json, &duplicates.options.by)?.excerpt();
        }
        Ok(())
    }

    fn finish(mut self, duplicates: &Duplicates) -> Vec<Cluster> {
        let mut member = |row: u32, similarity: f64| {
            let location = duplicates.index.location(row);
            Member { path: location.path.to_path_buf(), line: location.line, similarity, text: self.texts.remove(&row) }
        };
        let mut clusters: Vec<Cluster> = std::mem::take(&mut self.members)
            .into_iter()
            .map(|(leader, rows)| Cluster {
                size: rows.len() + 1,
                kept: member(leader, 1.0),
                left_out: rows
                    .into_iter()
                    .map(|row| member(row, duplicates.repeats[row as usize].map_or(1.0, |found| found.similarity)))
                    .collect(),
            })
            .collect();
        clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.size));
        clusters
    }
}
