//! Log-probs of rows: from a model to an objective's batch.

use smpo_data::{Row, ScoredCompletion, TokenizedCompletion};
use smpo_kernels::RowEntropy;
use smpo_losses::{Completion, Member, Pair, PooledRow, TokenEntropy};
use smpo_model::{Decoder, DecoderSpec, PackedBatch, ScoreOptions, Scored};

use crate::dealing::{PackScores, members_of};
use crate::error::TrainError;
use crate::packing::packs;
use crate::pooling::Pooling;
use crate::ranks::Ranks;

/// A row with its log-probs under the reference model, where the objective needs them.
#[derive(Debug, Clone, Copy)]
pub struct StepRow<'a> {
    /// Token ids.
    pub row: &'a Row,
    /// Log-probs under the reference model.
    pub reference: Option<&'a RowLogps>,
    /// A row with another prompt, for KTO's baseline where all rows of a step share theirs.
    pub other: Option<&'a Row>,
}

impl StepRow<'_> {
    /// The row as a loss of whole sequences reads it, given what a head of labels gave its sequences.
    pub(crate) fn pooled<'a>(&'a self, values: &'a RowLogps) -> PooledRow<'a> {
        PooledRow {
            chosen: values.chosen.as_deref().unwrap_or_default(),
            rejected: values.rejected.as_deref(),
            margin: self.row.margin.unwrap_or(0.0),
            labels: &self.row.labels,
        }
    }

    /// The completions of a group as the objective reads them, given the row's log-probs under the policy; none for a pair.
    pub(crate) fn members<'a>(&'a self, logps: &'a RowLogps) -> Vec<Member<'a>> {
        let reference = |at: usize| self.reference.and_then(|logps| logps.group.get(at)).map(Vec::as_slice);
        let member = |(at, (scored, logps)): (usize, (&'a ScoredCompletion, &'a Vec<f64>))| {
            let is_terminator = scored.completion.is_terminator();
            let completion = Completion { logps, is_terminator, ref_logps: reference(at), entropy: None };
            Member { completion, reward: scored.reward }
        };
        self.row.group.iter().zip(&logps.group).enumerate().map(member).collect()
    }

    /// The row as the objective reads it, given its log-probs under the policy and its [`members`](Self::members).
    pub(crate) fn pair<'a>(&'a self, logps: &'a RowLogps, group: &'a [Member<'a>]) -> Pair<'a> {
        fn side<'a>(
            completion: &'a Option<TokenizedCompletion>,
            logps: &'a Option<Vec<f64>>,
            reference: Option<&'a Vec<f64>>,
            entropy: &'a Option<Vec<f64>>,
        ) -> Option<Completion<'a>> {
            let (completion, logps) = (completion.as_ref()?, logps.as_ref()?);
            let ref_logps = reference.map(Vec::as_slice);
            Some(Completion {
                logps,
                is_terminator: completion.is_terminator(),
                ref_logps,
                entropy: entropy.as_deref(),
            })
        }
        let of_reference =
            |side: fn(&RowLogps) -> &Option<Vec<f64>>| self.reference.and_then(|logps| side(logps).as_ref());
        Pair {
            chosen: side(&self.row.chosen, &logps.chosen, of_reference(|logps| &logps.chosen), &logps.chosen_entropy),
            rejected: side(
                &self.row.rejected,
                &logps.rejected,
                of_reference(|logps| &logps.rejected),
                &logps.rejected_entropy,
            ),
            group,
        }
    }
}

/// Log-probs of the scored tokens of a row's completions, in nats, `[T]` each; of a model with a head of labels the values
/// that it gives each sequence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowLogps {
    /// Log-probs of the chosen side.
    pub chosen: Option<Vec<f64>>,
    /// Log-probs of the rejected side.
    pub rejected: Option<Vec<f64>>,
    /// Entropies at the tokens of the chosen side, where they were asked for.
    pub chosen_entropy: Option<Vec<f64>>,
    /// The same for the rejected side.
    pub rejected_entropy: Option<Vec<f64>>,
    /// Log-probs of the completions of a group.
    pub group: Vec<Vec<f64>>,
}

impl RowLogps {
    /// Appends all numbers, each list after its length.
    pub(crate) fn write(&self, numbers: &mut Vec<f64>) {
        let mut list = |list: Option<&Vec<f64>>| match list {
            None => numbers.push(-1.0),
            Some(list) => {
                numbers.push(list.len() as f64);
                numbers.extend(list);
            }
        };
        for side in [&self.chosen, &self.rejected, &self.chosen_entropy, &self.rejected_entropy] {
            list(side.as_ref());
        }
        self.group.iter().for_each(|member| list(Some(member)));
        list(None);
    }

    /// Reads what [`RowLogps::write`] wrote.
    pub(crate) fn read(numbers: &mut impl Iterator<Item = f64>) -> Self {
        let mut list = || {
            let length = numbers.next().filter(|length| *length >= 0.0)?;
            Some(numbers.take(length as usize).collect())
        };
        let (chosen, rejected, chosen_entropy, rejected_entropy) = (list(), list(), list(), list());
        Self { chosen, rejected, chosen_entropy, rejected_entropy, group: std::iter::from_fn(list).collect() }
    }
}

