//! Metrics of all completions of a run together.

use std::sync::OnceLock;

use smpo_results::Sample;

use crate::metric::distinct_n;

/// Completions that are measured together.
#[derive(Debug)]
pub struct Corpus<'a> {
    /// Grouped by prompt.
    pub samples: Vec<&'a Sample>,
    /// [`distinct_n::first_words`], shared by three metrics.
    first_words: OnceLock<Vec<Vec<u64>>>,
}

impl<'a> Corpus<'a> {
    /// A corpus of samples grouped by prompt.
    pub fn new(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        Corpus { samples: samples.into_iter().collect(), first_words: OnceLock::new() }
    }

    /// Hashed words of evenly spread completions.
    pub(crate) fn first_words(&self) -> &[Vec<u64>] {
        self.first_words.get_or_init(|| distinct_n::first_words(&self.samples))
    }
}
