//! Model FLOPs of a training step.
//!
//! A multiply-add counts as two. Only matrix products and attention count: norms, rotations,
//! activations, softmax, DoRA's
//! row norms and the optimizer are a few per cent of a model of practical size. For `n` rows through a layer of `K`
//! inputs and `O` outputs, each of these is 2·n·K·O: its product, the gradient of its input (where
//! something before it is trained), the gradient of its weight (where it is trained). Attention of `h` heads of width
//! `d` over `P` visible query–key pairs is 4·P·h·d forward and, where something before it is trained, 8·P·h·d
//! backward. A gated delta net of `h` value heads has 6·n·h·K·V in the place of that, and twice as much backward, beside its
//! convolution. The head runs on the `M` rows that predict a completion token, and so does what follows the last block's
//! attention. Of routed experts each counts with the share k/E of the rows that it has on average.
//!
//! Recomputation is not counted: neither activation checkpointing nor the head's second pass. So this is the numerator of the model FLOPs utilisation (Chowdhery et al. 2022, arXiv 2204.02311, appendix B), for this
//! layout: a prompt shared by two completions is counted once, and frozen weights have no gradient.

use smpo_kernels::Segments;

use crate::batch::PackedBatch;
use crate::decoder::Decoder;
use crate::delta_net::DeltaNet;
use crate::feed_forward::{FeedForwardLayer, Gated};
use crate::linear::Linear;
use crate::parameter::Parameter;
use crate::spec::DeltaSpec;

/// FLOPs of one pack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flops {
    /// Forward pass.
    pub forward: u64,
    /// Backward pass.
    pub backward: u64,
}

impl Flops {
    /// Forward and backward pass.
    pub fn total(&self) -> u64 {
        self.forward + self.backward
    }

    fn add(&mut self, other: Self) {
        self.forward += other.forward;
        self.backward += other.backward;
    }

    /// `part` of `whole` equal parts.
    fn share(self, part: usize, whole: usize) -> Self {
        let of = |flops: u64| (u128::from(flops) * part as u128 / whole.max(1) as u128) as u64;
        Self { forward: of(self.forward), backward: of(self.backward) }
    }

    /// Adds a product of `rows` rows with an `inputs` × `outputs` matrix.
    fn product(&mut self, rows: usize, [inputs, outputs]: [usize; 2], input_gradient: bool, weight_gradient: bool) {
        let once = 2 * rows as u64 * inputs as u64 * outputs as u64;
        self.forward += once;
        self.backward += once * (u64::from(input_gradient) + u64::from(weight_gradient));
    }
}

impl std::iter::Sum for Flops {
    fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
        each.fold(Self::default(), |mut sum, one| {
            sum.add(one);
            sum
        })
    }
}

impl Decoder {
    /// FLOPs of training on a pack, with the parameters and adapters that are trainable now.
    pub fn flops(&self, batch: &PackedBatch) -> Flops {
        let spec = self.spec();
        let mut flops = Flops::default();
        // True if something before the layer is trained.
        let mut upstream = self.embedding_is_trained();
        for (block, layer) in self.blocks.iter().zip(&spec.layers) {
            let last = std::ptr::eq(block, &self.blocks[self.blocks.len() - 1]);
            let before = block.heads_linears();
            upstream |= block.block_norms().before_attention.iter().any(is_trained);
            count(&mut flops, &before, batch.tokens(), upstream);
            upstream |= any_trained(&before) || block.norms_of_heads().any(is_trained);
            upstream |= block.delta().into_iter().flat_map(DeltaNet::vectors).any(is_trained);
            let mixing = match spec.delta_of(layer) {
                Some(delta) => delta_flops(delta) * batch.tokens() as u64,
                None => 4 * visible_pairs(batch.segments(), layer.window) * spec.query_width() as u64,
            };
            flops.forward += mixing;
            flops.backward += if upstream { 2 * mixing } else { 0 };
            upstream |= block.sinks().is_some_and(is_trained);
            let rows = if last { batch.rows().len() } else { batch.tokens() };
            let mut stage = |linears: &[&Linear]| {
                let mut flops = Flops::default();
                count(&mut flops, linears, rows, upstream);
                upstream |= any_trained(linears) || block.vectors().any(is_trained);
                flops
            };
            flops.add(stage(&[block.output()]));
            match block.feed_forward() {
                FeedForwardLayer::Gated(layer) => {
                    flops.add(stage(&layer.gate_up()));
                    flops.add(stage(&[&layer.down]));
                }
                FeedForwardLayer::Routed(experts) => {
                    flops.add(stage(&[experts.router()]));
                    let each = |linears: fn(&Gated) -> Vec<&Linear>| -> Vec<&Linear> {
                        experts.each().iter().flat_map(linears).collect()
                    };
                    let share = |all: Flops| all.share(experts.options().per_token, experts.each().len());
                    flops.add(share(stage(&each(Gated::gate_up))));
                    flops.add(share(stage(&each(|expert| vec![&expert.down]))));
                }
            }
        }
        upstream |= is_trained(&self.norm);
        count(&mut flops, &[&self.head], batch.rows().len(), upstream);
        flops
    }
}

