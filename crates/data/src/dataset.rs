//! The rows of a run: from files, by ratio, some of them held out, as tokens.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_tokenizer::ChatTokenizer;

use crate::cache::TokenCache;
use crate::check::{CheckReport, Rule};
use crate::classes::Classes;
use crate::columns::Columns;
use crate::data_source::DataSource;
use crate::dataset_error::DatasetError;
use crate::degenerate::DegenerateGroups;
use crate::mixture::{HoldOut, RowOf, Split, mix, sample, split};
use crate::preparation::{Preparation, TrainOn};
use crate::read_error::Location;
use crate::row::{Row, RowKind};
use crate::sources::Purpose;
use crate::token_file::{FileProgress, Opener};
use crate::tokenized_record::Entry;
use crate::{TokenizedCompletion, Truncated, Truncation, Unfinished, UnfinishedCompletions};

/// The seed of held-out rows, whatever the run's own: runs that differ in their seed are measured on the same rows.
const HOLD_OUT_SEED: u64 = 42;
/// Bad rows that are listed; all are counted.
const LISTED: usize = 20;

/// Treatment of rows that cannot be read or rendered, or that the data check calls an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRows {
    /// The first that cannot be read or rendered is an error; the others are the data check's to refuse.
    #[default]
    Fail,
    /// They are left out, counted by rule, and listed.
    Drop,
}

/// The rows of a run. Every file is split into rows to train on and rows held out, then `ratios` of both are taken and
/// the files joined in order, as effective_llm_alignment does.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Kind of rows to train on.
    pub kind: RowKind,
    /// Files in any format and layout that [`records`](crate::records) reads; a directory or a pattern of names counts as
    /// one file.
    pub files: Vec<PathBuf>,
    /// One ratio per file: 0.5 draws half of its rows, 2 takes them twice. Empty: all rows of all files. A ratio above 1
    /// repeats no held-out row.
    pub ratios: Vec<f64>,
    /// Rows of every file that are held out. Drawn by a seed of their own, so that they are the same for every `seed`.
    pub test_size: Option<HoldOut>,
    /// Labels of the rows, of texts with labels.
    pub classes: Classes,
    /// Files of which all rows are held out.
    pub eval_files: Vec<PathBuf>,
    /// Number of rows to train on, drawn from what is left; all when absent.
    pub sample: Option<usize>,
    /// Seed of ratios and sample.
    pub seed: u64,
    /// Names of columns, each for the files that have them.
    pub columns: Vec<Columns>,
    /// Changes of records before they are rendered.
    pub preparation: Preparation,
    /// Treatment of bad rows.
    pub on_bad_rows: OnBadRows,
    /// Maximum lengths, in tokens.
    pub truncation: Truncation,
}

/// The data files of a run, tokenised.
#[derive(Debug)]
pub struct TokenizedFiles<'a> {
    dataset: &'a Dataset,
    tokenizer: &'a ChatTokenizer,
    files: Vec<DataSource>,
    eval_files: Vec<DataSource>,
    /// Findings of the data check, a report per file; none where the check was not asked for.
    pub reports: Vec<CheckReport>,
    work: Work,
}

/// Work that reading the data files took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Files that were parsed; the others came from the token cache.
    pub parsed_files: usize,
    /// Records that were tokenised.
    pub tokenized_records: u64,
}

/// The rows of a run as tokens, cut to length.
#[derive(Debug, Default)]
pub struct Rows {
    /// Rows to train on, in file order, repetitions included.
    pub train: Vec<Row>,
    /// Rows to evaluate on, in file order.
    pub held_out: Vec<Row>,
    /// Number of rows from each file, in the order of both lists of rows.
    pub sources: Vec<RowSource>,
    /// Rows left out.
    pub bad: BadRows,
    /// Rows that were cut, repetitions included.
    pub truncated: TruncatedRows,
    /// Completions that did not end.
    pub unfinished: UnfinishedCompletions,
    /// Groups left out because they say nothing.
    pub degenerate: DegenerateGroups,
    /// Work that reading the data files took.
    pub work: Work,
    /// Error of writing the token cache; the rows are good all the same.
    pub cache_write_error: Option<std::io::Error>,
}

impl Rows {
    /// Number of held-out rows whose texts are trained on too.
    pub fn held_out_of_train(&self) -> usize {
        if self.held_out.is_empty() {
            return 0;
        }
        let digest = |row: &Row| {
            let mut hasher = DefaultHasher::new();
            row.prompt.hash(&mut hasher);
            row.completions().for_each(|completion| completion.ids().hash(&mut hasher));
            hasher.finish()
        };
        let train: HashSet<u64> = self.train.iter().map(digest).collect();
        self.held_out.iter().filter(|row| train.contains(&digest(row))).count()
    }
}

