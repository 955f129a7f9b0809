//! Text units of the metrics: words, n-grams, scripts.

pub mod ngrams;
pub mod scripts;
pub mod words;
