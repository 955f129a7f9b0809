//! The input of an objective: the log-probs of one optimizer step.

use std::fmt;

use crate::entropy::TokenEntropy;
use crate::error::BatchError;
use crate::pooled::PooledRow;

/// Largest log-prob that is accepted, in nats: float32 rounding of a log-softmax.
pub const ROUNDING_ABOVE_ZERO: f64 = 1e-4;

/// One side of a preference pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// y+, the preferred completion.
    Chosen,
    /// y−, the other one.
    Rejected,
}

impl Side {
    /// The side of a group's completion: rejected below the advantage 0, else chosen.
    pub fn of_advantage(advantage: f64) -> Self {
        if advantage < 0.0 { Self::Rejected } else { Self::Chosen }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Chosen => "chosen",
            Side::Rejected => "rejected",
        })
    }
}

/// One completion under the policy, and under the reference if the loss needs one. All slices have length `T`, the
/// number of completion tokens, terminator included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Completion<'a> {
    /// ℓ_t, in nats, at most 0 (and [`ROUNDING_ABOVE_ZERO`]).
    pub logps: &'a [f64],
    /// True where token t ends a turn (EOS).
    pub is_terminator: &'a [bool],
    /// The reference model's ℓ_t for the same tokens, in nats.
    pub ref_logps: Option<&'a [f64]>,
    /// The policy's [`TokenEntropy`] at each token, for the losses that need one, in nats.
    pub entropy: Option<&'a [f64]>,
}

impl<'a> Completion<'a> {
    /// A completion without a reference.
    pub fn new(logps: &'a [f64], is_terminator: &'a [bool]) -> Self {
        Self { logps, is_terminator, ref_logps: None, entropy: None }
    }

    /// The same completion with the reference model's log-probs.
    pub fn with_reference(self, ref_logps: &'a [f64]) -> Self {
        Self { ref_logps: Some(ref_logps), ..self }
    }

    /// The same completion with the policy's entropies.
    pub fn with_entropy(self, entropy: &'a [f64]) -> Self {
        Self { entropy: Some(entropy), ..self }
    }
}

/// One completion of a group, with its reward.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member<'a> {
    /// The completion.
    pub completion: Completion<'a>,
    /// Its reward, in any unit: finite.
    pub reward: f64,
}

/// A preference pair, or a group of scored completions of one prompt. Unpaired examples (SFT, KTO) leave one side out.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pair<'a> {
    /// y+.
    pub chosen: Option<Completion<'a>>,
    /// y−.
    pub rejected: Option<Completion<'a>>,
    /// The completions of a group; empty for a pair. A loss of groups reads a pair as a group of two, with rewards 1 and 0.
    pub group: &'a [Member<'a>],
}

impl<'a> Pair<'a> {
    /// Both sides.
    pub fn new(chosen: Completion<'a>, rejected: Completion<'a>) -> Self {
        Self { chosen: Some(chosen), rejected: Some(rejected), group: &[] }
    }

    /// A group.
    pub fn of_group(group: &'a [Member<'a>]) -> Self {
        Self { group, ..Self::default() }
    }

    /// The completion of one side.
    pub fn side(&self, side: Side) -> Option<&Completion<'a>> {
        match side {
            Side::Chosen => self.chosen.as_ref(),
            Side::Rejected => self.rejected.as_ref(),
        }
    }
}

