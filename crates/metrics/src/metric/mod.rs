//! The catalogue of metrics, one file a metric. Files on disk, gate policies, reports, leaderboards and tables all read
//! it.
//!
//! | kind | function of | entry | example |
//! |---|---|---|---|
//! | per sample | one completion | [`Metric::of_sample`] | [`eos_rate`] |
//! | per sample among others | one completion beside all others of its run | [`Metric::among`] | [`same_answer`] |
//! | per corpus | all completions of a run | [`Metric::of_corpus`] | [`self_bleu`] |
//! | teacher-forced | log-probs of gold completions or held-out pairs, or a reward model | [`Metric::teacher_forced`] | [`eos_gold`] |
//!
//! A metric that does not apply to a completion has no value there: nothing is guessed. `eos_rate` has none for an
//! unknown finish reason, and no metric but `error_rate` has one for a completion that the engine failed on.
//!
//! To add a metric: its file, with a [`MetricInfo`], a function and `METRICS`, and its line in `catalogue!` below
//! (CONTRIBUTING.md).

use std::sync::OnceLock;

use smpo_results::Sample;

use crate::corpus::Corpus;
use crate::estimate::Estimate;
use crate::info::MetricInfo;
use crate::sample::{Scratch, View};

/// Declares the modules and collects their `METRICS`.
macro_rules! catalogue {
    ($($module:ident,)*) => {
        $(pub mod $module;)*
        const FILES: &[&[Metric]] = &[$($module::METRICS,)*];
        #[cfg(test)]
        const MODULES: &[&str] = &[$(stringify!($module),)*];
    };
}

// The order of every file and report.
catalogue! {
    eos_rate,
    loop_rate,
    runaway_rate,
    empty_rate,
    same_answer,
    terse_rate,
    self_talk_rate,
    exact_match,
    stops_when_right,
    broken_rate,
    seq_rep,
    zlib_ratio,
    length,
    reasoning_share,
    eos_gold,
    preference,
    reward,
    eos_hazard,
    distinct_n,
    self_bleu,
    error_rate,
}

/// Value of one completion; `None` if the metric does not apply.
pub type SampleFn = fn(&View<'_>, &mut Scratch) -> Option<f64>;

/// A metric that compares the completions of a run, in two steps: none needs their texts together.
#[derive(Debug, Clone, Copy)]
pub struct Among {
    /// The part of a completion that is compared; `None` where the metric does not apply.
    pub part: fn(&Sample) -> Option<same_answer::Answer>,
    /// Values of all completions of a run, in their order.
    pub compare: fn(&[Option<same_answer::Answer>]) -> Vec<Option<f64>>,
}

impl Among {
    /// Values of completions that are all there.
    pub fn measure(&self, samples: &[Sample]) -> Vec<Option<f64>> {
        (self.compare)(&samples.iter().map(self.part).collect::<Vec<_>>())
    }
}

/// Value of a corpus with its 95 % interval; `None` if the metric does not apply.
pub type CorpusFn = fn(&Corpus) -> Option<Estimate>;

/// A metric of the catalogue: its declaration and how it is computed. A metric without a function is computed from
/// teacher-forced log-probs ([`eos_gold`], [`preference`]), or by a reward model ([`reward`]).
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Id, unit, direction, source.
    pub info: &'static MetricInfo,
    /// Value of one completion.
    pub sample: Option<SampleFn>,
    /// Value of each completion, given all of its run.
    pub among: Option<Among>,
    /// Estimate over a run; `None`: the mean over prompts of the sample values.
    pub corpus: Option<CorpusFn>,
    /// True if slices have estimates too; false for corpus metrics that cost too much per slice.
    pub by_slice: bool,
    /// True if `sample` is called on completions that the engine failed on.
    pub of_failures: bool,
    /// True if a completion of unknown ending has no value.
    pub of_ends: bool,
    /// True if completions of some prompts have no value because of what was asked.
    pub of_some_prompts: bool,
}

impl Metric {
    /// A metric of one completion.
    pub const fn of_sample(info: &'static MetricInfo, sample: SampleFn) -> Metric {
        Metric { sample: Some(sample), ..Metric::teacher_forced(info) }
    }

    /// A metric of one completion beside all others of its run.
    pub const fn among(info: &'static MetricInfo, among: Among) -> Metric {
        Metric { among: Some(among), ..Metric::teacher_forced(info) }
    }

