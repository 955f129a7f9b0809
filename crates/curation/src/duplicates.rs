//! The duplicates of data files.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::PathBuf;

use rayon::prelude::*;
use smpo_data::JsonRow;
use smpo_inference::{Embedder, unit};

use crate::CurationError;
use crate::buckets::Buckets;
use crate::embeddings::{ByEmbeddings, Vectors};
use crate::index::{self, Entry, Index, fingerprint, hash_of, key};
use crate::minhash::MinHash;
use crate::near::{ByShingles, Exact, Match, Near, StoredShingles};
use crate::rows::{CHUNK, Sources};
use crate::shingles::shingles;
use crate::text::{By, RowText, number};

/// Rows that a search prepares for at once.
const BLOCK: usize = 1024;

/// Kind of similarity. Rows of equal text, spelling of case and white space aside, are duplicates in each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Equal text alone.
    Exact,
    /// Jaccard similarity of the sets of all runs of some characters, at least `threshold`.
    MinHash {
        /// Above 0, at most 1.
        threshold: f64,
        /// Characters of a run.
        shingle: usize,
    },
    /// Cosine of embeddings, at least `threshold`; of rows of several texts, the mean over the texts.
    Embeddings {
        /// Above 0, at most 1.
        threshold: f64,
    },
}

/// Choice of the row that stands for its duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Keep {
    /// The first.
    #[default]
    First,
    /// The one with the longest compared text; the first of several.
    Longest,
    /// The one with the highest number in a column; the first of several.
    Best(String),
}

/// Task of a search for duplicates.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The part that is compared.
    pub by: By,
    /// Kind of similarity.
    pub method: Method,
    /// Choice of the row that stands for the others.
    pub keep: Keep,
    /// Suites and files: rows that repeat one of theirs are found instead of those that repeat each other.
    pub against: Vec<PathBuf>,
}

/// Rows done of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Read, of an unknown number.
    Read(u64),
    /// Embedded, and all.
    Embedded(u64, u64),
    /// Compared, and all.
    Compared(u64, u64),
}

/// Called as work proceeds; a break ends it.
pub type Observer<'a> = &'a dyn Fn(Progress) -> ControlFlow<()>;

/// Rows of data files and those among them that repeat others.
#[derive(Debug)]
pub struct Duplicates {
    pub(crate) options: Options,
    pub(crate) sources: Sources,
    pub(crate) index: Index,
    /// Per row, the one that stands for it and their similarity; `None` for rows that stay.
    pub(crate) repeats: Vec<Option<Match>>,
}

impl Options {
    fn check(&self) -> Result<(), CurationError> {
        match self.method {
            Method::MinHash { threshold, .. } | Method::Embeddings { threshold }
                if !(threshold > 0.0 && threshold <= 1.0) =>
            {
                Err(CurationError::Option(format!(
                    "threshold: expected a number above 0 and at most 1, got {threshold}"
                )))
            }
            Method::MinHash { shingle: 0, .. } => {
                Err(CurationError::Option("shingle: expected at least 1 character, got 0".into()))
            }
            Method::MinHash { .. } | Method::Embeddings { .. } | Method::Exact => Ok(()),
        }
    }
}

/// Finds the duplicates in data files: directories, patterns and Hub names as elsewhere, no pipes. `None` after a break.
///
/// # Errors
/// When an option is out of range, a file cannot be read, a row has nothing of what is compared, or there are no embeddings.
pub fn duplicates(
    inputs: &[PathBuf],
    options: Options,
    embedder: Option<&mut dyn Embedder>,
    observer: Observer<'_>,
) -> Result<Option<Duplicates>, CurationError> {
    options.check()?;
    let sources = Sources::open(inputs, &options.against)?;
    let mut search = Search { options: &options, sources: &sources, minhash: options.minhash(), observer };
    let embedder = embedder.filter(|_| matches!(options.method, Method::Embeddings { .. }));
    let Some(index) = search.read()? else { return Ok(None) };
    let Some(repeats) = search.find(&index, embedder)? else { return Ok(None) };
    Ok(Some(Duplicates { options, sources, index, repeats }))
}

