//! Text units of the metrics: parts of a completion, words, folded words, n-grams, scripts, languages, special tokens, code.

mod ascii;
pub mod code;
pub mod folded;
pub mod languages;
pub mod ngrams;
pub mod scripts;
pub mod tokens;
pub mod visible;
pub mod words;
