//! Selection of the rows of a run: held-out rows, and ratios of several files.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::order::order;

/// Epoch numbers no training epoch has, so that these draws share no stream with an epoch's order.
const SAMPLE: u64 = u64::MAX;
const MIX: u64 = u64::MAX - 1;
const HOLD_OUT: u64 = u64::MAX - 2;

/// Number of rows held out for evaluation: `test_size` of the published configs. A number below 1 is a share, a whole
/// number counts rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum HoldOut {
    /// A share of the rows, in 0..1; rounded up, as scikit-learn and datasets do.
    Share(f64),
    /// A number of rows.
    Rows(usize),
}

impl<'de> Deserialize<'de> for HoldOut {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = HoldOut;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share of the rows such as 0.05, or a number of rows such as 200")
            }
            fn visit_f64<E: de::Error>(self, share: f64) -> Result<HoldOut, E> {
                Ok(HoldOut::Share(share))
            }
            fn visit_u64<E: de::Error>(self, rows: u64) -> Result<HoldOut, E> {
                usize::try_from(rows).map(HoldOut::Rows).map_err(|_| E::custom("too many rows"))
            }
            fn visit_i64<E: de::Error>(self, rows: i64) -> Result<HoldOut, E> {
                let negative = |_| E::invalid_value(de::Unexpected::Signed(rows), &self);
                usize::try_from(rows).map(HoldOut::Rows).map_err(negative)
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// Rows for training and rows held out, each in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    /// Rows to train on.
    pub train: Vec<usize>,
    /// Rows to evaluate on.
    pub held_out: Vec<usize>,
}

/// Error of a split, mixture or sample.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum MixtureError {
    /// Nothing would be left to train on.
    #[error("`test_size`: expected fewer held-out rows than the {rows} of the data, got {held_out}")]
    NothingLeft {
        /// Rows there are.
        rows: usize,
        /// Rows asked for.
        held_out: usize,
    },
    /// More rows asked for than there are.
    #[error("`dataset_sample`: expected at most {}, all of the data, got {wanted}", smpo_suggest::counted(*rows, "row"))]
    Sample {
        /// Rows there are.
        rows: usize,
        /// Rows asked for.
        wanted: usize,
    },
    /// A share or ratio out of range.
    #[error("{what}: expected {expected}, got {got}")]
    Share {
        /// Name of the number.
        what: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        got: f64,
    },
    /// One ratio per file is needed.
    #[error("`dataset_ratio`: expected one per data set ({files}), got {ratios}")]
    Count {
        /// Data sets.
        files: usize,
        /// Ratios.
        ratios: usize,
    },
}

/// Holds rows out, drawn by the seed.
///
/// # Errors
/// When nothing would be left to train on, or the share is outside 0..1.
pub(crate) fn split(rows: usize, held_out: HoldOut, seed: u64) -> Result<Split, MixtureError> {
    let count = match held_out {
        HoldOut::Rows(count) => count,
        HoldOut::Share(share) if (0.0..1.0).contains(&share) => (rows as f64 * share).ceil() as usize,
        HoldOut::Share(got) => {
            return Err(MixtureError::Share { what: "`test_size`", expected: "at least 0 and below 1", got });
        }
    };
    if count > 0 && count >= rows {
        return Err(MixtureError::NothingLeft { rows, held_out: count });
    }
    let mut drawn = order(rows, HOLD_OUT, seed);
    let mut train = drawn.split_off(count);
    train.sort_unstable();
    drawn.sort_unstable();
    Ok(Split { train, held_out: drawn })
}

/// A row of one of several files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RowOf {
    /// Index of the file.
    pub file: usize,
    /// Index of the row in it.
    pub row: usize,
}

/// Takes from each file its ratio of rows: 0.5 draws half of them, 2.5 takes all of them twice and draws half of them
/// once more. Counts are rounded down, as the published `int(ratio * rows)`, but a ratio above 0 takes at least one row.
/// The result is in file order; [`order`] shuffles it epoch by epoch.
///
/// # Errors
/// When there is not one ratio per file, or one is negative or not finite.
pub(crate) fn mix(files: &[usize], ratios: &[f64], seed: u64) -> Result<Vec<RowOf>, MixtureError> {
    if files.len() != ratios.len() {
        return Err(MixtureError::Count { files: files.len(), ratios: ratios.len() });
    }
    let mut mixed = Vec::new();
    for (file, (&rows, &ratio)) in files.iter().zip(ratios).enumerate() {
        if !(ratio.is_finite() && ratio >= 0.0) {
            return Err(MixtureError::Share {
                what: "`dataset_ratio`",
                expected: "a finite number of at least 0",
                got: ratio,
            });
        }
        if rows == 0 || ratio == 0.0 {
            continue;
        }
        let wanted = ((rows as f64 * ratio) as usize).max(1);
        let mut taken: Vec<usize> = (0..wanted / rows).flat_map(|_| 0..rows).collect();
        // each file draws from its own seed, so that adding a file changes no other file's rows
        let drawn = order(rows, MIX, seed.wrapping_add(file as u64));
        taken.extend(drawn.into_iter().take(wanted % rows));
        taken.sort_unstable();
        mixed.extend(taken.into_iter().map(|row| RowOf { file, row }));
    }
    Ok(mixed)
}