impl Options {
    /// The hash functions, where the method has any.
    pub(crate) fn minhash(&self) -> Option<MinHash> {
        match self.method {
            Method::MinHash { threshold, .. } => Some(MinHash::for_threshold(threshold)),
            Method::Exact | Method::Embeddings { .. } => None,
        }
    }
}

struct Search<'a> {
    options: &'a Options,
    sources: &'a Sources,
    minhash: Option<MinHash>,
    observer: Observer<'a>,
}

impl Search<'_> {
    /// Calls `visit` with the rows of all sources, some at a time, and the number of the first; false after a break.
    fn each_chunk(
        &self,
        mut visit: impl FnMut(u32, &[JsonRow], bool) -> Result<(), CurationError>,
    ) -> Result<bool, CurationError> {
        let mut first = 0u32;
        let mut pass = |rows: &mut dyn Iterator<Item = Result<JsonRow, CurationError>>, is_reference| {
            loop {
                let chunk = (&mut *rows).take(CHUNK).collect::<Result<Vec<_>, _>>()?;
                if chunk.is_empty() {
                    return Ok::<_, CurationError>(true);
                }
                visit(first, &chunk, is_reference)?;
                first = first.checked_add(chunk.len() as u32).ok_or_else(too_many)?;
                if (self.observer)(Progress::Read(u64::from(first))).is_break() {
                    return Ok(false);
                }
            }
        };
        Ok(pass(&mut self.sources.references()?, true)? && pass(&mut self.sources.inputs()?, false)?)
    }

    fn read(&mut self) -> Result<Option<Index>, CurationError> {
        let mut index = Index::default();
        let (options, minhash) = (self.options, self.minhash.as_ref());
        let done = self.each_chunk(|_, chunk, is_reference| {
            let entries: Vec<_> = chunk.par_iter().map(|row| entry(options, minhash, row, is_reference)).collect();
            for (row, entry) in chunk.iter().zip(entries) {
                index.push(&row.location, entry?, is_reference);
            }
            Ok(())
        })?;
        Ok(done.then_some(index))
    }

    fn find(
        &mut self,
        index: &Index,
        embedder: Option<&mut dyn Embedder>,
    ) -> Result<Option<Vec<Option<Match>>>, CurationError> {
        let order = preferred(index);
        let near: Option<Box<dyn Near>> = match (&self.minhash, embedder, self.options.method) {
            (Some(minhash), ..) => self.by_shingles(index, minhash, &order)?.map(|near| Box::new(near) as _),
            (None, Some(embedder), Method::Embeddings { threshold }) => self
                .vectors(index, embedder, &order)?
                .map(|vectors| Box::new(ByEmbeddings::new(threshold, vectors)) as _),
            (None, ..) => Some(Box::new(Exact)),
        };
        match near {
            Some(near) => self.compare(index, &order, near),
            None => Ok(None),
        }
    }

    fn compare(
        &self,
        index: &Index,
        order: &[u32],
        mut near: Box<dyn Near>,
    ) -> Result<Option<Vec<Option<Match>>>, CurationError> {
        let leaks_only = !self.options.against.is_empty();
        let mut repeats = vec![None; index.len()];
        // by text: its leader, and how similar it is
        let mut known: HashMap<u128, Match> = HashMap::with_capacity(index.len());
        for (block, rows) in order.chunks(BLOCK).enumerate() {
            let new: Vec<u32> = rows.iter().copied().filter(|row| is_new(index, &known, *row)).collect();
            near.prepare(&new)?;
            for &row in rows {
                let Some(key) = index.keys[row as usize] else { continue };
                let is_reference = (row as usize) < index.references;
                if let Some(leader) = known.get(&key) {
                    repeats[row as usize] = Some(*leader).filter(|_| !is_reference);
                    continue;
                }
                // every reference leads: it is never left out, and must not hide behind another
                let mut found = if is_reference { None } else { near.nearest(row)? };
                if found.is_none() && leaks_only {
                    let turns = index.of_turns.get(&row).into_iter().flatten();
                    found = turns
                        .filter_map(|key| known.get(key))
                        .find(|found| (found.row as usize) < index.references)
                        .copied();
                }
                repeats[row as usize] = found;
                if is_reference || !leaks_only || found.is_some() {
                    known.insert(key, found.unwrap_or(Match { row, similarity: 1.0 }));
                }
                if found.is_none() && (is_reference || !leaks_only) {
                    near.lead(row)?;
                }
            }
            let done = ((block + 1) * BLOCK).min(order.len()) as u64;
            if (self.observer)(Progress::Compared(done, order.len() as u64)).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(repeats))
    }

    /// The search by shingles; reads the rows again that share a bucket. `None` after a break.
    fn by_shingles(
        &self,
        index: &Index,
        minhash: &MinHash,
        order: &[u32],
    ) -> Result<Option<ByShingles>, CurationError> {
        let Method::MinHash { threshold, shingle } = self.options.method else { return Ok(None) };
        let mut ranks = vec![0; index.len()];
        order.iter().enumerate().for_each(|(rank, row)| ranks[*row as usize] = rank as u32);
        let is_first = first_of_each_text(index, order);
        let bands = minhash.bands();
        let hashes = |row: u32| is_first[row as usize].then(|| &index.bands[row as usize * bands..][..bands]);
        let buckets = Buckets::new(0..index.len() as u32, bands, hashes);
        let mut shared = buckets.rows().peekable();
        let mut stored = StoredShingles::new();
        let by = &self.options.by;
        let done = shared.peek().is_none()
            || self.each_chunk(|first, chunk, _| {
                let mut wanted = Vec::new();
                while let Some(row) = shared.next_if(|row| ((*row - first) as usize) < chunk.len()) {
                    wanted.push(row);
                }
                let read: Vec<Result<Vec<u32>, CurationError>> = wanted
                    .par_iter()
                    .map(|row| {
                        let json = &chunk[(row - first) as usize];
                        check_same(index, *row as usize, json)?;
                        Ok(shingles(&RowText::of(json, by)?.parts, shingle))
                    })
                    .collect();
                wanted.iter().zip(read).try_for_each(|(row, read)| stored.push(*row, &read?))
            })?;
        drop(shared);
        Ok(done.then_some(ByShingles { threshold, buckets, shingles: stored, ranks }))
    }

    /// The vectors of one row of each text; reads the rows again. `None` after a break.
    fn vectors(
        &self,
        index: &Index,
        embedder: &mut dyn Embedder,
        order: &[u32],
    ) -> Result<Option<Vectors>, CurationError> {
        let is_first = first_of_each_text(index, order);
        let all = is_first.iter().filter(|first| **first).count();
        let (mut vectors, mut done, mut stopped) = (None, 0, false);
        let read = self.each_chunk(|first, chunk, _| {
            let wanted: Vec<(u32, &JsonRow)> =
                (first..).zip(chunk).filter(|(row, _)| is_first[*row as usize]).collect();
            for rows in wanted.chunks(embedder.batch().max(1)) {
                if stopped {
                    return Ok(());
                }
                for (row, vector) in self.embed(index, rows, embedder)? {
                    let vectors = match &mut vectors {
                        Some(vectors) => vectors,
                        none => none.insert(Vectors::new(all, vector.len())?),
                    };
                    vectors.push(row, &vector)?;
                }
                done += rows.len() as u64;
                stopped = (self.observer)(Progress::Embedded(done, all as u64)).is_break();
            }
            Ok(())
        })?;
        match vectors {
            _ if stopped || !read => Ok(None),
            Some(vectors) => Ok(Some(vectors)),
            None => Vectors::new(0, 0).map(Some),
        }
    }

    /// The vectors of rows: those of a row's texts side by side, each in its place.
    fn embed(
        &self,
        index: &Index,
        rows: &[(u32, &JsonRow)],
        embedder: &mut dyn Embedder,
    ) -> Result<Vec<(u32, Vec<f32>)>, CurationError> {
        let mut texts = Vec::new();
        for (row, json) in rows {
            check_same(index, *row as usize, json)?;
            let parts = RowText::as_written(json, &self.options.by)?.parts;
            texts.extend(parts.into_iter().filter(|part| !part.text.trim().is_empty()).map(|part| (*row, part)));
        }
        let plain: Vec<&str> = texts.iter().map(|(_, part)| part.text.as_str()).collect();
        let mut of_texts = embedder.embed(&plain)?.into_iter();
        let mut vectors = Vec::with_capacity(rows.len());
        for of_row in texts.chunk_by(|a, b| a.0 == b.0) {
            let mut whole = Vec::new();
            for ((_, part), vector) in of_row.iter().zip(of_texts.by_ref()) {
                whole.resize(index.text_places * vector.len(), 0.0);
                whole[part.place as usize * vector.len()..][..vector.len()].copy_from_slice(&vector);
            }
            vectors.extend(unit(whole).map(|whole| (of_row[0].0, whole)));
        }
        Ok(vectors)
    }
}

