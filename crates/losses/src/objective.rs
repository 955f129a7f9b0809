//! An objective: a validated configuration, evaluated on one optimizer step after the other.

use crate::accumulator::Accumulator;
use crate::batch::{Batch, Completion, Needs, Side};
use crate::config::LossConfig;
use crate::divergence::Distance;
use crate::entropy::TokenEntropy;
use crate::error::{BatchError, ConfigError};
use crate::evaluation::Evaluation;
use crate::function::Pairing;
use crate::groups::Members;
use crate::pooled;
use crate::scored::ScoredCompletion;
use crate::state::LossState;
use crate::transform::winsorize;
use crate::transform::{Bounds, Transforms, WinsorScope};

/// A loss with its transforms and schedules, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    config: LossConfig,
}

impl Objective {
    /// Validates the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the field, its range and the value given.
    pub fn new(config: LossConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { config })
    }

    /// Its configuration.
    pub fn config(&self) -> &LossConfig {
        &self.config
    }

    /// The same objective with the constant margin `margin`, in the unit of the loss's own.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a loss without a margin, and for a margin out of its range.
    pub fn with_target_margin(self, margin: f64) -> Result<Self, ConfigError> {
        let LossConfig { loss, transforms, mut schedules } = self.config;
        schedules.retain(|key, _| key != loss.margin_key());
        match loss.with_target_margin(margin) {
            Some(loss) => Self::new(LossConfig { loss, transforms, schedules }),
            None => Err(ConfigError::NoMargin { kind: loss.kind(), given: margin }),
        }
    }

    /// True if completions must come with the reference model's log-probs.
    pub fn needs_reference(&self) -> bool {
        self.config.loss.needs_reference()
    }

    /// The entropy that completions must come with; `None` for a function of log-probs alone.
    pub fn needs_entropy(&self) -> Option<TokenEntropy> {
        self.config.loss.needs_entropy()
    }

    /// True if [`Batch::mismatched`] must be given.
    pub fn needs_mismatched(&self) -> bool {
        self.config.loss.needs_mismatched()
    }

    /// True if all ℓ of a step must be known before any weight is: a winsor scope wider than the micro-batch, or a loss that
    /// compares pairs with each other. If not, micro-batches can be evaluated one by one with [`Totals`](crate::Totals).
    pub fn needs_whole_step(&self) -> bool {
        let transforms = &self.config.transforms;
        self.needs_mismatched()
            || self.config.loss.compares_pairs()
            || transforms.winsorizes() && transforms.winsor_scope != WinsorScope::Microbatch
    }

    /// True if all ℓ of a micro-batch must be known before any of its weights is: the winsor scope `microbatch`. If
    /// neither this nor [`needs_whole_step`](Self::needs_whole_step), pairs can be evaluated in any groups.
    pub fn needs_whole_microbatch(&self) -> bool {
        self.config.transforms.winsorizes() && self.config.transforms.winsor_scope == WinsorScope::Microbatch
    }

    /// Value, weights and statistics of one optimizer step. `state` holds the tokens of the winsor scope `window` and
    /// what a loss follows over steps: pass the same one to every step and save it in checkpoints. Other objectives do not
    /// change it, nor does an error.
    ///
    /// # Errors
    ///
    /// [`BatchError`] when a side is missing or empty, slices differ in length, a log-prob is positive or not finite, or
    /// the batch lacks reference log-probs or mismatched completions that the loss needs.
    pub fn evaluate(&self, batch: &Batch<'_>, state: &mut LossState) -> Result<Evaluation, BatchError> {
        let config = self.config_at(batch);
        if let Some(loss) = config.loss.pooled() {
            return pooled::evaluate(loss, batch);
        }
        self.check(batch)?;
        if let Pairing::Groupwise(loss) = config.loss.pairing() {
            let members = Members::new(loss, batch);
            let (rows, terms) = members.batch(batch);
            let sums = Accumulator::new(&config, &rows)?.with_members(terms);
            let bounds = winsorize::bounds(&config.transforms, &rows, state);
            return Ok(members.gather(apply(&config.transforms, sums, &rows, &bounds, state)));
        }
        let sums = Accumulator::new(&config, batch)?;
        let bounds = winsorize::bounds(&config.transforms, batch, state);
        Ok(apply(&config.transforms, sums, batch, &bounds, state))
    }

    /// The first half of [`evaluate`](Self::evaluate): the bounds that the step is clipped at. A trainer that cannot hold
    /// a step in memory, under a scope that needs the whole of it, runs a forward pass without gradients for this, then
    /// evaluates one micro-batch after the other with [`evaluate_within`](Self::evaluate_within) and
    /// [`Totals`](crate::Totals).
    ///
    /// # Errors
    ///
    /// As for [`evaluate`](Self::evaluate).
    pub fn bounds(&self, batch: &Batch<'_>, state: &mut LossState) -> Result<Vec<Bounds>, BatchError> {
        self.check(batch)?;
        let config = self.config_at(batch);
        if let Pairing::Groupwise(loss) = config.loss.pairing() {
            let members = Members::new(loss, batch);
            let bounds = winsorize::bounds(&config.transforms, &members.batch(batch).0, state);
            return Ok(members.bounds_of_groups(bounds, batch.microbatches));
        }
        Ok(winsorize::bounds(&config.transforms, batch, state))
    }

    /// The second half: the objective as a function of ℓ alone, with its bounds held constant. A loss that compares pairs
    /// with each other compares those of `batch`, and one that follows a statistic over steps begins with them.
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
        let config = self.config_at(batch);
        let mut state = LossState::default();
        if let Pairing::Groupwise(loss) = config.loss.pairing() {
            let members = Members::new(loss, batch);
            let (rows, terms) = members.batch(batch);
            let sums = Accumulator::new(&config, &rows)?.with_members(terms);
            let bounds = members.bounds_of_rows(bounds);
            return Ok(members.gather(apply(&config.transforms, sums, &rows, &bounds, &mut state)));
        }
        let sums = Accumulator::new(&config, batch)?;
        Ok(apply(&config.transforms, sums, batch, bounds, &mut state))
    }

    fn check(&self, batch: &Batch<'_>) -> Result<(), BatchError> {
        let pairing = self.config.loss.pairing();
        let groups = matches!(pairing, Pairing::Groupwise(_));
        let needs = Needs { reference: self.needs_reference(), entropy: self.needs_entropy(), groups };
        batch.check(pairing.required_sides(), needs)
    }

    /// The divergence from a teacher with its weight at a position in the schedules, of a loss that has one.
    pub fn distance(&self, step: u64, steps: Option<u64>) -> Option<(Distance, f64)> {
        self.config.loss.distance()?;
        self.at_step(step, steps).loss.distance()
    }

    fn config_at(&self, batch: &Batch<'_>) -> LossConfig {
        self.at_step(batch.step, batch.steps)
    }

    /// The configuration at a position in its schedules; at their ends where that is not known.
    fn at_step(&self, step: u64, steps: Option<u64>) -> LossConfig {
        let at_step = steps.and_then(|steps| self.config.at_step(step, steps).ok());
        at_step.unwrap_or_else(|| self.config.clone())
    }
}

fn apply<'a>(
    transforms: &Transforms,
    mut sums: Accumulator<'a>,
    batch: &Batch<'a>,
    bounds: &[Bounds],
    state: &mut LossState,
) -> Evaluation {
    let mut rest = batch.pairs;
    for bounds in bounds {
        let (pairs, tail) = rest.split_at(bounds.pairs);
        rest = tail;
        sums.observe_bounds(bounds);
        for pair in pairs {
            let scored = |side| {
                let completion: Completion<'a> = *pair.side(side)?;
                let transform = transforms.of(side, &completion, bounds);
                Some(ScoredCompletion::new(side, completion, transform))
            };
            sums.add_pair(scored(Side::Chosen), scored(Side::Rejected));
        }
    }
    sums.finish(state)
}
