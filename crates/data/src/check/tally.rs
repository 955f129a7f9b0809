//! Findings counted over a file.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use serde::Serialize;
use smpo_tokenizer::ChatTokenizer;

use crate::Truncation;
use crate::check::repeats::Repeats;
use crate::check::rule::model_findings;
use crate::check::unread::{UnreadKeys, list_unread};
use crate::check::{CheckReport, Finding, Inspection, Rule};
use crate::read_error::{Location, Problem, ReadError};
use crate::record::RecordKind;
use crate::tokenized_record::Entry;

/// Rows that a report names for each rule.
pub(super) const SHOWN: usize = 5;

/// Different problems of unreadable rows that are counted; bounds memory.
const PROBLEMS: usize = 1000;

/// One row that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Line that the row begins on; absent for the model directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Detail of the finding.
    pub detail: String,
}

#[derive(Debug, Default)]
struct Broken {
    count: u64,
    first: Vec<Sample>,
    of_model: bool,
}

/// Findings per rule, and what finds repeated rows.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    broken: BTreeMap<Rule, Broken>,
    unreadable: u64,
    /// Problem of unreadable rows → rows that have it, and the first of them.
    problems: HashMap<String, (u64, u64)>,
    pairs: u64,
    groups: u64,
    labelled: u64,
    desirable: u64,
    examples: u64,
    classified: u64,
    /// The first line of each kind.
    begun: Vec<(RecordKind, u64)>,
    repeats: Repeats,
    /// The reason why hashes of rows could not be kept.
    not_kept: Option<io::Error>,
    /// Lengths are in tokens, not characters.
    in_tokens: bool,
    chosen_length: usize,
    rejected_length: usize,
    unread: UnreadKeys,
}

impl Tally {
    /// A tally that begins with the findings in the model directory.
    pub fn of_model(tokenizer: Option<&ChatTokenizer>) -> Self {
        let mut tally = Self { in_tokens: tokenizer.is_some(), ..Self::default() };
        if let Some(tokenizer) = tokenizer {
            model_findings(tokenizer, &mut tally);
        }
        tally
    }

    /// Adds a finding in the model directory.
    pub fn model(&mut self, rule: Rule, detail: String) {
        let broken = self.broken.entry(rule).or_default();
        broken.count += 1;
        broken.of_model = true;
        broken.first.push(Sample { line: None, detail });
    }

    fn add(&mut self, rule: Rule, line: u64, detail: String) {
        let broken = self.broken.entry(rule).or_default();
        broken.count += 1;
        if broken.first.len() < SHOWN {
            broken.first.push(Sample { line: Some(line), detail });
        }
    }

    /// Adds an error that ends the file.
    pub fn damaged_file(&mut self, error: &ReadError) {
        self.add(Rule::DamagedFile, error.location.line, error.problem.to_string());
    }

    /// Adds a row that cannot be read.
    pub fn unreadable(&mut self, line: u64, problem: String) {
        self.unreadable += 1;
        if let Some((rows, _)) = self.problems.get_mut(&problem) {
            *rows += 1;
        } else if self.problems.len() < PROBLEMS {
            self.problems.insert(problem.clone(), (1, line));
        }
        self.add(Rule::UnreadableRow, line, problem);
    }

    /// Adds an entry of a data file, cut to length.
    pub fn entry(&mut self, entry: &Entry, truncation: &Truncation, tokenizer: Option<&ChatTokenizer>) {
        match &entry.record {
            Err(problem) => self.unreadable(entry.line, problem.clone()),
            Ok(record) => {
                self.record(entry.line, &record.inspection, &record.lengths());
                let truncated = tokenizer.map(|tokenizer| record.truncated(truncation, tokenizer));
                for (rule, detail) in truncated.into_iter().flatten() {
                    self.add(rule, entry.line, detail);
                }
            }
        }
    }

    /// Adds a record whose completions have `lengths`, chosen first.
    pub fn record(&mut self, line: u64, inspection: &Inspection, lengths: &[usize]) {
        match inspection.kind {
            RecordKind::Pair => self.pairs += 1,
            RecordKind::Group => self.groups += 1,
            RecordKind::Labelled => {
                self.labelled += 1;
                self.desirable += u64::from(inspection.label == Some(true));
            }
            RecordKind::Example => self.examples += 1,
            RecordKind::Classified => self.classified += 1,
        }
        if self.begun.iter().all(|(kind, _)| *kind != inspection.kind) {
            self.begun.push((inspection.kind, line));
        }
        if let (RecordKind::Pair, [chosen, rejected]) = (inspection.kind, lengths) {
            self.chosen_length += chosen;
            self.rejected_length += rejected;
        }
        for (rule, detail) in &inspection.broken {
            self.add(*rule, line, detail.clone());
        }
        if !inspection.unread.is_empty() {
            self.add(Rule::UnreadKeys, line, String::new());
        }
        self.unread.add(&inspection.unread, line);
        if self.not_kept.is_none() {
            self.not_kept = self.repeats.add(line, inspection).err();
        }
    }