/// FLOPs of a gated delta net between its projections, for one token: a state of K × V is read, changed and read again.
fn delta_flops(delta: &DeltaSpec) -> u64 {
    let DeltaSpec { heads, taps } = delta;
    let states = heads.value_heads * heads.key_dim * heads.value_dim;
    (6 * states + 2 * taps * heads.row_width()) as u64
}

/// Adds layers that share their input.
fn count(flops: &mut Flops, linears: &[&Linear], rows: usize, upstream: bool) {
    for linear in linears {
        let Ok((outputs, inputs)) = linear.weight.shape() else { continue };
        flops.product(rows, [inputs, outputs], upstream, linear.weight.is_trained());
        if let Some(adapter) = &linear.adapter {
            let rank = adapter.a.tensor.dims()[0];
            flops.product(rows, [inputs, rank], upstream, is_trained(&adapter.a));
            flops.product(rows, [rank, outputs], true, is_trained(&adapter.b));
        }
    }
}

fn is_trained(parameter: &Parameter) -> bool {
    parameter.tensor.is_variable()
}

fn any_trained(linears: &[&Linear]) -> bool {
    linears.iter().flat_map(|linear| linear.parameters()).any(is_trained)
}

/// Number of visible query–key pairs.
fn visible_pairs(segments: &Segments, window: Option<usize>) -> u64 {
    let window = window.unwrap_or(usize::MAX) as u64;
    let positions = segments.positions();
    let seen = |span: &smpo_kernels::Span| -> u64 {
        (span.start..span.end)
            .map(|query| {
                let own = (query - span.start + 1) as u64;
                let prefix = span.prefix.as_ref().map_or(0, |prefix| {
                    let at = u64::from(positions[query]);
                    prefix.clone().filter(|key| at - u64::from(positions[*key]) < window).count() as u64
                });
                own.min(window) + prefix
            })
            .sum()
    };
    segments.spans().iter().map(seen).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;
    use crate::lora::LoraConfig;

    /// `H` 8, two heads of width 4 with one key head, feed-forward 16, two blocks, `V` 32.
    fn decoder(tied: bool) -> Decoder {
        let config = json!({
            "model_type": "qwen2", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 32, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": tied,
        });
        Decoder::init(&Config::from_json(config).unwrap(), 0).unwrap()
    }

    /// Prompt of 3, completions of 3 and 2: 3 + 2 + 1 = 6 tokens in, 5 rows out.
    fn batch() -> PackedBatch {
        PackedBatch::from_pairs([(&[1, 2, 3][..], &[4, 5, 6][..], &[7, 8][..])]).unwrap()
    }

    // q 8×8, k and v 8×4: 128 numbers; o 8×8: 64; gate, up, down 8×16: 384.
    const QKV: u64 = 128;
    const REST: u64 = 64 + 384;
    const HEAD: u64 = 8 * 32;
    const ROWS: u64 = 5;
    // The prompt 1 + 2 + 3; the longer completion's two tokens 3 + 1 and 3 + 2; the other's one 3 + 1.
    const PAIRS: u64 = 6 + 9 + 4;
    const ATTENTION: u64 = 4 * PAIRS * 8;

    #[test]
    fn full_training_counted_by_hand() {
        let flops = decoder(true).flops(&batch());
        // The first block on 6 rows throughout; the last on 6 before its attention and 5 after.
        let linear = 2 * (6 * (QKV + REST) + 6 * QKV + ROWS * REST);
        let head = 2 * ROWS * HEAD;
        assert_eq!(flops.forward, linear + 2 * ATTENTION + head);
        // Everything is trained, from the embedding on: both gradients of every product.
        assert_eq!(flops.backward, 2 * linear + 4 * ATTENTION + 2 * head);
        assert_eq!(flops.total(), flops.forward + flops.backward);
    }

    #[test]
    fn adapters_counted_by_hand() {
        let mut decoder = decoder(false);
        let lora = LoraConfig { r: 2, alpha: 4.0, targets: vec!["all-linear".into()], ..LoraConfig::default() };
        decoder.add_lora(&lora, 0).unwrap();
        let flops = decoder.flops(&batch());
        // r · (K + O) of each adapted layer: q 32, k and v 24 each; o 32; gate, up, down 48 each.
        let (low_qkv, low_rest) = (32 + 2 * 24, 32 + 3 * 48);
        let base = 2 * (6 * (QKV + REST) + 6 * QKV + ROWS * REST);
        let low = 2 * (6 * (low_qkv + low_rest) + 6 * low_qkv + ROWS * low_rest);
        let head = 2 * ROWS * HEAD;
        assert_eq!(flops.forward, base + low + 2 * ATTENTION + head);
        // Frozen matrices propagate gradients and have none; nothing is trained before the first block's projections,
        // so neither they nor their A need the gradient of their input (A of q, k and v: 2 · 8 each).
        let first = 2 * 6 * (QKV + 3 * 16);
        assert_eq!(flops.backward, base + 2 * low - first + 4 * ATTENTION + head);
    }

    #[test]
    fn a_window_hides_pairs() {
        let segments = batch().segments().clone();
        assert_eq!(visible_pairs(&segments, None), PAIRS);
        // Each query sees itself and the token before it, but for the first of all.
        assert_eq!(visible_pairs(&segments, Some(2)), 1 + 2 + 2 + 2 + 2 + 2);
        assert_eq!(visible_pairs(&segments, Some(1)), 6);
    }
}