/// All that is kept of a row.
fn entry(
    options: &Options,
    minhash: Option<&MinHash>,
    row: &JsonRow,
    is_reference: bool,
) -> Result<Entry, CurationError> {
    let text = RowText::of(row, &options.by)?;
    let preference = match &options.keep {
        Keep::First => None,
        // references stand for others whatever their score
        _ if is_reference => Some(f64::INFINITY),
        Keep::Longest => Some(text.characters() as f64),
        Keep::Best(column) => Some(number(row, column)?),
    };
    let key = key(&text);
    let beside = if text.beside.is_empty() { 0 } else { hash_of(&text.beside) as u32 };
    let bands = match (minhash, options.method) {
        (Some(minhash), Method::MinHash { shingle, .. }) => match key {
            // Rows that differ beside their texts share no bucket, and so are never compared.
            Some(_) => {
                minhash.band_hashes(&shingles(&text.parts, shingle)).into_iter().map(|band| band ^ beside).collect()
            }
            None => vec![0; minhash.bands()],
        },
        _ => Vec::new(),
    };
    let text_places = text.parts.iter().map(|part| part.place as usize + 1).max().unwrap_or(0);
    let turns = !options.against.is_empty() && !is_reference && matches!(options.by, By::Prompt | By::Question);
    let turns = if turns { RowText::of_turns(row, &options.by) } else { Vec::new() };
    let of_turns = turns.iter().filter_map(index::key).filter(|of_turn| Some(*of_turn) != key).collect();
    Ok(Entry { kind: text.kind, key, fingerprint: fingerprint(row), preference, bands, text_places, of_turns })
}

