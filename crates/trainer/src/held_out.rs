//! The objective on held-out rows, under the names that transformers gives them: `eval_loss`, `eval_rewards/margins`…

use smpo_data::Row;
use smpo_losses::{Batch, Completion, Member, Pair, PooledRow};

use crate::error::TrainError;
use crate::learner::Learner;
use crate::mismatched::Mismatched;
use crate::record::Figure;
use crate::scoring::{RowLogps, Scorer, StepRow};

/// Rows that are never trained on.
pub(crate) struct HeldOut {
    /// The rows.
    pub rows: Vec<Row>,
    /// Their log-probs under the reference model; empty if the objective needs none.
    pub references: Vec<RowLogps>,
    /// Rows with other prompts, where all held-out rows share theirs and KTO's baseline needs some; else empty.
    pub others: Vec<Row>,
    /// Rows of a micro-batch, over which an objective may take quantiles.
    pub micro_batch: usize,
}

impl HeldOut {
    /// Evaluates the current model. Schedules are evaluated at their end, so that evaluations are comparable.
    ///
    /// # Errors
    /// If the model or the loss refuses a row.
    pub(crate) fn evaluate(&self, learner: &Learner, step: u64) -> Result<Vec<Figure>, TrainError> {
        let (entropy, all) = (learner.objective().needs_entropy(), self.rows.iter().collect::<Vec<_>>());
        let (logps, distilled) = match learner.distilled(&all)? {
            Some((logps, sums, weight)) => (logps, Some((sums, weight))),
            None => {
                let scorer = Scorer { entropy, pooling: learner.pooling(), ..learner.scorer() };
                (scorer.score(learner.decoder(), &all)?, None)
            }
        };
        let live = learner.live_references(&all)?;
        let references = if live.is_empty() { &self.references } else { &live };
        let rows: Vec<StepRow<'_>> = self
            .rows
            .iter()
            .enumerate()
            .map(|(index, row)| StepRow { row, reference: references.get(index), other: self.others.get(index) })
            .collect();
        let rows: Vec<&StepRow<'_>> = rows.iter().collect();
        let pooled: Vec<PooledRow<'_>> = rows.iter().zip(&logps).map(|(row, values)| row.pooled(values)).collect();
        let groups: Vec<Vec<Member<'_>>> = rows.iter().zip(&logps).map(|(row, logps)| row.members(logps)).collect();
        let pairs = rows.iter().zip(&logps).zip(&groups);
        let pairs: Vec<Pair<'_>> = pairs.map(|((row, logps), group)| row.pair(logps, group)).collect();
        let mismatched = learner.mismatched(&rows)?;
        let mismatched: Vec<Completion<'_>> = mismatched.iter().map(Mismatched::completion).collect();
        let sizes: Vec<usize> = self.rows.chunks(self.micro_batch).map(<[Row]>::len).collect();
        let batch = Batch {
            pairs: &pairs,
            pooled: &pooled,
            microbatches: &sizes,
            step,
            mismatched: &mismatched,
            ..Batch::default()
        };
        // The window holds training rows only.
        let mut winsor = learner.winsor().clone();
        let mut evaluation =
            learner.objective().evaluate(&batch, &mut winsor).map_err(|source| TrainError::Batch { step, source })?;
        if let Some((sums, weight)) = &distilled {
            let tokens = logps.iter().flat_map(|row| &row.chosen).map(Vec::len).sum::<usize>();
            let value = weight * sums.divergence / tokens as f64;
            evaluation.add_divergence(sums.divergence, sums.agreements, tokens as u64, value);
        }
        let figures = evaluation.metrics().into_iter().filter(|(name, _)| *name != "target_margin");
        Ok(figures.map(|(name, value)| (format!("eval_{name}").into(), value)).collect())
    }
}