/// The input of one optimizer step. Start from [`Batch::new`] and set the other fields as needed:
///
/// ```
/// # use smpo_losses::Batch;
/// let batch = Batch { microbatches: &[2, 2], step: 17, steps: Some(200), ..Batch::new(&[]) };
/// # assert_eq!(batch.step, 17);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch<'a> {
    /// All pairs of the step, in the order in which the model saw them.
    pub pairs: &'a [Pair<'a>],
    /// Number of pairs of each micro-batch, in order; empty means one micro-batch. Used by the winsor scope
    /// `microbatch` alone: every other result is independent of the split.
    pub microbatches: &'a [usize],
    /// The optimizer step, from 0: the position in the objective's schedules; SamPO also draws fresh tokens by it.
    pub step: u64,
    /// Optimizer steps of the whole run; `None` evaluates every schedule at its end.
    pub steps: Option<u64>,
    /// The values that a head gives the sequences of each row, for losses of whole sequences, in place of `pairs`.
    pub pooled: &'a [PooledRow<'a>],
    /// Completions of other prompts, under policy and reference, for KTO's KL baseline. They get no gradient.
    pub mismatched: &'a [Completion<'a>],
    /// Totals of the whole step, when `pairs` is only a part of it.
    pub totals: Option<Totals>,
}

impl<'a> Batch<'a> {
    /// One micro-batch that is the whole step.
    pub fn new(pairs: &'a [Pair<'a>]) -> Self {
        Self { pairs, ..Self::default() }
    }

    /// Checks shapes, sides and numbers.
    pub(crate) fn check(&self, required: &[Side], needs: Needs) -> Result<(), BatchError> {
        if self.pairs.is_empty() {
            return Err(BatchError::Empty);
        }
        let split: usize = self.microbatches.iter().sum();
        if !self.microbatches.is_empty() && split != self.pairs.len() {
            return Err(BatchError::Microbatches { sum: split, pairs: self.pairs.len() });
        }
        for (index, pair) in self.pairs.iter().enumerate() {
            let has_group = needs.groups && !pair.group.is_empty();
            if pair.chosen.is_none() && pair.rejected.is_none() && !has_group {
                return Err(BatchError::EmptySide { pair: index, side: Side::Chosen });
            }
            for side in [Side::Chosen, Side::Rejected] {
                match pair.side(side) {
                    Some(completion) => check_completion(completion, index, side, needs)?,
                    None if required.contains(&side) => return Err(BatchError::EmptySide { pair: index, side }),
                    None => {}
                }
            }
            for (member, Member { completion, reward }) in pair.group.iter().enumerate() {
                let in_group = |source| BatchError::Member { member, source: Box::new(source) };
                check_completion(completion, index, Side::Chosen, needs).map_err(in_group)?;
                if !reward.is_finite() {
                    return Err(BatchError::Reward { pair: index, member, given: *reward });
                }
            }
        }
        // they give a baseline, and no factor
        let of_mismatched = Needs { entropy: None, ..needs };
        for (index, completion) in self.mismatched.iter().enumerate() {
            check_completion(completion, index, Side::Chosen, of_mismatched)
                .map_err(|source| BatchError::Mismatched { source: Box::new(source) })?;
        }
        Ok(())
    }
}

/// Numbers that completions must come with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    pub(crate) reference: bool,
    pub(crate) entropy: Option<TokenEntropy>,
    /// True if a row may be a group.
    pub(crate) groups: bool,
}

fn check_completion(completion: &Completion<'_>, pair: usize, side: Side, needs: Needs) -> Result<(), BatchError> {
    let tokens = completion.logps.len();
    if tokens == 0 {
        return Err(BatchError::EmptySide { pair, side });
    }
    if completion.is_terminator.len() != tokens {
        return Err(BatchError::Length {
            pair,
            side,
            field: "is_terminator",
            expected: tokens,
            got: completion.is_terminator.len(),
        });
    }
    check_logps(completion.logps, pair, side, "logps")?;
    match completion.ref_logps {
        Some(reference) if reference.len() != tokens => {
            return Err(BatchError::Length { pair, side, field: "ref_logps", expected: tokens, got: reference.len() });
        }
        Some(reference) => check_logps(reference, pair, side, "ref_logps")?,
        None if needs.reference => return Err(BatchError::NoReference { pair, side }),
        None => {}
    }
    let Some(needed) = needs.entropy else { return Ok(()) };
    let field = needed.name();
    match completion.entropy {
        Some(entropy) if entropy.len() != tokens => {
            Err(BatchError::Length { pair, side, field, expected: tokens, got: entropy.len() })
        }
        Some(entropy) => {
            match entropy.iter().position(|entropy| !(*entropy >= -ROUNDING_ABOVE_ZERO && entropy.is_finite())) {
                Some(token) => Err(BatchError::Entropy { pair, side, field, token, given: entropy[token] }),
                None => Ok(()),
            }
        }
        None => Err(BatchError::NoEntropy { pair, side, field }),
    }
}

