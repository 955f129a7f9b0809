//! Numbers of rows in LLaMA-Factory: `num_samples` of one data set, `max_samples` of each.

use serde_json::Value;

use super::mixture::{rows_of, share};
use crate::translation::Translator;

const MOST: &str = "max_samples";

/// A data set with the number of rows that its entry takes.
pub struct Source {
    /// The file, or a name of the Hub.
    pub file: String,
    /// `num_samples`; more than there are repeats rows.
    pub samples: Option<u64>,
}

/// Numbers of rows as shares of each data set, or as one number where its rows are not known.
pub fn draw(t: &mut Translator<'_>, key: &str, sources: &[Source]) {
    let most = t.keys().get(MOST).and_then(Value::as_f64);
    let wanted = |source: &Source| match (source.samples, most) {
        (Some(samples), Some(most)) => Some((samples as f64).min(most)),
        (samples, most) => samples.map(|samples| samples as f64).or(most),
    };
    if sources.iter().all(|source| wanted(source).is_none()) {
        return;
    }
    let by = if most.is_some() { MOST } else { key };
    let share_of = |source: &Source| match wanted(source) {
        None => Some(1.0),
        Some(wanted) => rows_of(&source.file).map(|rows| match source.samples {
            Some(_) => share(wanted, rows),
            None => share(wanted.min(rows), rows),
        }),
    };
    let shares: Option<Vec<f64>> = sources.iter().map(share_of).collect();
    match (shares, sources) {
        (Some(shares), _) => {
            if shares.iter().any(|share| *share != 1.0) {
                t.set(by, "dataset_ratio", shares);
                note(t, most, "`dataset_ratio` here; LLaMA-Factory takes the first rows of each data set");
            }
        }
        (None, [one]) => {
            t.set(by, "dataset_sample", wanted(one).map(|rows| rows as u64));
            note(t, most, "so many rows here (`dataset_sample`); LLaMA-Factory takes the first ones");
        }
        (None, _) => {
            let (name, less) = match most {
                Some(_) => (MOST, "--set max_samples=null"),
                None => ("num_samples", "take it out of dataset_info.json"),
            };
            let message = format!(
                "`{name}` needs the number of rows of data sets that are not on this disk; {less}, and `dataset_sample` for \
                 a number of rows in all"
            );
            t.refuse(by, message);
        }
    }
}

/// A remark on `max_samples`; `num_samples` is a draw there too.
fn note(t: &mut Translator<'_>, most: Option<f64>, draw: &str) {
    if most.is_some() {
        t.note(format!("`max_samples` is a draw of {draw}"));
    }
}
