//! Accuracy and F1 of the labels that a classifier finds, as counts, so that those of parts add up to those of the whole.

use crate::evaluation::Mean;

/// Labels of texts and labels found, compared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelCounts {
    /// Share of texts of which exactly the labels were found.
    pub accuracy: Mean,
    /// Texts by label.
    pub of_label: Vec<Counts>,
    /// True if texts may have several labels.
    pub multiple: bool,
}

/// Texts of one label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Texts that have the label and were given it.
    pub right: u64,
    /// Texts that have it and were not given it.
    pub missed: u64,
    /// Texts that were given it and do not have it.
    pub wrong: u64,
}

impl Counts {
    /// The harmonic mean of precision and recall, 2·right / (2·right + missed + wrong); 0 where no text has the label or
    /// was given it.
    pub fn f1(self) -> f64 {
        2.0 * self.right as f64 / (2 * self.right + self.missed + self.wrong).max(1) as f64
    }

    /// True if a text has the label or was given it.
    fn occurs(self) -> bool {
        self.right + self.missed + self.wrong > 0
    }

    fn add(&mut self, other: Self) {
        self.right += other.right;
        self.missed += other.missed;
        self.wrong += other.wrong;
    }
}

impl LabelCounts {
    /// Of no text yet, with `labels` labels.
    pub fn new(labels: usize, multiple: bool) -> Self {
        Self { accuracy: Mean::default(), of_label: vec![Counts::default(); labels], multiple }
    }

    /// Adds a text. Labels are indices.
    pub fn push(&mut self, labels: &[usize], found: &[usize]) {
        let mut all_right = true;
        for (label, counts) in self.of_label.iter_mut().enumerate() {
            match (labels.contains(&label), found.contains(&label)) {
                (true, true) => counts.right += 1,
                (true, false) => counts.missed += 1,
                (false, true) => counts.wrong += 1,
                (false, false) => continue,
            }
            all_right &= labels.contains(&label) && found.contains(&label);
        }
        self.accuracy.push(if all_right { 1.0 } else { 0.0 });
    }

    /// Adds those of another part.
    pub fn merge(&mut self, part: &Self) {
        if self.of_label.is_empty() {
            self.clone_from(part);
            return;
        }
        self.accuracy.add(part.accuracy.total, part.accuracy.count);
        self.of_label.iter_mut().zip(&part.of_label).for_each(|(counts, more)| counts.add(*more));
    }

    /// The mean F1 over labels: of texts with one label over those that occur, else over all, as scikit-learn has it.
    pub fn macro_f1(&self) -> Option<f64> {
        let mut mean = Mean::default();
        let counted = self.of_label.iter().filter(|counts| self.multiple || counts.occurs());
        counted.for_each(|counts| mean.push(counts.f1()));
        mean.value().filter(|_| self.accuracy.count > 0)
    }

    /// The F1 of all labels counted together; of texts with one label it is the accuracy.
    pub fn micro_f1(&self) -> Option<f64> {
        let mut all = Counts::default();
        self.of_label.iter().for_each(|counts| all.add(*counts));
        (self.accuracy.count > 0).then(|| all.f1())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn 1.7: `f1_score` of y = [0, 1, 2, 2, 1], found [0, 2, 2, 1, 1] of four labels.
    #[test]
    fn one_label_is_counted_as_scikit_learn_does() {
        let mut counts = LabelCounts::new(4, false);
        for (label, found) in [(0, 0), (1, 2), (2, 2), (2, 1), (1, 1)] {
            counts.push(&[label], &[found]);
        }
        assert_eq!(counts.accuracy.value(), Some(0.6));
        assert!((counts.macro_f1().unwrap() - 2.0 / 3.0).abs() < 1e-15);
        assert!((counts.micro_f1().unwrap() - 0.6).abs() < 1e-15);
        for nothing in [LabelCounts::new(4, false), LabelCounts::new(4, true)] {
            assert_eq!((nothing.macro_f1(), nothing.micro_f1()), (None, None));
        }
    }

    /// y = [[1, 1, 0], [0, 0, 0], [0, 1, 0]], found [[1, 0, 0], [0, 0, 1], [0, 1, 0]].
    #[test]
    fn several_labels_are_counted_as_scikit_learn_does() {
        let rows: [(&[usize], &[usize]); 3] = [(&[0, 1], &[0]), (&[], &[2]), (&[1], &[1])];
        let whole = |rows: &[(&[usize], &[usize])]| {
            let mut counts = LabelCounts::new(3, true);
            rows.iter().for_each(|(labels, found)| counts.push(labels, found));
            counts
        };
        let counts = whole(&rows);
        assert!((counts.accuracy.value().unwrap() - 1.0 / 3.0).abs() < 1e-15);
        assert!((counts.macro_f1().unwrap() - (1.0 + 2.0 / 3.0) / 3.0).abs() < 1e-15);
        assert!((counts.micro_f1().unwrap() - 2.0 / 3.0).abs() < 1e-15);
        let mut parts = LabelCounts::default();
        parts.merge(&whole(&rows[..1]));
        parts.merge(&whole(&rows[1..]));
        assert_eq!(parts, counts);
    }
}
