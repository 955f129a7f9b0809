//! Groups: each completion on the side that its advantage gives it, as a row of its own, and the results back in groups.

use crate::batch::{Batch, Member, Pair, Side, Totals};
use crate::evaluation::{Evaluation, MemberEvaluation, PairEvaluation};
use crate::function::GroupLoss;
use crate::transform::Bounds;

/// Rewards of the sides of a pair that is read as a group.
const OF_PAIR: [(Side, f64); 2] = [(Side::Chosen, 1.0), (Side::Rejected, 0.0)];

/// The completions of a batch's groups, group by group.
pub(crate) struct Members<'a> {
    groups: &'a [Pair<'a>],
    /// Rows of one side.
    sides: Vec<Pair<'a>>,
    terms: Vec<MemberTerms>,
    /// Number of completions of each group.
    sizes: Vec<usize>,
    microbatches: Vec<usize>,
    totals: Totals,
}

/// A completion in its group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemberTerms {
    /// Its advantage.
    pub(crate) advantage: f64,
    /// Completions of its group.
    pub(crate) size: usize,
}

impl<'a> Members<'a> {
    pub(crate) fn new(loss: &dyn GroupLoss, batch: &Batch<'a>) -> Self {
        let mut members = Self {
            groups: batch.pairs,
            sides: Vec::with_capacity(2 * batch.pairs.len()),
            terms: Vec::with_capacity(2 * batch.pairs.len()),
            sizes: Vec::with_capacity(batch.pairs.len()),
            microbatches: Vec::new(),
            totals: batch.totals.unwrap_or_else(|| Totals::of(batch.pairs)),
        };
        batch.pairs.iter().for_each(|group| members.add(loss, group));
        members.microbatches = members.rows_of(batch.microbatches.iter().copied());
        members
    }

    fn add(&mut self, loss: &dyn GroupLoss, group: &Pair<'a>) {
        let of_pair = OF_PAIR.into_iter().filter_map(|(side, reward)| {
            let completion = *group.side(side)?;
            Some(Member { completion, reward })
        });
        let members: Vec<Member<'a>> = of_pair.chain(group.group.iter().copied()).collect();
        let rewards: Vec<f64> = members.iter().map(|member| member.reward).collect();
        self.sizes.push(members.len());
        for (member, advantage) in members.iter().zip(loss.advantages(&rewards)) {
            let completion = Some(member.completion);
            self.sides.push(match Side::of_advantage(advantage) {
                Side::Chosen => Pair { chosen: completion, ..Pair::default() },
                Side::Rejected => Pair { rejected: completion, ..Pair::default() },
            });
            self.terms.push(MemberTerms { advantage, size: members.len() });
        }
    }

    /// Numbers of rows in runs of some numbers of groups.
    fn rows_of(&self, runs: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut sizes = self.sizes.iter();
        runs.into_iter().map(|groups| sizes.by_ref().take(groups).sum()).collect()
    }

    /// The batch of rows of one side, with what each is in its group.
    pub(crate) fn batch(&self, batch: &Batch<'a>) -> (Batch<'_>, Vec<MemberTerms>) {
        let totals = Some(self.totals);
        let rows = Batch { pairs: &self.sides, microbatches: &self.microbatches, totals, ..*batch };
        (rows, self.terms.clone())
    }

    /// Bounds of runs of groups as those of rows.
    pub(crate) fn bounds_of_rows(&self, bounds: &[Bounds]) -> Vec<Bounds> {
        let rows = self.rows_of(bounds.iter().map(|bounds| bounds.pairs));
        bounds.iter().zip(rows).map(|(bounds, pairs)| Bounds { pairs, ..*bounds }).collect()
    }

    /// Bounds of rows as those of groups: of each micro-batch, or of the whole.
    pub(crate) fn bounds_of_groups(&self, bounds: Vec<Bounds>, microbatches: &[usize]) -> Vec<Bounds> {
        let whole = [self.groups.len()];
        let runs = if bounds.len() == microbatches.len() { microbatches } else { &whole };
        bounds.into_iter().zip(runs).map(|(bounds, pairs)| Bounds { pairs: *pairs, ..bounds }).collect()
    }

    /// The evaluation of the rows as that of the groups.
    pub(crate) fn gather(&self, of_rows: Evaluation) -> Evaluation {
        let mut rows = of_rows.pairs.into_iter().zip(&self.terms);
        let mut statistics = of_rows.statistics;
        let mut pairs = Vec::with_capacity(self.groups.len());
        for (group, size) in self.groups.iter().zip(&self.sizes) {
            let members: Vec<MemberEvaluation> =
                rows.by_ref().take(*size).map(|(row, terms)| member_of(row, terms.advantage)).collect();
            for member in &members {
                match member.side() {
                    Side::Chosen => statistics.chosen_reward.push(member.reward),
                    Side::Rejected => statistics.rejected_reward.push(member.reward),
                }
            }
            for (index, one) in members.iter().enumerate() {
                for other in members[..index].iter().filter(|other| other.advantage != one.advantage) {
                    let agree = one.reward.partial_cmp(&other.reward) == one.advantage.partial_cmp(&other.advantage);
                    statistics.accuracy.push(if agree { 1.0 } else { 0.0 });
                }
            }
            let rewards = group.group.iter().map(|member| member.reward);
            let count = group.group.len() as f64;
            if count > 0.0 {
                let mean = rewards.clone().map(|reward| reward / count).sum::<f64>();
                let variance = rewards.map(|reward| (reward - mean).powi(2) / count).sum::<f64>();
                statistics.group_reward.push(mean);
                statistics.group_deviation.push(variance.sqrt());
            }
            pairs.push(evaluation_of(group, members));
        }
        Evaluation { pairs, statistics, ..of_rows }
    }
}

/// A row of one side as a member of its group.
fn member_of(row: PairEvaluation, advantage: f64) -> MemberEvaluation {
    let (reward, weights) = match Side::of_advantage(advantage) {
        Side::Chosen => (row.chosen_reward, row.chosen_weights),
        Side::Rejected => (row.rejected_reward, row.rejected_weights),
    };
    MemberEvaluation { advantage, loss: row.po_loss, reward: reward.unwrap_or_default(), weights }
}

/// The members of a group where they came from: the sides of a pair, or the group.
fn evaluation_of(group: &Pair<'_>, members: Vec<MemberEvaluation>) -> PairEvaluation {
    let po_loss = members.iter().map(|member| member.loss).sum();
    let mut evaluation = PairEvaluation { po_loss, ..PairEvaluation::default() };
    let mut members = members.into_iter();
    if group.chosen.is_some()
        && let Some(member) = members.next()
    {
        (evaluation.chosen_reward, evaluation.chosen_weights) = (Some(member.reward), member.weights);
    }
    if group.rejected.is_some()
        && let Some(member) = members.next()
    {
        (evaluation.rejected_reward, evaluation.rejected_weights) = (Some(member.reward), member.weights);
    }
    evaluation.group = members.collect();
    evaluation
}