    /// Adds what rows repeat of each other.
    fn add_repeated(&mut self) -> io::Result<()> {
        if let Some(error) = self.not_kept.take() {
            return Err(error);
        }
        for (rule, repeated) in std::mem::take(&mut self.repeats).find()? {
            if repeated.count > 0 {
                let broken = self.broken.entry(rule).or_default();
                broken.count += repeated.count;
                broken.first.extend(repeated.first());
            }
        }
        Ok(())
    }

    /// Puts the first row with the commonest problem before the other unreadable ones.
    fn commonest_first(&mut self) {
        let commonest = self.problems.iter().max_by_key(|(_, (rows, line))| (*rows, std::cmp::Reverse(*line)));
        let (Some((problem, (_, line))), Some(broken)) = (commonest, self.broken.get_mut(&Rule::UnreadableRow)) else {
            return;
        };
        broken.first.retain(|sample| sample.line != Some(*line));
        broken.first.insert(0, Sample { line: Some(*line), detail: problem.clone() });
        broken.first.truncate(SHOWN);
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.unreadable + self.pairs + self.groups + self.labelled + self.examples + self.classified
    }

    /// The findings, the gravest first.
    ///
    /// # Errors
    /// When the temporary file that hashes of many rows go to cannot be written or read.
    pub fn report(mut self, path: &Path) -> Result<CheckReport, ReadError> {
        self.add_repeated().map_err(|error| ReadError {
            location: Location { path: std::env::temp_dir().into(), line: 0 },
            problem: Problem::NotKept(error),
        })?;
        let kinds = [
            (RecordKind::Classified, self.classified, "labelled text"),
            (RecordKind::Example, self.examples, "example"),
            (RecordKind::Labelled, self.labelled, "labelled completion"),
            (RecordKind::Group, self.groups, "group"),
            (RecordKind::Pair, self.pairs, "pair"),
        ];
        // of equally many the last, as where one kind is kept
        let most = kinds.iter().max_by_key(|(_, count, _)| *count).map(|(kind, ..)| *kind);
        let other = self.begun.iter().filter(|(kind, _)| Some(*kind) != most).map(|(_, line)| *line).min();
        let some = |(_, count, name): (RecordKind, u64, &str)| (count > 0).then(|| smpo_suggest::counted(count, name));
        let found: Vec<String> = kinds.into_iter().rev().filter_map(some).collect();
        match found.len() {
            0 if self.unreadable == 0 => self.add(Rule::NoRows, 0, String::new()),
            0 | 1 => {}
            _ => self.add(Rule::MixedKinds, other.unwrap_or(0), found.join(", ")),
        }
        self.commonest_first();
        if self.labelled > 1 && (self.desirable == 0 || self.desirable == self.labelled) {
            let label = if self.desirable == 0 { "undesirable" } else { "desirable" };
            self.add(Rule::OneLabel, 0, format!("all {} are {label}", self.labelled));
        }
        let (shorter, longer) =
            (self.chosen_length.min(self.rejected_length), self.chosen_length.max(self.rejected_length));
        if longer * 2 > shorter * 3 {
            let mean = |total: usize| total as f64 / self.pairs.max(1) as f64;
            let unit = if self.in_tokens { "tokens" } else { "characters" };
            let [chosen, rejected] = [self.chosen_length, self.rejected_length].map(mean);
            let detail = format!("mean {chosen:.0} {unit} chosen, {rejected:.0} rejected");
            self.add(Rule::LengthBias, 0, detail);
        }
        let rows = self.rows();
        let unread = std::mem::take(&mut self.unread).list();
        if let Some(broken) = self.broken.get_mut(&Rule::UnreadKeys) {
            broken.first.truncate(1);
            broken.first.iter_mut().for_each(|first| first.detail = list_unread(&unread));
        }
        let findings = std::mem::take(&mut self.broken)
            .into_iter()
            .map(|(rule, broken)| {
                let whole = broken.of_model || rule.is_of_the_file();
                Finding {
                    rule,
                    severity: rule.severity(),
                    count: broken.count,
                    share: (!whole && rows > 0).then(|| broken.count as f64 / rows as f64),
                    first: broken
                        .first
                        .into_iter()
                        .map(|sample| Sample { line: sample.line.filter(|&line| line > 0), ..sample })
                        .collect(),
                    what: rule.what(),
                    remedy: rule.remedy(),
                }
            })
            .collect();
        Ok(CheckReport {
            file: path.display().to_string(),
            rows,
            pairs: self.pairs,
            groups: self.groups,
            labelled: self.labelled,
            examples: self.examples,
            classified: self.classified,
            findings,
            unread,
        })
    }
}
