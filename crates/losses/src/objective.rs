//! An objective: a checked configuration, evaluated on one optimizer step after the other.

use crate::batch::{Batch, Completion, Side, Totals};
use crate::config::{Loss, LossConfig};
use crate::error::{BatchError, ConfigError};
use crate::evaluation::Evaluation;
use crate::reading::Reading;
use crate::step::{Rule, Step};
use crate::transform::winsorize;
use crate::transform::{Bounds, WinsorScope, WinsorState};

/// A loss with its transforms, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    config: LossConfig,
}

impl Objective {
    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the field, its range and what was given.
    pub fn new(config: LossConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { config })
    }

    /// What it was made of.
    pub fn config(&self) -> &LossConfig {
        &self.config
    }

    /// The same objective with the constant margin `margin`, in the unit of the loss's own.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a loss without a margin, and for a margin out of its range.
    pub fn with_target_margin(self, margin: f64) -> Result<Self, ConfigError> {
        let LossConfig { loss, transforms } = self.config;
        match loss.with_target_margin(margin) {
            Some(loss) => Self::new(LossConfig { loss, transforms }),
            None => Err(ConfigError::NoMargin { kind: loss.kind(), given: margin }),
        }
    }

    /// Whether completions must come with the reference model's log-probs.
    pub fn needs_reference(&self) -> bool {
        self.config.loss.needs_reference()
    }

    /// Whether [`Batch::mismatched`] must be given.
    pub fn needs_mismatched(&self) -> bool {
        self.config.loss.needs_mismatched()
    }

    /// Whether all ℓ of a step must be known before any weight is: a winsor scope wider than the micro-batch. If not,
    /// micro-batches can be evaluated one by one with [`Totals`].
    pub fn needs_whole_step(&self) -> bool {
        let transforms = &self.config.transforms;
        self.needs_mismatched() || transforms.winsorizes() && transforms.winsor_scope != WinsorScope::Microbatch
    }

    /// Whether all ℓ of a micro-batch must be known before any of its weights is: the winsor scope `microbatch`. If
    /// neither this nor [`needs_whole_step`](Self::needs_whole_step), pairs can be evaluated in any groups.
    pub fn needs_whole_microbatch(&self) -> bool {
        self.config.transforms.winsorizes() && self.config.transforms.winsor_scope == WinsorScope::Microbatch
    }

    /// Value, weights and statistics of one optimizer step. `state` is the memory of the winsor scope `window`: hand
    /// the same one to every step and keep it in checkpoints. Other scopes leave it alone, and so does an error.
    ///
    /// # Errors
    ///
    /// [`BatchError`] when a side is missing or empty, slices differ in length, a log-prob is not one, or the loss needs
    /// something that the batch does not have.
    pub fn evaluate(&self, batch: &Batch<'_>, state: &mut WinsorState) -> Result<Evaluation, BatchError> {
        self.check(batch)?;
        let loss = self.loss_at(batch);
        let rule = rule(&loss, batch)?;
        let bounds = winsorize::bounds(&self.config.transforms, batch, state);
        Ok(self.apply(batch, &bounds, loss.target_margin(), rule))
    }

    /// The first half of [`evaluate`](Self::evaluate): what the step is clipped at. A trainer that cannot hold a step in
    /// memory, under a scope that needs the whole of it, runs forward without gradients for this, then evaluates one
    /// micro-batch after the other with [`evaluate_within`](Self::evaluate_within) and [`Totals`].
    ///
    /// # Errors
    ///
    /// As for [`evaluate`](Self::evaluate).
    pub fn bounds(&self, batch: &Batch<'_>, state: &mut WinsorState) -> Result<Vec<Bounds>, BatchError> {
        self.check(batch)?;
        Ok(winsorize::bounds(&self.config.transforms, batch, state))
    }

    /// The second half: the objective as a function of ℓ alone, with its bounds held constant.
    ///
    /// # Errors
    ///
    /// As for [`evaluate`](Self::evaluate), and when `bounds` do not cover the pairs of the batch.
    pub fn evaluate_within(&self, batch: &Batch<'_>, bounds: &[Bounds]) -> Result<Evaluation, BatchError> {
        self.check(batch)?;
        let sum = bounds.iter().map(|bounds| bounds.pairs).sum();
        if sum != batch.pairs.len() {
            return Err(BatchError::Bounds { sum, pairs: batch.pairs.len() });
        }
        let loss = self.loss_at(batch);
        let rule = rule(&loss, batch)?;
        Ok(self.apply(batch, bounds, loss.target_margin(), rule))
    }

    fn check(&self, batch: &Batch<'_>) -> Result<(), BatchError> {
        let required: &[Side] = match &self.config.loss {
            Loss::Kto(_) => &[],
            Loss::Sft(_) => &[Side::Chosen],
            _ => &[Side::Chosen, Side::Rejected],
        };
        batch.check(required, self.needs_reference())
    }

    /// The loss at the batch's position in its schedules.
    fn loss_at(&self, batch: &Batch<'_>) -> Loss {
        let loss = &self.config.loss;
        batch.steps.map_or_else(|| loss.clone(), |steps| loss.at_step(batch.step, steps))
    }

    fn apply(&self, batch: &Batch<'_>, bounds: &[Bounds], margin: Option<f64>, rule: Rule<'_>) -> Evaluation {
        let transforms = &self.config.transforms;
        let totals = batch.totals.unwrap_or_else(|| Totals::of(batch.pairs));
        let mut step = Step::new(self, batch.step, totals, rule, margin);
        let mut rest = batch.pairs;
        for bounds in bounds {
            let (pairs, tail) = rest.split_at(bounds.pairs);
            rest = tail;
            step.observe_bounds(bounds);
            for pair in pairs {
                let read = |side| {
                    let completion: Completion<'_> = *pair.side(side)?;
                    Some(Reading::new(side, completion, transforms.of(side, &completion, bounds)))
                };
                step.add_pair(read(Side::Chosen), read(Side::Rejected));
            }
        }
        step.finish()
    }
}

fn rule<'a>(loss: &'a Loss, batch: &Batch<'_>) -> Result<Rule<'a>, BatchError> {
    Ok(match (loss.pair_loss(), loss) {
        (Some(loss), _) => Rule::Compare { loss },
        (None, Loss::Kto(config)) => Rule::Judge { loss: config, baseline: config.baseline(batch)? },
        (None, _) => Rule::Nothing,
    })
}
