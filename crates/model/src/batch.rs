//! Packed batches: sequences concatenated without padding, the prompt of a pair once.
//!
//! A sequence is a prompt and a completion. Row `t` of the hidden states predicts token `t + 1`, so a completion's last
//! token never enters the model, and its first one is predicted from the prompt's last row. The prompt of a preference
//! pair is packed once and both completions attend to it, their positions restarting after it (prefix sharing,
//! arXiv 2410.20305): the same values as of two separate sequences, the prompt computed once.

use std::ops::Range;

use smpo_kernels::{Segments, Span};

use crate::error::{ModelError, Result};

/// `N` packed tokens, `M` of whose rows predict a scored token of a completion.
#[derive(Debug, Clone)]
pub struct PackedBatch {
    input_ids: Vec<u32>,
    segments: Segments,
    rows: Vec<u32>,
    targets: Vec<u32>,
    completions: Vec<Range<usize>>,
    lengths: Vec<usize>,
}

impl PackedBatch {
    /// An empty batch.
    pub fn builder() -> PackedBatchBuilder {
        PackedBatchBuilder::default()
    }

    /// One completion per prompt, each a sequence of its own.
    ///
    /// # Errors
    /// When a prompt or a completion is empty, or there is none.
    pub fn from_sequences<'a>(sequences: impl IntoIterator<Item = (&'a [u32], &'a [u32])>) -> Result<Self> {
        let mut builder = Self::builder();
        for (prompt, completion) in sequences {
            builder.push_sequence(prompt, completion)?;
        }
        builder.build()
    }

    /// Preference pairs `(prompt, chosen, rejected)`, each prompt once; completions come out chosen, rejected, chosen, …
    ///
    /// # Errors
    /// When a prompt or a completion is empty, or there is none.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a [u32], &'a [u32], &'a [u32])>) -> Result<Self> {
        let mut builder = Self::builder();
        for (prompt, chosen, rejected) in pairs {
            builder.push_shared(prompt, &[chosen, rejected])?;
        }
        builder.build()
    }

    /// `N`: tokens that enter the model.
    pub fn tokens(&self) -> usize {
        self.input_ids.len()
    }

    /// Ids of those tokens, (`N`).
    pub fn input_ids(&self) -> &[u32] {
        &self.input_ids
    }

    /// Position of each token in its sequence, (`N`).
    pub fn positions(&self) -> &[u32] {
        self.segments.positions()
    }

    /// Attention segments of the tokens.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Rows of the hidden states that predict a scored token, (`M`); a shared prompt's last row comes twice.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Target token of each of those rows, (`M`).
    pub fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// Range of each completion among the `M` rows, in the order they were pushed.
    pub fn completions(&self) -> &[Range<usize>] {
        &self.completions
    }

    /// Length of each token's sequence in tokens, the last one included, (`N`); the longest of those that share a prompt.
    pub(crate) fn lengths(&self) -> &[usize] {
        &self.lengths
    }
}

/// Builder of a packed batch.
#[derive(Debug, Default)]
pub struct PackedBatchBuilder {
    /// Length at which sequences of one prompt go apart.
    turns_at: Option<usize>,
    input_ids: Vec<u32>,
    spans: Vec<Span>,
    rows: Vec<u32>,
    targets: Vec<u32>,
    completions: Vec<Range<usize>>,
    lengths: Vec<usize>,
}

impl PackedBatchBuilder {
    /// For a model whose sequences beyond that length turn by other frequencies ([`DecoderSpec::turns_at`]): completions of one
    /// prompt share it only where all of them or none are so long.
    ///
    /// [`DecoderSpec::turns_at`]: crate::DecoderSpec::turns_at
    pub fn turning_at(self, length: Option<usize>) -> Self {
        Self { turns_at: length, ..self }
    }

    /// True if sequences of one prompt lie on both sides of the length.
    fn goes_apart(&self, prompt: &[u32], completions: impl Iterator<Item = usize>) -> bool {
        let Some(length) = self.turns_at else { return false };
        let mut long = completions.map(|completion| prompt.len() + completion > length);
        let first = long.next();
        long.any(|other| Some(other) != first)
    }

    /// Adds one prompt with one completion; returns the completion's range among the `M` rows.
    ///
    /// # Errors
    /// When the prompt or the completion is empty.
    pub fn push_sequence(&mut self, prompt: &[u32], completion: &[u32]) -> Result<Range<usize>> {
        check("prompt", prompt)?;
        check("completion", completion)?;
        let start = self.input_ids.len();
        self.input_ids.extend_from_slice(prompt);
        self.input_ids.extend(predicting(completion));
        let end = self.input_ids.len();
        self.spans.push(Span::new(start..end));
        self.lengths.resize(end, prompt.len() + completion.len());
        let whole = 0..completion.len();
        Ok(self.push_rows(start + prompt.len() - 1, start + prompt.len(), completion, std::slice::from_ref(&whole)))
    }

