//! Text as the metrics see it: words, n-grams, scripts.

pub mod ngrams;
pub mod scripts;
pub mod words;