/// Number of rows that a run takes from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSource {
    /// The file.
    pub file: PathBuf,
    /// Rows to train on, repetitions included.
    pub train: usize,
    /// Rows to evaluate on.
    pub held_out: usize,
}

/// Rows that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadRows {
    /// Number of rows.
    pub count: u64,
    /// The same by the rule of the data check that they break.
    pub by_rule: BTreeMap<&'static str, u64>,
    /// The first of them: place and problem.
    pub first: Vec<String>,
}

/// Number of rows cut to `max_length` and `max_prompt_length`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TruncatedRows {
    /// Rows whose prompt lost tokens.
    pub prompts: usize,
    /// Rows of which a completion lost tokens.
    pub completions: usize,
}

impl BadRows {
    pub(crate) fn add(&mut self, rule: &'static str, problem: impl std::fmt::Display) {
        self.count += 1;
        *self.by_rule.entry(rule).or_default() += 1;
        if self.first.len() < LISTED {
            self.first.push(problem.to_string());
        }
    }

    pub(crate) fn append(&mut self, other: BadRows) {
        self.count += other.count;
        for (rule, count) in other.by_rule {
            *self.by_rule.entry(rule).or_default() += count;
        }
        self.first.extend(other.first);
        self.first.truncate(LISTED);
    }
}

impl fmt::Display for BadRows {
    /// The rules, and how many rows break each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<String> = self.by_rule.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        f.write_str(&rules.join(", "))
    }
}

impl Dataset {
    /// Every row of some files, none held out, at full length.
    pub fn new(kind: RowKind, files: Vec<PathBuf>) -> Self {
        Self {
            kind,
            files,
            ratios: Vec::new(),
            test_size: None,
            classes: Classes::default(),
            eval_files: Vec::new(),
            sample: None,
            seed: 0,
            columns: Vec::new(),
            preparation: Preparation::default(),
            on_bad_rows: OnBadRows::Fail,
            truncation: Truncation::default(),
        }
    }

    /// Reads every file once, tokenises its records in parallel and checks them; a file in the cache is neither parsed
    /// nor tokenised. Memory holds some bytes per record. `on_progress` is called for files that are parsed; there is no
    /// result after a break.
    ///
    /// # Errors
    /// When a file cannot be opened; without `check`, also at the first bad row, unless they may be dropped.
    pub fn tokenize<'a>(
        &'a self,
        tokenizer: &'a ChatTokenizer,
        cache: &TokenCache,
        check: bool,
        on_progress: &mut dyn FnMut(FileProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Option<TokenizedFiles<'a>>, DatasetError> {
        let fingerprint = tokenizer.fingerprint();
        let mut opener = Opener {
            tokenizer,
            fingerprint: &fingerprint,
            preparation: &self.preparation,
            columns: Columns::default(),
            cache,
            on_progress,
        };
        let mut tokenized = TokenizedFiles {
            dataset: self,
            tokenizer,
            files: Vec::with_capacity(self.files.len()),
            eval_files: Vec::with_capacity(self.eval_files.len()),
            reports: Vec::new(),
            work: Work::default(),
        };
        for (paths, purpose) in [(&self.files, Purpose::Train), (&self.eval_files, Purpose::HoldOut)] {
            for path in paths {
                opener.columns = Columns::of(&self.columns, path, purpose)?;
                let opened = DataSource::open(path, purpose, self, check, &mut opener)?;
                let Some((file, reports)) = opened else { return Ok(None) };
                let work = file.work();
                tokenized.work.parsed_files += work.parsed_files;
                tokenized.work.tokenized_records += work.tokenized_records;
                tokenized.reports.extend(reports);
                match purpose {
                    Purpose::Train => tokenized.files.push(file),
                    Purpose::HoldOut => tokenized.eval_files.push(file),
                }
            }
        }
        Ok(Some(tokenized))
    }

    /// Draws the rows of a run from files of which `counts` rows each can be used.
    pub(crate) fn select(&self, counts: &[usize]) -> Result<Selection, DatasetError> {
        let in_file = |file: usize| {
            let file = self.files.get(file).cloned().unwrap_or_default();
            move |source| DatasetError::Mixture { file, source }
        };
        let mut parts = Vec::new();
        for (file, &rows) in counts.iter().enumerate() {
            let held_out = self.test_size.unwrap_or(HoldOut::Rows(0));
            parts.push(split(rows, held_out, HOLD_OUT_SEED).map_err(in_file(file))?);
        }
        let ratios = if self.ratios.is_empty() { vec![1.0; counts.len()] } else { self.ratios.clone() };
        let lengths = |of: fn(&Split) -> &Vec<usize>| parts.iter().map(|part| of(part).len()).collect::<Vec<_>>();
        let drawn = mix(&lengths(|part| &part.train), &ratios, self.seed).map_err(in_file(0))?;
        let once: Vec<f64> = ratios.iter().map(|ratio| ratio.min(1.0)).collect();
        let held_out = mix(&lengths(|part| &part.held_out), &once, HOLD_OUT_SEED).map_err(in_file(0))?;
        let mut train: Vec<RowOf> =
            drawn.into_iter().map(|at| RowOf { row: parts[at.file].train[at.row], ..at }).collect();
        if let Some(wanted) = self.sample {
            train =
                sample(train.len(), wanted, self.seed).map_err(in_file(0))?.into_iter().map(|at| train[at]).collect();
        }
        let held_out = held_out.into_iter().map(|at| RowOf { row: parts[at.file].held_out[at.row], ..at }).collect();
        Ok(Selection { train, held_out })
    }
}