    /// Adds one prompt with several completions that share it; returns their ranges among the `M` rows.
    ///
    /// # Errors
    /// When the prompt or a completion is empty, or there is no completion.
    pub fn push_shared(&mut self, prompt: &[u32], completions: &[&[u32]]) -> Result<Vec<Range<usize>>> {
        let wholes: Vec<Range<usize>> = completions.iter().map(|completion| 0..completion.len()).collect();
        let scored: Vec<_> = completions.iter().copied().zip(wholes.iter().map(std::slice::from_ref)).collect();
        self.push_scored(prompt, &scored)
    }

    /// As [`PackedBatchBuilder::push_shared`], for completions of which only some tokens are scored, given as ranges in
    /// order, the last of which ends where the completion does; the others are context.
    ///
    /// # Errors
    /// When the prompt, a completion or a range is empty, there is no completion, or a range lies outside.
    pub fn push_scored(
        &mut self,
        prompt: &[u32],
        completions: &[(&[u32], &[Range<usize>])],
    ) -> Result<Vec<Range<usize>>> {
        check("prompt", prompt)?;
        for (completion, scored) in completions {
            check("completion", completion)?;
            check_scored(completion.len(), scored)?;
        }
        if self.goes_apart(prompt, completions.iter().map(|(completion, _)| completion.len())) {
            let each = completions.iter().map(|one| self.push_scored(prompt, std::slice::from_ref(one)));
            return Ok(each.collect::<Result<Vec<_>>>()?.concat());
        }
        let Some(longest) = completions.iter().map(|(completion, _)| completion.len()).max() else {
            return Err(ModelError::input("completions of a prompt", "at least one", "none"));
        };
        let start = self.input_ids.len();
        self.input_ids.extend_from_slice(prompt);
        let shared = start..self.input_ids.len();
        self.spans.push(Span::new(shared.clone()));
        let mut placed = Vec::with_capacity(completions.len());
        for (completion, scored) in completions {
            let first = self.input_ids.len();
            self.input_ids.extend(predicting(completion));
            let end = self.input_ids.len();
            // A completion of one token is predicted from the prompt alone.
            if end > first {
                self.spans.push(Span::with_prefix(first..end, shared.clone()));
            }
            placed.push(self.push_rows(shared.end - 1, first, completion, scored));
        }
        self.lengths.resize(self.input_ids.len(), prompt.len() + longest);
        Ok(placed)
    }

    /// Adds one prompt with several completions that share it, for a head that reads whole sequences: each completion has
    /// one row, its last token that is not `pad`. Tokens after it do not enter the model.
    ///
    /// # Errors
    /// When the prompt is empty, or there is no completion.
    pub fn push_pooled(&mut self, prompt: &[u32], completions: &[&[u32]], pad: Option<u32>) -> Result<()> {
        check("prompt", prompt)?;
        if completions.is_empty() {
            return Err(ModelError::input("completions of a prompt", "at least one", "none"));
        }
        let read = |tokens: &[u32]| tokens.iter().rposition(|token| Some(*token) != pad);
        if self.goes_apart(prompt, completions.iter().map(|completion| read(completion).map_or(0, |last| last + 1))) {
            return completions.iter().try_for_each(|one| self.push_pooled(prompt, std::slice::from_ref(one), pad));
        }
        let start = self.input_ids.len();
        self.input_ids.extend_from_slice(prompt);
        let shared = start..self.input_ids.len();
        self.spans.push(Span::new(shared.clone()));
        let mut longest = 0;
        for completion in completions {
            let first = self.input_ids.len();
            let row = match read(completion) {
                Some(last) => {
                    self.input_ids.extend_from_slice(&completion[..=last]);
                    self.spans.push(Span::with_prefix(first..first + last + 1, shared.clone()));
                    longest = longest.max(last + 1);
                    first + last
                }
                // Nothing but padding: transformers then reads the first token.
                None => start + read(prompt).unwrap_or_default(),
            };
            let place = self.rows.len();
            self.rows.push(row as u32);
            self.completions.push(place..place + 1);
        }
        self.lengths.resize(self.input_ids.len(), prompt.len() + longest);
        Ok(())
    }

    /// Number of tokens so far.
    pub fn tokens(&self) -> usize {
        self.input_ids.len()
    }

    /// Finishes the batch.
    ///
    /// # Errors
    /// When nothing was added.
    pub fn build(self) -> Result<PackedBatch> {
        if self.input_ids.is_empty() {
            return Err(ModelError::input("packed batch", "at least one sequence", "none"));
        }
        Ok(PackedBatch {
            segments: Segments::new(self.spans)?,
            input_ids: self.input_ids,
            rows: self.rows,
            targets: self.targets,
            completions: self.completions,
            lengths: self.lengths,
        })
    }

    /// The first token is predicted by row `before`, the others by the rows from `first` on.
    fn push_rows(&mut self, before: usize, first: usize, completion: &[u32], scored: &[Range<usize>]) -> Range<usize> {
        let start = self.rows.len();
        for turn in scored {
            let row_of = |token: usize| if token == 0 { before } else { first + token - 1 };
            self.rows.extend(turn.clone().map(|token| row_of(token) as u32));
            self.targets.extend_from_slice(&completion[turn.clone()]);
        }
        let range = start..self.rows.len();
        self.completions.push(range.clone());
        range
    }
}

