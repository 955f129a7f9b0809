//! One file of completions.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::answer::Answer;
use super::formats::{self, InputFormat, Read};
use super::record::Record;
use super::store::Store;
use crate::input_error::InputError;
use crate::json_rows::{self, Layout, Row, RowLines, Rows};

/// A file of completions, which are in a store.
#[derive(Debug, Clone)]
pub struct CompletionFile {
    pub(super) path: PathBuf,
    /// The format, given or detected.
    pub format: InputFormat,
    pub(super) answers: Vec<Answer>,
    /// SHA-256 of the text.
    pub(super) sha256: String,
    /// The reason why a file of the format has no completions.
    pub(super) skipped: Option<String>,
    /// A remark on its bytes.
    pub(super) damage: Option<String>,
    /// A remark on the first row with a field that may be taken for the completion and was not.
    pub(super) passed_over: Option<String>,
}

impl CompletionFile {
    /// Reads a file into a store, detecting its format by content unless one is given. Of one with one row a line, in a
    /// format whose rows are read one by one, no row stays in memory.
    ///
    /// # Errors
    /// [`InputError`], with the line.
    pub fn read(path: &Path, format: Option<InputFormat>, store: &mut Store) -> Result<Self, InputError> {
        let mut reader =
            Reader { path: path.into(), format, texts: HashSet::new(), answers: Vec::new(), passed_over: None, store };
        let layout = match formats::of_archive(path)? {
            Some(rows) => Layout::Whole(rows),
            None => json_rows::open(path)?,
        };
        let Rows { rows, sha256, damage } = match layout {
            Layout::Whole(rows) => rows,
            Layout::Lines(mut lines) => {
                let unread = reader.by_line(&mut lines);
                let (sha256, damage) = lines.finish()?;
                Rows { rows: unread?, sha256, damage }
            }
        };
        let (format, skipped) = reader.together(rows)?;
        let skipped = skipped.or_else(|| reader.answers.is_empty().then(|| "no completion in it".to_owned()));
        let Reader { answers, passed_over, .. } = reader;
        Ok(CompletionFile { path: path.to_owned(), format, answers, sha256, skipped, damage, passed_over })
    }
}

/// A file while it is read.
struct Reader<'a> {
    path: Arc<Path>,
    format: Option<InputFormat>,
    /// Ids and names of models: each once in memory.
    texts: HashSet<Arc<str>>,
    answers: Vec<Answer>,
    passed_over: Option<String>,
    store: &'a mut Store,
}

impl Reader<'_> {
    /// Reads rows one by one, and gives back those that cannot be: before the format is known, and of a format that takes
    /// all rows of a file together.
    fn by_line(&mut self, lines: &mut RowLines<'_>) -> Result<Vec<(usize, Row)>, InputError> {
        let mut unread = Vec::new();
        while let Some((line, row)) = lines.next()? {
            self.format = self.format.or_else(|| InputFormat::of_row(&row));
            unread.push((line, row));
            let Some(format) = self.format else { continue };
            self.look_for_passed_over(format, &unread);
            if let Some(records) = format.read_rows(&self.path, &unread)? {
                self.store(records)?;
                unread.clear();
            }
        }
        Ok(unread)
    }

    /// Reads the rows that were not read one by one; the format, and the reason why there are no completions.
    fn together(&mut self, rows: Vec<(usize, Row)>) -> Result<(InputFormat, Option<String>), InputError> {
        let (format, rows) = match (self.format, rows.first()) {
            (Some(format), None) => return Ok((format, None)),
            (Some(format), _) => (format, rows),
            (None, first) => {
                let first = first.map_or(1, |(line, _)| *line);
                InputFormat::detect(rows).map_err(|problem| InputError::line(&self.path, first, problem))?
            }
        };
        self.look_for_passed_over(format, &rows);
        match format.read(&self.path, &rows)? {
            Read::Records(records) => self.store(records).map(|()| (format, None)),
            Read::Skipped(reason) => Ok((format, Some(reason))),
        }
    }

    fn look_for_passed_over(&mut self, format: InputFormat, rows: &[(usize, Row)]) {
        if self.passed_over.is_none() && format.has_any_field() {
            self.passed_over = rows.iter().find_map(|(line, row)| {
                let (used, other) = formats::passed_over(row)?;
                let place = format!("{}:{line}", self.path.display());
                Some(format!("{place}: the completion is `{used}`; `{other}`, another text, is left out"))
            });
        }
    }

    fn store(&mut self, records: Vec<(usize, Record)>) -> Result<(), InputError> {
        let texts = &mut self.texts;
        let mut intern = |text: &str| match texts.get(text) {
            Some(known) => known.clone(),
            None => {
                let text: Arc<str> = text.into();
                texts.insert(text.clone());
                text
            }
        };
        for (line, record) in records {
            self.answers.push(Answer::new(&self.path, line, record, &mut intern, self.store)?);
        }
        Ok(())
    }
}