impl TokenizedFiles<'_> {
    /// Draws the rows of the run and cuts them to length.
    ///
    /// # Errors
    /// When a file is damaged; at the first bad row, unless they may be dropped; when nothing is left to train on.
    pub fn rows(self) -> Result<Rows, DatasetError> {
        let Self { dataset, tokenizer, mut files, mut eval_files, work, .. } = self;
        let collector = Collector { dataset, tokenizer };
        let mut rows = Rows { work, ..Rows::default() };
        let counts = collector.usable(&mut files, &mut rows)?;
        let selection = dataset.select(&counts)?;
        for (index, file) in files.iter_mut().enumerate() {
            let plan = selection.plan(index, counts[index]);
            collector.collect(file, &plan, &mut rows)?;
            rows.end_source(&dataset.files[index]);
        }
        if rows.train.is_empty() {
            return Err(no_rows(&dataset.files, dataset.kind, &rows.bad, rows.degenerate));
        }
        let bad = std::mem::take(&mut rows.bad);
        let counts = collector.usable(&mut eval_files, &mut rows)?;
        let held_out_before = rows.held_out.len();
        for ((file, rows_of_file), path) in eval_files.iter_mut().zip(counts).zip(&dataset.eval_files) {
            collector.collect(file, &vec![Taken { times: 0, held_out: true }; rows_of_file], &mut rows)?;
            rows.end_source(path);
        }
        if !eval_files.is_empty() && rows.held_out.len() == held_out_before {
            return Err(no_rows(&dataset.eval_files, dataset.kind, &rows.bad, rows.degenerate));
        }
        let of_eval_files = std::mem::replace(&mut rows.bad, bad);
        rows.bad.append(of_eval_files);
        Ok(rows)
    }
}

pub(crate) fn no_rows(files: &[PathBuf], kind: RowKind, bad: &BadRows, degenerate: DegenerateGroups) -> DatasetError {
    let file = files.first().cloned().unwrap_or_default();
    let got = match bad.first.first() {
        None if degenerate.any() => format!("none ({degenerate})"),
        None => "none".to_string(),
        Some(first) => format!("{} and no other ({bad}): {first}", smpo_suggest::counted(bad.count, "bad row")),
    };
    DatasetError::NoRows { file, expected: kind.expected(), got }
}

/// Adds the rows of data files to those of a run.
struct Collector<'a> {
    dataset: &'a Dataset,
    tokenizer: &'a ChatTokenizer,
}