/// Per row, true for the first of its text: one of each is compared with others.
fn first_of_each_text(index: &Index, order: &[u32]) -> Vec<bool> {
    let mut seen = HashSet::with_capacity(index.len());
    let mut is_first = vec![false; index.len()];
    for &row in order {
        is_first[row as usize] = index.keys[row as usize].is_some_and(|key| seen.insert(key));
    }
    is_first
}

/// True if no row of the same text came before.
fn is_new(index: &Index, known: &HashMap<u128, Match>, row: u32) -> bool {
    index.keys[row as usize].is_some_and(|key| !known.contains_key(&key))
}

/// Rows in the order in which they are to stand for others: references, then by preference, then as they come.
fn preferred(index: &Index) -> Vec<u32> {
    let mut order: Vec<u32> = (0..index.len() as u32).collect();
    if !index.preferences.is_empty() {
        let preference = |row: &u32| index.preferences[*row as usize];
        order.sort_by(|a, b| preference(b).total_cmp(&preference(a)));
    }
    order
}

pub(crate) fn check_same(index: &Index, row: usize, json: &JsonRow) -> Result<(), CurationError> {
    match index.is(row, json) {
        true => Ok(()),
        false => Err(CurationError::Changed { location: json.location.clone() }),
    }
}

fn too_many() -> CurationError {
    CurationError::Option(format!("expected at most {} rows", u32::MAX))
}
