//! All rows of `measurements.jsonl` by metric: one column of numbers each, in place of a map a prompt.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Error, Measurement, SCHEMA_VERSION, files};

/// The measurements of a run. A million prompts with three samples of sixteen metrics take half a GiB.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measurements {
    ids: Texts,
    /// Index into `slices`, by row.
    slice_of: Vec<u32>,
    /// In the order of first appearance.
    slices: Vec<String>,
    /// In the order of first appearance; each may end before the last row.
    columns: Vec<(String, Column)>,
}

/// One metric's values by row: one per sample, none where the metric does not apply.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// End of each row's values.
    ends: Vec<usize>,
    values: Vec<f64>,
}

impl Column {
    /// The values of a row.
    pub fn row(&self, row: usize) -> &[f64] {
        let Some(&end) = self.ends.get(row) else { return &[] };
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.values[start..end]
    }

    /// Adds the values of `row`, after those of any earlier one; rows between have none.
    fn push(&mut self, row: usize, values: &[f64]) {
        self.ends.resize(row, self.values.len());
        self.values.extend_from_slice(values);
        self.ends.push(self.values.len());
    }

    /// Rows that have values, with them.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &[f64])> {
        (0..self.ends.len()).map(move |row| (row, self.row(row))).filter(|(_, values)| !values.is_empty())
    }
}

/// Rows with their values, ascending.
impl<V: AsRef<[f64]>> FromIterator<(usize, V)> for Column {
    fn from_iter<I: IntoIterator<Item = (usize, V)>>(rows: I) -> Self {
        let mut column = Column::default();
        rows.into_iter().for_each(|(row, values)| column.push(row, values.as_ref()));
        column
    }
}

impl Measurements {
    /// Reads `measurements.jsonl` line by line.
    ///
    /// # Errors
    /// As [`crate::read_jsonl`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut all = Measurements::default();
        files::for_each_jsonl(path, "measurement", |row: Measurement| all.push(&row))?;
        Ok(all)
    }

    /// Adds a prompt.
    pub fn push(&mut self, row: &Measurement) {
        let number = self.len();
        let slice = self.slices.iter().position(|known| *known == row.slice).unwrap_or_else(|| {
            self.slices.push(row.slice.clone());
            self.slices.len() - 1
        });
        self.slice_of.push(slice as u32);
        self.ids.push(&row.prompt_id);
        for (metric, values) in &row.values {
            self.column_mut(metric).push(number, values);
        }
    }

    fn column_mut(&mut self, metric: &str) -> &mut Column {
        let place = self.columns.iter().position(|(known, _)| known == metric).unwrap_or_else(|| {
            self.columns.push((metric.to_owned(), Column::default()));
            self.columns.len() - 1
        });
        &mut self.columns[place].1
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.slice_of.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.slice_of.is_empty()
    }

    /// Slice and id of a row's prompt.
    pub fn key(&self, row: usize) -> (&str, &str) {
        (&self.slices[self.slice_of[row] as usize], self.ids.get(row))
    }

    /// The slices, in the order of first appearance.
    pub fn slices(&self) -> impl Iterator<Item = &str> {
        self.slices.iter().map(String::as_str)
    }

    /// The metrics, in the order of first appearance.
    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(metric, _)| metric.as_str())
    }

    /// The values of a metric.
    pub fn column(&self, metric: &str) -> Option<&Column> {
        self.columns.iter().find(|(known, _)| known == metric).map(|(_, column)| column)
    }

    /// Replaces the values of a metric.
    pub fn set(&mut self, metric: &str, column: Column) {
        *self.column_mut(metric) = column;
    }

    /// All columns with their metrics.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Column)> {
        self.columns.iter().map(|(metric, column)| (metric.as_str(), column))
    }

    /// The rows, ascending by slice and id; rows of one prompt in their order.
    pub fn sorted(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.len()).collect();
        rows.sort_unstable_by(|&a, &b| self.key(a).cmp(&self.key(b)).then(a.cmp(&b)));
        rows
    }

    /// A row as it is written.
    pub fn row(&self, row: usize) -> Measurement {
        let (slice, prompt_id) = self.key(row);
        let values = self.columns.iter().map(|(metric, column)| (metric, column.row(row)));
        let values = values.filter(|(_, values)| !values.is_empty());
        Measurement {
            schema: SCHEMA_VERSION,
            prompt_id: prompt_id.to_owned(),
            slice: slice.to_owned(),
            values: values.map(|(metric, values)| (metric.clone(), values.to_vec())).collect::<BTreeMap<_, _>>(),
        }
    }

    /// The rows as they are written.
    pub fn rows(&self) -> impl Iterator<Item = Measurement> {
        (0..self.len()).map(move |row| self.row(row))
    }
}

impl FromIterator<Measurement> for Measurements {
    fn from_iter<I: IntoIterator<Item = Measurement>>(rows: I) -> Self {
        let mut all = Measurements::default();
        rows.into_iter().for_each(|row| all.push(&row));
        all
    }
}

/// Texts one after the other.
#[derive(Debug, Clone, Default, PartialEq)]
struct Texts {
    text: String,
    /// End of each.
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, slice: &str, values: &[(&str, &[f64])]) -> Measurement {
        let values = values.iter().map(|(metric, values)| ((*metric).to_owned(), values.to_vec())).collect();
        Measurement { schema: SCHEMA_VERSION, prompt_id: id.into(), slice: slice.into(), values }
    }

    #[test]
    fn rows_come_back_as_they_went_in() {
        let rows = [
            row("b", "x", &[("late", &[1.0])]),
            row("", "y", &[]),
            row("é", "x", &[("early", &[2.0, 3.0]), ("late", &[4.0])]),
            row("a", "x", &[("early", &[5.0])]),
        ];
        let all: Measurements = rows.iter().cloned().collect();
        assert_eq!(all.rows().collect::<Vec<_>>(), rows);
        assert_eq!(all.slices().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(all.metrics().collect::<Vec<_>>(), ["late", "early"]);
        assert_eq!(all.sorted(), [3, 0, 2, 1]);
        let late: Vec<_> = all.column("late").unwrap().rows().collect();
        assert_eq!(late, [(0, &[1.0][..]), (2, &[4.0][..])]);
        assert_eq!(all.column("late").unwrap().row(3), [0.0; 0]);
        assert!(all.column("none").is_none());
    }

    #[test]
    fn a_column_can_be_replaced() {
        let mut all: Measurements = [row("a", "x", &[("m", &[1.0])]), row("b", "x", &[])].into_iter().collect();
        all.set("m", [(1, vec![2.0])].into_iter().collect());
        all.set("n", [(0, [3.0])].into_iter().collect());
        assert_eq!(all.rows().collect::<Vec<_>>(), [row("a", "x", &[("n", &[3.0])]), row("b", "x", &[("m", &[2.0])])]);
    }
}