/// The tokens of a completion that enter the model: all but the last.
fn predicting(completion: &[u32]) -> impl Iterator<Item = u32> + '_ {
    completion[..completion.len() - 1].iter().copied()
}

fn check(what: &str, tokens: &[u32]) -> Result<()> {
    if tokens.is_empty() {
        return Err(ModelError::input(what, "at least one token", "none"));
    }
    Ok(())
}

/// Refuses ranges that are no scored tokens of a completion of `length` tokens.
fn check_scored(length: usize, scored: &[Range<usize>]) -> Result<()> {
    let ordered = scored.windows(2).all(|two| two[0].end <= two[1].start);
    let filled = scored.iter().all(|turn| turn.start < turn.end);
    if !ordered || !filled || scored.last().is_none_or(|last| last.end != length) {
        let expected = format!("ranges in order that end with the completion of {length} tokens");
        return Err(ModelError::input("scored tokens", expected, format!("{scored:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_predicted_from_the_row_before() {
        let batch = PackedBatch::from_sequences([(&[1, 2, 3][..], &[4, 5, 6][..]), (&[7][..], &[8][..])]).unwrap();
        assert_eq!(batch.input_ids(), [1, 2, 3, 4, 5, 7]);
        assert_eq!(batch.positions(), [0, 1, 2, 3, 4, 0]);
        assert_eq!(batch.rows(), [2, 3, 4, 5]);
        assert_eq!(batch.targets(), [4, 5, 6, 8]);
        assert_eq!(batch.completions(), [0..3, 3..4]);
    }

    #[test]
    fn a_pair_has_its_prompt_once() {
        let batch =
            PackedBatch::from_pairs([(&[1, 2][..], &[3, 4, 9][..], &[9][..]), (&[5][..], &[6, 9][..], &[7, 8, 9][..])])
                .unwrap();
        assert_eq!(batch.input_ids(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(batch.positions(), [0, 1, 2, 3, 0, 1, 1, 2]);
        assert_eq!(batch.rows(), [1, 2, 3, 1, 4, 5, 4, 6, 7]);
        assert_eq!(batch.targets(), [3, 4, 9, 9, 6, 9, 7, 8, 9]);
        assert_eq!(batch.completions(), [0..3, 3..4, 4..6, 6..9]);
        assert_eq!(batch.lengths(), [5, 5, 5, 5, 4, 4, 4, 4]);
    }

    #[test]
    fn tokens_between_turns_are_context() {
        let mut builder = PackedBatch::builder();
        let chosen = (&[3, 4, 9, 5, 6, 9][..], &[0..3, 4..6][..]);
        let answer = 1..3;
        let rejected = (&[7, 8, 9][..], std::slice::from_ref(&answer));
        let placed = builder.push_scored(&[1, 2], &[chosen, rejected]).unwrap();
        let batch = builder.build().unwrap();
        assert_eq!(batch.input_ids(), [1, 2, 3, 4, 9, 5, 6, 7, 8]);
        assert_eq!(batch.rows(), [1, 2, 3, 5, 6, 7, 8]);
        assert_eq!(batch.targets(), [3, 4, 9, 6, 9, 8, 9]);
        assert_eq!(placed, [0..5, 5..7]);
        for wrong in [&[0..1, 1..2][..], &[2..3, 0..3], &[0..0, 1..3], &[]] {
            let error = PackedBatch::builder().push_scored(&[1], &[(&[7, 8, 9], wrong)]).unwrap_err().to_string();
            assert!(error.contains("ranges in order that end with the completion of 3 tokens"), "{error}");
        }
    }

    #[test]
    fn a_pooled_completion_is_read_at_its_last_token_that_is_no_padding() {
        let mut builder = PackedBatch::builder();
        builder.push_pooled(&[1, 2], &[&[3, 4, 9, 9], &[9], &[5]], Some(9)).unwrap();
        builder.push_pooled(&[9, 9], &[&[9]], Some(9)).unwrap();
        builder.push_pooled(&[6], &[&[9]], None).unwrap();
        let batch = builder.build().unwrap();
        assert_eq!(batch.input_ids(), [1, 2, 3, 4, 5, 9, 9, 6, 9]);
        assert_eq!(batch.rows(), [3, 1, 4, 5, 8]);
        assert_eq!(batch.positions(), [0, 1, 2, 3, 2, 0, 1, 0, 1]);
        assert_eq!(batch.completions(), [0..1, 1..2, 2..3, 3..4, 4..5]);
        assert!(PackedBatch::builder().push_pooled(&[], &[&[1]], None).is_err());
        assert!(PackedBatch::builder().push_pooled(&[1], &[], None).is_err());
    }

    #[test]
    fn empty_parts_are_refused() {
        let refused = |prompt: &[u32], completion: &[u32]| {
            PackedBatch::from_sequences([(prompt, completion)]).unwrap_err().to_string()
        };
        assert_eq!(refused(&[], &[1]), "prompt: expected at least one token, got none");
        assert_eq!(refused(&[1], &[]), "completion: expected at least one token, got none");
        assert!(PackedBatch::from_pairs([]).is_err());
    }
}