impl Collector<'_> {
    /// Number of records that can be used, per file; the others are errors or added to the bad rows.
    fn usable(&self, files: &mut [DataSource], rows: &mut Rows) -> Result<Vec<usize>, DatasetError> {
        let mut counts = Vec::with_capacity(files.len());
        for file in files {
            rows.bad.append(file.take_bad(self.dataset.on_bad_rows)?);
            rows.cache_write_error = rows.cache_write_error.take().or(file.take_write_error());
            counts.push(file.usable());
        }
        Ok(counts)
    }

    /// Reads the records of a file that a plan takes.
    fn collect(&self, file: &mut DataSource, plan: &[Taken], rows: &mut Rows) -> Result<(), DatasetError> {
        file.read(
            |rank| plan[rank].is_any(),
            |rank, location, entry| {
                let Entry { record: Ok(record), .. } = entry else { return Ok(()) };
                let Taken { times, held_out } = plan[rank];
                let copies = times + usize::from(held_out);
                for ids in record.into_rows(self.dataset.kind) {
                    let labels = ids.as_ref().ok().and_then(|ids| ids.labels.as_ref());
                    let labels = labels.map_or_else(Vec::new, |labels| self.dataset.classes.indices(labels));
                    let ids = ids.map(|ids| if self.learns_whole() { ids.learned_whole() } else { ids });
                    let fitted = match ids.map(|ids| ids.cut(self.tokenizer, &self.dataset.truncation)) {
                        Ok((mut row, cut)) => {
                            row.labels = labels;
                            rows.unfinished.dropped_completions += copies * self.drop_unfinished(&mut row);
                            self.fit(row, cut, &location)
                        }
                        Err(problem) => Err(DatasetError::Row { location: location.clone(), problem }),
                    };
                    match fitted {
                        Ok((row, _)) if self.drops(&row) => rows.unfinished.dropped_rows += copies,
                        Ok((row, cut)) => {
                            let rewards: Vec<f64> = row.group.iter().map(|scored| scored.reward).collect();
                            // a pair is a group of two with rewards 1 and 0
                            let is_group = self.dataset.kind == RowKind::Groups && row.chosen.is_none();
                            if !is_group || !rows.degenerate.count(&rewards, copies) {
                                rows.add(&row, cut, times, held_out);
                            }
                        }
                        Err(error) if self.dataset.on_bad_rows == OnBadRows::Fail => return Err(error),
                        Err(error) => (0..copies).for_each(|_| rows.bad.add(rule_of(&error), &error)),
                    }
                }
                Ok(())
            },
        )
    }

    /// True if examples teach their prompts too.
    fn learns_whole(&self) -> bool {
        self.dataset.kind == RowKind::Examples && self.dataset.preparation.train_on == TrainOn::Everything
    }

    /// Refuses a row of which nothing is left of a completion.
    fn fit(&self, row: Row, cut: Truncated, location: &Location) -> Result<(Row, Truncated), DatasetError> {
        // what vanished of a group may have been left out of it
        let is_left = !row.group.is_empty() && !row.completions().any(TokenizedCompletion::is_empty);
        if !cut.vanished || self.drops(&row) || is_left && self.dataset.truncation.unfinished == Unfinished::Drop {
            return Ok((row, cut));
        }
        Err(DatasetError::Vanished { location: location.clone(), max_length: self.dataset.truncation.max_length })
    }

    /// Leaves completions that did not end out of a group, where the configuration drops them; returns how many.
    fn drop_unfinished(&self, row: &mut Row) -> usize {
        let before = row.group.len();
        if self.dataset.truncation.unfinished == Unfinished::Drop {
            row.group.retain(|scored| scored.completion.finished());
        }
        before - row.group.len()
    }

    /// True if a row is left out because a completion did not end.
    fn drops(&self, row: &Row) -> bool {
        self.dataset.truncation.unfinished == Unfinished::Drop && row.completions().any(|side| !side.finished())
    }
}

/// Name of the rule behind an error in a row that passed the data check.
fn rule_of(error: &DatasetError) -> &'static str {
    match error {
        DatasetError::Vanished { .. } => "vanished",
        _ => Rule::NotRenderable.id(),
    }
}

impl Rows {
    /// Counts the rows that were added since the last file as those of `file`.
    fn end_source(&mut self, file: &Path) {
        let before = |of: fn(&RowSource) -> usize| self.sources.iter().map(of).sum::<usize>();
        let (train, held_out) = (before(|source| source.train), before(|source| source.held_out));
        self.sources.push(RowSource {
            file: file.to_owned(),
            train: self.train.len() - train,
            held_out: self.held_out.len() - held_out,
        });
    }

    fn add(&mut self, row: &Row, cut: Truncated, times: usize, held_out: bool) {
        let copies = times + usize::from(held_out);
        let counted = |is_so: bool| if is_so { copies } else { 0 };
        let unfinished = |side: &Option<TokenizedCompletion>| {
            counted(side.as_ref().is_some_and(|completion| !completion.finished()))
        };
        self.truncated.prompts += counted(cut.prompt > 0);
        self.truncated.completions += counted(cut.completion > 0);
        self.unfinished.chosen += unfinished(&row.chosen);
        self.unfinished.rejected += unfinished(&row.rejected);
        self.unfinished.grouped += row.group.iter().map(|scored| counted(!scored.completion.finished())).sum::<usize>();
        self.train.extend(std::iter::repeat_n(row, times).cloned());
        self.held_out.extend(held_out.then(|| row.clone()));
    }
}

/// Rows drawn from several files.
pub(crate) struct Selection {
    train: Vec<RowOf>,
    held_out: Vec<RowOf>,
}

/// The part that a record has in a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    /// Times that it is trained on in an epoch.
    pub times: usize,
    /// True if it is held out.
    pub held_out: bool,
}

impl Taken {
    fn is_any(self) -> bool {
        self.times > 0 || self.held_out
    }
}

impl Selection {
    /// The part of each of the `rows` records of a file.
    pub(crate) fn plan(&self, file: usize, rows: usize) -> Vec<Taken> {
        let mut plan = vec![Taken::default(); rows];
        for at in self.train.iter().filter(|at| at.file == file) {
            plan[at.row].times += 1;
        }
        for at in self.held_out.iter().filter(|at| at.file == file) {
            plan[at.row].held_out = true;
        }
        plan
    }
}