fn check_logps(logps: &[f64], pair: usize, side: Side, field: &'static str) -> Result<(), BatchError> {
    // A NaN fails both comparisons.
    let admissible = |logp: &f64| *logp <= ROUNDING_ABOVE_ZERO && *logp >= f64::MIN;
    // Counting instead of searching lets the compiler use vector instructions on the path that is always taken.
    if logps.iter().map(|logp| usize::from(admissible(logp))).sum::<usize>() == logps.len() {
        return Ok(());
    }
    let token = logps.iter().position(|logp| !admissible(logp)).unwrap_or_default();
    Err(BatchError::LogProb { pair, side, field, token, given: logps[token] })
}

/// Numbers of pairs, completions and tokens in a whole optimizer step: the denominators of its means.
///
/// A trainer that cannot hold all micro-batches of a step in memory evaluates them one by one, each with the totals of the
/// step; values and weights of the parts then add up to exactly those of the whole. This works for every objective
/// whose [`needs_whole_step`](crate::Objective::needs_whole_step) is false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Pairs (or unpaired examples).
    pub pairs: usize,
    /// Chosen completions.
    pub chosen: usize,
    /// Rejected completions.
    pub rejected: usize,
    /// Tokens of all chosen completions.
    pub chosen_tokens: usize,
    /// Tokens of all rejected completions.
    pub rejected_tokens: usize,
    /// Completions of groups.
    pub grouped: usize,
    /// Tokens of all completions of groups.
    pub grouped_tokens: usize,
}

impl Totals {
    /// Totals of `pairs`.
    pub fn of(pairs: &[Pair<'_>]) -> Self {
        let tokens = |completion: &Completion<'_>| completion.logps.len();
        let sides = pairs.iter().map(|pair| (pair.chosen.as_ref().map(tokens), pair.rejected.as_ref().map(tokens)));
        let grouped = pairs.iter().flat_map(|pair| pair.group).map(|member| tokens(&member.completion));
        Self::of_lengths(sides).with_groups(grouped)
    }

    /// Totals of pairs given as completion lengths (chosen, rejected) in tokens; `None` for an absent side.
    pub fn of_lengths(pairs: impl IntoIterator<Item = (Option<usize>, Option<usize>)>) -> Self {
        let mut totals = Self::default();
        for (chosen, rejected) in pairs {
            totals.pairs += 1;
            if let Some(tokens) = chosen {
                totals.chosen += 1;
                totals.chosen_tokens += tokens;
            }
            if let Some(tokens) = rejected {
                totals.rejected += 1;
                totals.rejected_tokens += tokens;
            }
        }
        totals
    }

    /// The same with the completions of groups, given as lengths in tokens; each group is counted as a pair already.
    #[must_use]
    pub fn with_groups(mut self, lengths: impl IntoIterator<Item = usize>) -> Self {
        for tokens in lengths {
            self.grouped += 1;
            self.grouped_tokens += tokens;
        }
        self
    }

    /// Completions, whatever their side.
    pub(crate) fn completions(&self) -> usize {
        self.chosen + self.rejected + self.grouped
    }

    /// Tokens of all completions.
    pub(crate) fn tokens(&self) -> usize {
        self.chosen_tokens + self.rejected_tokens + self.grouped_tokens
    }
}