/// Log-probs of rows under a model, without a graph: for the reference of DPO and KTO, and for held-out evaluation. A
/// forward pass has at most `max_tokens` tokens, or those of the longest row.
///
/// # Errors
/// If the model refuses a row.
pub fn row_logps(decoder: &Decoder, rows: &[Row], max_tokens: usize) -> Result<Vec<RowLogps>, TrainError> {
    row_logps_with_entropy(decoder, rows, max_tokens, None)
}

/// As [`row_logps`], with an entropy of the model at each token.
///
/// # Errors
/// If the model refuses a row.
pub fn row_logps_with_entropy(
    decoder: &Decoder,
    rows: &[Row],
    max_tokens: usize,
    entropy: Option<TokenEntropy>,
) -> Result<Vec<RowLogps>, TrainError> {
    let scorer = Scorer { entropy, ..Scorer::new(max_tokens, &Ranks::default()) };
    scorer.score(decoder, &rows.iter().collect::<Vec<_>>())
}

/// Forward passes over rows, dealt to ranks.
#[derive(Debug, Clone)]
pub(crate) struct Scorer<'a> {
    /// Maximum tokens of a pack.
    pub max_tokens: usize,
    /// Entropy to take at each token.
    pub entropy: Option<TokenEntropy>,
    /// Sequences that a head of labels reads.
    pub pooling: Option<&'a Pooling>,
    /// All of them call [`Scorer::score`] with the same rows.
    pub ranks: Ranks,
}

impl Scorer<'_> {
    pub(crate) fn new(max_tokens: usize, ranks: &Ranks) -> Self {
        Self { max_tokens, entropy: None, pooling: None, ranks: ranks.clone() }
    }

    /// Log-probs of rows.
    ///
    /// # Errors
    /// If the model refuses a row, on this or another rank.
    pub(crate) fn score(&self, decoder: &Decoder, rows: &[&Row]) -> Result<Vec<RowLogps>, TrainError> {
        let decoder = decoder.frozen();
        let options = ScoreOptions { entropy: row_entropy(self.entropy), ..ScoreOptions::default() };
        let tokens: Vec<usize> = rows.iter().map(|row| packed_tokens(row, self.pooling)).collect();
        let packs = packs(&tokens, self.ranks.pack_bound(&tokens, self.max_tokens));
        let (logps, _) = self.ranks.score_packs(&packs, &tokens, |members| {
            let chosen = members_of(rows, members);
            let packed = pack(&chosen, self.pooling, decoder.spec())?;
            let rows = row_logps_of(&chosen, &packed, &decoder.score(&packed, &options)?)?;
            Ok(PackScores { rows, ..PackScores::default() })
        })?;
        Ok(logps)
    }
}

/// Tokens of a row in a pack.
pub(crate) fn packed_tokens(row: &Row, pooling: Option<&Pooling>) -> usize {
    pooling.map_or_else(|| row.packed_tokens(), |pooling| pooling.packed_tokens(row))
}

/// Lays rows side by side for a model, each prompt once.
pub(crate) fn pack(rows: &[&Row], pooling: Option<&Pooling>, spec: &DecoderSpec) -> Result<PackedBatch, TrainError> {
    if let Some(pooling) = pooling {
        return pooling.pack(rows, spec);
    }
    let mut builder = PackedBatch::builder().turning_at(spec.turns_at());
    for row in rows {
        let completions: Vec<_> = row.completions().map(|side| (side.ids(), side.scored())).collect();
        builder.push_scored(&row.prompt, &completions)?;
    }
    Ok(builder.build()?)
}

/// The number of the head that is a loss's entropy.
pub(crate) fn row_entropy(entropy: Option<TokenEntropy>) -> Option<RowEntropy> {
    entropy.map(|entropy| match entropy {
        TokenEntropy::Collision => RowEntropy::Collision,
        TokenEntropy::Top => RowEntropy::Top,
    })
}

/// The values of a batch that [`pack`] made, log-probs or those of a head of labels, and its entropies if there are any, row
/// by row.
pub(crate) fn row_logps_of(
    rows: &[&Row],
    packed: &PackedBatch,
    scored: &Scored<'_>,
) -> Result<Vec<RowLogps>, TrainError> {
    Ok(split(rows, packed, &to_f64(&scored.values()?), scored.entropies()))
}

/// Numbers of the scored tokens of a batch that [`pack`] made, or of its sequences, row by row.
pub(crate) fn split(rows: &[&Row], packed: &PackedBatch, logps: &[f64], entropies: &[f32]) -> Vec<RowLogps> {
    // Of a head of labels one for each label.
    let each = logps.len() / packed.rows().len().max(1);
    let mut ranges = packed.completions().iter().map(|rows| rows.start * each..rows.end * each);
    let mut next = |_: &TokenizedCompletion| {
        let range = ranges.next()?;
        Some((logps[range.clone()].to_vec(), entropies.get(range).map(to_f64)))
    };
    let mut row = |row: &&Row| {
        let (chosen, chosen_entropy) = row.chosen.as_ref().and_then(&mut next).unzip();
        let (rejected, rejected_entropy) = row.rejected.as_ref().and_then(&mut next).unzip();
        let (chosen_entropy, rejected_entropy) = (chosen_entropy.flatten(), rejected_entropy.flatten());
        let group = row.group.iter().filter_map(|scored| next(&scored.completion)).map(|(logps, _)| logps).collect();
        RowLogps { chosen, rejected, chosen_entropy, rejected_entropy, group }
    };
    rows.iter().map(&mut row).collect()
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}
