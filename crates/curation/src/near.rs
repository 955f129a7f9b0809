//! Search for the row that a row nearly repeats, among those that stand for others.

use std::collections::HashMap;

use smpo_files::{Span, Spool};

use crate::CurationError;
use crate::buckets::Buckets;
use crate::shingles::jaccard;

/// A row and its similarity, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Match {
    pub row: u32,
    pub similarity: f64,
}

/// Rows that stand for others, by similarity.
pub(crate) trait Near {
    /// Called before [`Near::nearest`] with the rows that it will be asked for next.
    fn prepare(&mut self, rows: &[u32]) -> Result<(), CurationError> {
        let _ = rows;
        Ok(())
    }

    /// The most similar leader at or above the threshold, the first among equals.
    fn nearest(&mut self, row: u32) -> Result<Option<Match>, CurationError>;

    /// Makes a row a leader.
    fn lead(&mut self, row: u32) -> Result<(), CurationError>;
}

/// Nothing is near.
pub(crate) struct Exact;

impl Near for Exact {
    fn nearest(&mut self, _: u32) -> Result<Option<Match>, CurationError> {
        Ok(None)
    }

    fn lead(&mut self, _: u32) -> Result<(), CurationError> {
        Ok(())
    }
}

/// Jaccard similarity of shingles, computed for rows that share a bucket.
pub(crate) struct ByShingles {
    pub threshold: f64,
    pub buckets: Buckets,
    pub shingles: StoredShingles,
    /// Number of each row in the order in which rows are preferred.
    pub ranks: Vec<u32>,
}

impl Near for ByShingles {
    fn nearest(&mut self, row: u32) -> Result<Option<Match>, CurationError> {
        let mut leaders = self.buckets.leaders(row);
        if leaders.is_empty() {
            return Ok(None);
        }
        leaders.sort_unstable_by_key(|leader| self.ranks[*leader as usize]);
        let own = self.shingles.read(row)?;
        let mut nearest: Option<Match> = None;
        for leader in leaders {
            let similarity = jaccard(&own, &self.shingles.read(leader)?);
            if similarity >= self.threshold && nearest.is_none_or(|nearest| similarity > nearest.similarity) {
                nearest = Some(Match { row: leader, similarity });
            }
        }
        Ok(nearest)
    }

    fn lead(&mut self, row: u32) -> Result<(), CurationError> {
        self.buckets.lead(row);
        Ok(())
    }
}

/// Shingles of rows in a temporary file, which the system removes.
pub(crate) struct StoredShingles {
    spool: Spool,
    /// Place of the shingles of each row that has any.
    spans: HashMap<u32, Span>,
}

impl StoredShingles {
    pub fn new() -> Self {
        StoredShingles { spool: Spool::in_dir(std::env::temp_dir()), spans: HashMap::new() }
    }

    /// Stores the shingles of a row.
    pub fn push(&mut self, row: u32, shingles: &[u32]) -> Result<(), CurationError> {
        let bytes: Vec<u8> = shingles.iter().flat_map(|shingle| shingle.to_le_bytes()).collect();
        if !bytes.is_empty() {
            self.spans.insert(row, self.spool.push(&bytes).map_err(CurationError::Temporary)?);
        }
        Ok(())
    }

    fn read(&self, row: u32) -> Result<Vec<u32>, CurationError> {
        let Some(&span) = self.spans.get(&row) else { return Ok(Vec::new()) };
        let bytes = self.spool.read(span).map_err(CurationError::Temporary)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }
}