/// Draws `wanted` of `rows` rows; the result is in order.
///
/// # Errors
/// If there are fewer.
pub(crate) fn sample(rows: usize, wanted: usize, seed: u64) -> Result<Vec<usize>, MixtureError> {
    if wanted > rows {
        return Err(MixtureError::Sample { rows, wanted });
    }
    let mut drawn = order(rows, SAMPLE, seed);
    drawn.truncate(wanted);
    drawn.sort_unstable();
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::{HoldOut, MixtureError, RowOf, mix, sample, split};

    #[test]
    fn a_split_loses_and_repeats_no_row() {
        for held_out in [HoldOut::Rows(7), HoldOut::Share(0.065)] {
            let found = split(100, held_out, 1).unwrap();
            assert_eq!(found.held_out.len(), 7);
            let mut all = [found.train.clone(), found.held_out.clone()].concat();
            all.sort_unstable();
            assert_eq!(all, (0..100).collect::<Vec<_>>());
            assert_eq!(found, split(100, held_out, 1).unwrap());
            assert_ne!(found, split(100, held_out, 2).unwrap());
        }
        assert!(split(5, HoldOut::Rows(0), 1).unwrap().held_out.is_empty());
    }

    #[test]
    fn splits_that_leave_nothing_are_refused() {
        assert_eq!(split(5, HoldOut::Rows(5), 1), Err(MixtureError::NothingLeft { rows: 5, held_out: 5 }));
        assert!(split(5, HoldOut::Share(1.0), 1).is_err());
        assert!(split(5, HoldOut::Share(f64::NAN), 1).is_err());
        assert!(split(1, HoldOut::Share(0.5), 1).is_err());
    }

    #[test]
    fn ratios_draw_a_share_or_repeat() {
        let count = |mixed: &[RowOf], file| mixed.iter().filter(|row| row.file == file).count();
        let mixed = mix(&[100, 10, 10, 0], &[0.25, 2.5, 0.0, 1.0], 3).unwrap();
        assert_eq!([0, 1, 2, 3].map(|file| count(&mixed, file)), [25, 25, 0, 0]);
        for row in 0..10 {
            let times = mixed.iter().filter(|at| **at == RowOf { file: 1, row }).count();
            assert!((2..=3).contains(&times));
        }
        assert_eq!(mix(&[4], &[1.0], 0).unwrap().len(), 4);
        assert_eq!(count(&mix(&[100], &[0.001], 3).unwrap(), 0), 1);
    }

    #[test]
    fn another_file_changes_no_rows_of_the_first() {
        let one = mix(&[50], &[0.5], 9).unwrap();
        let two = mix(&[50, 20], &[0.5, 0.5], 9).unwrap();
        assert_eq!(two[..one.len()], one);
    }

    #[test]
    fn a_sample_is_drawn_once_each_and_in_order() {
        let drawn = sample(100, 30, 4).unwrap();
        assert_eq!(drawn.len(), 30);
        assert!(drawn.is_sorted_by(|a, b| a < b));
        assert_ne!(drawn, sample(100, 30, 5).unwrap());
        assert_eq!(sample(5, 6, 0), Err(MixtureError::Sample { rows: 5, wanted: 6 }));
    }

    #[test]
    fn a_number_below_one_is_a_share_and_a_whole_one_counts_rows() {
        let read = |text: &str| serde_json::from_str::<HoldOut>(text);
        assert_eq!(read("0.05").unwrap(), HoldOut::Share(0.05));
        assert_eq!(read("200").unwrap(), HoldOut::Rows(200));
        assert!(read("\"some\"").unwrap_err().to_string().contains("expected a share of the rows such as 0.05"));
        assert!(read("-3").unwrap_err().to_string().contains("expected a share of the rows"));
        for given in [HoldOut::Share(0.05), HoldOut::Rows(200)] {
            assert_eq!(read(&serde_json::to_string(&given).unwrap()).unwrap(), given);
        }
    }

    #[test]
    fn bad_ratios_are_refused() {
        assert_eq!(mix(&[1, 2], &[1.0], 0), Err(MixtureError::Count { files: 2, ratios: 1 }));
        assert!(mix(&[1], &[-0.5], 0).is_err());
        assert!(mix(&[1], &[f64::INFINITY], 0).is_err());
    }
}