    /// A metric of all completions of a run.
    pub const fn of_corpus(info: &'static MetricInfo, corpus: CorpusFn) -> Metric {
        Metric { corpus: Some(corpus), ..Metric::teacher_forced(info) }
    }

    /// A metric of a forward pass over given completions.
    pub const fn teacher_forced(info: &'static MetricInfo) -> Metric {
        Metric {
            info,
            sample: None,
            among: None,
            corpus: None,
            by_slice: true,
            of_failures: false,
            of_ends: false,
            of_some_prompts: false,
        }
    }
}

/// Every metric, in the order of every file and report, each id once.
pub fn all() -> &'static [&'static Metric] {
    static ALL: OnceLock<Vec<&'static Metric>> = OnceLock::new();
    ALL.get_or_init(|| FILES.iter().copied().flatten().collect())
}

/// The declaration of the metric of this id.
pub fn find(id: &str) -> Option<&'static MetricInfo> {
    all().iter().map(|metric| metric.info).find(|info| info.id == id)
}

/// The id nearest to a mistyped one.
pub fn similar(id: &str) -> Option<&'static str> {
    smpo_suggest::nearest(id, all().iter().map(|metric| metric.info.id))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use smpo_results::Direction;

    use super::*;

    fn infos() -> impl Iterator<Item = &'static MetricInfo> {
        all().iter().map(|metric| metric.info)
    }

    /// A file that has no line in the catalogue is a metric that nothing measures.
    #[test]
    fn every_file_is_a_line_and_every_line_a_file() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metric");
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let stems = names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
        let files: BTreeSet<String> = stems.filter(|name| name != "mod").collect();
        let lines: BTreeSet<String> = MODULES.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(files, lines, "files of src/metric (left), lines of `catalogue!` (right)");
    }

    #[test]
    fn every_id_is_declared_once_and_found() {
        let mut ids = BTreeSet::new();
        for info in infos() {
            assert!(ids.insert(info.id), "{} is declared twice", info.id);
            assert_eq!(find(info.id), Some(info));
        }
        assert_eq!(similar("loop_rat"), Some("loop_rate"));
        assert_eq!(similar("zzz"), None);
    }

    #[test]
    fn ids_are_ascii_snake_case() {
        for MetricInfo { id, .. } in infos() {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(id.starts_with(|c: char| c.is_ascii_lowercase()) && id.chars().all(legal), "{id}");
            assert!(!id.contains("__") && !id.ends_with('_'), "{id}");
        }
    }

    #[test]
    fn short_names_differ_and_fit_a_column() {
        let mut names = BTreeSet::new();
        for MetricInfo { id, name, .. } in infos() {
            assert!(names.insert(name), "{id}: the name {name:?} is taken");
            assert!((1..=MetricInfo::MAX_NAME).contains(&name.chars().count()), "{id}: {name:?}");
            assert!(name.starts_with(char::is_uppercase) && *name == name.trim(), "{id}: {name:?}");
        }
    }

    #[test]
    fn descriptions_are_one_sentence_with_a_source() {
        for MetricInfo { id, description, reference, .. } in infos() {
            let one_line = |text: &str| !text.is_empty() && !text.contains('\n') && !text.contains("  ");
            assert!(one_line(description) && !description.ends_with('.'), "{id}: {description:?}");
            assert!(one_line(reference), "{id}: {reference:?}");
        }
    }

    #[test]
    fn primary_metrics_have_a_direction_and_binary_ones_are_shares() {
        for info in infos() {
            assert!(!info.primary || info.better != Direction::Neither, "{}: primary without a direction", info.id);
            assert!(!info.binary || info.unit == smpo_results::Unit::Share, "{}: binary, but no share", info.id);
        }
    }

    #[test]
    fn leaderboard_columns_have_an_order_without_ties() {
        let mut positions: Vec<u8> = infos().filter_map(|info| info.leaderboard).collect();
        positions.sort_unstable();
        assert_eq!(positions, (0..positions.len() as u8).collect::<Vec<_>>());
    }

    #[test]
    fn every_metric_is_computed_once() {
        for metric in all() {
            let teacher_forced = [eos_gold::METRICS, preference::METRICS, reward::METRICS]
                .concat()
                .iter()
                .any(|m| m.info == metric.info);
            let computed = metric.sample.is_some() || metric.among.is_some() || metric.corpus.is_some();
            assert!(computed != teacher_forced, "{}: a function of samples, or teacher-forced", metric.info.id);
        }
    }
}
