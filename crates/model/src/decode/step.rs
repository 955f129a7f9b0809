//! One decoding step of many sequences: tokens in, each sequence's next logits out.

use rayon::prelude::*;
use smpo_kernels::decode::{
    DeltaState, KeyValueCache, add, centre, gate, normalise, route, sigmoid_gate, soft_cap, turn,
};
use smpo_kernels::{Gate, embedding};

use super::packed::{PackedBlock, PackedDecoder, PackedDelta, PackedFeedForward, PackedGated, Projection};
use crate::angles::turns;
use crate::error::{ModelError, Result};
use crate::rope::Frequencies;

/// Rows computed at once: bounds the memory for intermediate values of a long prompt.
const ROWS: usize = 256;

/// Queries times keys from which on attention is shared among threads.
const SHARED_ATTENTION: usize = 1 << 12;

/// Memory of the tokens of one sequence.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// Keys and values, by block; without room where the block has no attention.
    caches: Vec<KeyValueCache>,
    /// States of gated delta nets, by block.
    states: Vec<DeltaState>,
    frequencies: Vec<Frequencies>,
    tokens: usize,
    room: usize,
}

/// Tokens for one sequence: its whole prompt at first, the token just drawn later.
#[derive(Debug)]
pub struct Feed<'a> {
    /// Sequence that they extend.
    pub sequence: &'a mut Sequence,
    /// Token ids; at least one.
    pub tokens: &'a [u32],
}

/// Buffers for intermediate values, reused from step to step.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    rows: Vec<Row>,
    ids: Vec<u32>,
    angles: Vec<Vec<f32>>,
    residual: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    /// Gates of attention's output.
    gates: Vec<f32>,
    delta: DeltaScratch,
    attended: Vec<f32>,
    update: Vec<f32>,
    /// Output of the feed-forward layer.
    fed: Vec<f32>,
    inner: Inner,
    scores: Vec<f32>,
    last: Vec<f32>,
    logits: Vec<f32>,
}

/// Intermediate values of a gated delta net.
#[derive(Debug, Clone, Default)]
struct DeltaScratch {
    /// Inputs of a sequence's tokens, apart.
    qkv: Vec<f32>,
    strengths: Vec<f32>,
    steps: Vec<f32>,
    /// Outputs of the rule, and after its norm.
    read: Vec<f32>,
    normed: Vec<f32>,
    /// Gate and normalised output of a row.
    gated: Vec<f32>,
}

/// Intermediate values of a feed-forward layer.
#[derive(Debug, Clone, Default)]
struct Inner {
    gate_up: Vec<f32>,
    gated: Vec<f32>,
    router: Vec<f32>,
    /// Input and output of one expert.
    input: Vec<f32>,
    output: Vec<f32>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    feed: usize,
    position: usize,
    last: bool,
}

impl Sequence {
    /// Number of tokens in the cache.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

impl PackedDecoder {
    /// An empty sequence that may grow to `room` tokens. A rope that depends on length (LongRoPE) goes by the first feed, so
    /// that one sequence never mixes two sets of frequencies: one that grows beyond [`DecoderSpec::turns_at`] has to be
    /// cleared, and fed again whole.
    ///
    /// [`DecoderSpec::turns_at`]: crate::DecoderSpec::turns_at
    pub fn sequence(&self, room: usize) -> Sequence {
        Sequence {
            caches: self
                .blocks
                .iter()
                .map(|block| KeyValueCache::new(block.cache, if block.delta.is_some() { 0 } else { room }))
                .collect(),
            states: self
                .blocks
                .iter()
                .map(|block| block.delta.as_ref().map(|delta| delta.weights.start()).unwrap_or_default())
                .collect(),
            frequencies: self.frequencies(1),
            tokens: 0,
            room,
        }
    }

    /// Empties a sequence.
    pub fn clear(&self, sequence: &mut Sequence) {
        *sequence = self.sequence(sequence.room);
    }

    fn frequencies(&self, length: usize) -> Vec<Frequencies> {
        self.spec.ropes.iter().map(|rope| rope.frequencies(length)).collect()
    }

    /// Appends the tokens and returns the logits after each feed's last, (`B`, `V`) in the order of the feeds.
    ///
    /// # Errors
    /// Before anything is appended: when a feed has no token, a token is not below `V`, or a sequence has no room.
    pub fn advance<'s>(&self, feeds: &mut [Feed<'_>], scratch: &'s mut Scratch) -> Result<&'s [f32]> {
        self.check(feeds)?;
        if self.spec.turns_at().is_some() {
            for feed in feeds.iter_mut().filter(|feed| feed.sequence.tokens == 0) {
                feed.sequence.frequencies = self.frequencies(feed.tokens.len());
            }
        }
        scratch.last.clear();
        let mut pending = std::mem::take(&mut scratch.rows);
        pending.clear();
        for (index, feed) in feeds.iter().enumerate() {
            let tokens = feed.tokens.len();
            pending.extend((0..tokens).map(|offset| Row {
                feed: index,
                position: feed.sequence.tokens + offset,
                last: offset + 1 == tokens,
            }));
        }
        let before: Vec<usize> = feeds.iter().map(|feed| feed.sequence.tokens).collect();
        for rows in pending.chunks(ROWS) {
            scratch.ids.clear();
            scratch.ids.extend(rows.iter().map(|row| feeds[row.feed].tokens[row.position - before[row.feed]]));
            self.run(rows, feeds, scratch)?;
        }
        feeds.iter_mut().for_each(|feed| feed.sequence.tokens += feed.tokens.len());
        scratch.rows = pending;
        if let Some(scale) = self.spec.logit_scale {
            scale_all(&mut scratch.last, scale);
        }
        self.head.run(&scratch.last, &mut scratch.logits);
        if let Some(cap) = self.spec.logit_soft_cap {
            soft_cap(&mut scratch.logits, cap as f32);
        }
        Ok(&scratch.logits)
    }

    fn check(&self, feeds: &[Feed<'_>]) -> Result<()> {
        for feed in feeds {
            if feed.tokens.is_empty() {
                return Err(ModelError::input("tokens of a sequence", "at least one", "none"));
            }
            if let Some(id) = feed.tokens.iter().find(|id| **id as usize >= self.spec.vocab_size) {
                let expected = format!("an id below the vocabulary of {}", self.spec.vocab_size);
                return Err(ModelError::input("token", expected, id.to_string()));
            }
            let length = feed.sequence.tokens + feed.tokens.len();
            if length > feed.sequence.room {
                let expected = format!("at most {}", smpo_suggest::counted(feed.sequence.room, "token"));
                return Err(ModelError::input("sequence", expected, length.to_string()));
            }
        }
        Ok(())
    }

    /// Runs all blocks on some rows and appends the normalised hidden states of each feed's last row to `scratch.last`.
    fn run(&self, rows: &[Row], feeds: &mut [Feed<'_>], scratch: &mut Scratch) -> Result<()> {
        scratch.residual = embedding(self.embedding.weight(), &scratch.ids)?.flatten_all()?.to_vec1()?;
        if let Some(scale) = self.spec.embedding_scale {
            scale_all(&mut scratch.residual, scale);
        }
        self.set_angles(rows, feeds, scratch);
        let count = self.blocks.len();
        for (index, block) in self.blocks.iter().enumerate() {
            self.attend(index, block, rows, feeds, scratch);
            if index + 1 == count {
                keep_last(rows, self.spec.hidden_size, &mut scratch.residual);
                keep_last(rows, self.spec.mixed_width(&self.spec.layers[index]), &mut scratch.attended);
                if self.spec.parallel {
                    keep_last(rows, self.spec.hidden_size, &mut scratch.normed);
                }
            }
            self.feed_forward(block, scratch);
        }
        self.normalise(&scratch.residual, Some(&self.norm), &mut scratch.normed);
        scratch.last.extend_from_slice(&scratch.normed);
        Ok(())
    }

    /// Cosines, then sines, of each row, for each rope.
    fn set_angles(&self, rows: &[Row], feeds: &[Feed<'_>], scratch: &mut Scratch) {
        scratch.angles.resize_with(self.spec.ropes.len(), Vec::new);
        for (rope, angles) in scratch.angles.iter_mut().enumerate() {
            angles.clear();
            for row in rows {
                let frequencies = &feeds[row.feed].sequence.frequencies[rope];
                angles.extend(turns(frequencies, row.position as u32).map(|(cos, _)| cos));
                angles.extend(turns(frequencies, row.position as u32).map(|(_, sin)| sin));
            }
        }
    }

    /// Attention of one block through the caches, or its gated delta net through the states: `scratch.residual` to
    /// `scratch.attended`, (rows, heads, width of a head).
    fn attend(&self, index: usize, block: &PackedBlock, rows: &[Row], feeds: &mut [Feed<'_>], scratch: &mut Scratch) {
        let spec = &self.spec;
        let (query, kv, dim) = (spec.query_width(), spec.kv_width(), spec.head_dim);
        self.normalise(&scratch.residual, block.norms.before_attention.as_ref(), &mut scratch.normed);
        block.qkv.run(&scratch.normed, &mut scratch.qkv);
        if let Some(delta) = &block.delta {
            return self.recur(index, delta, rows, feeds, scratch);
        }
        if spec.gated_attention {
            split_gates(&mut scratch.qkv, &mut scratch.gates, [query, query + 2 * kv], dim);
        }
        let rope = block.rope.map(|rope| (&scratch.angles[rope][..], &spec.ropes[rope]));
        for (slot, (row, qkv)) in rows.iter().zip(scratch.qkv.chunks_exact_mut(query + 2 * kv)).enumerate() {
            let (queries, rest) = qkv.split_at_mut(query);
            let (keys, values) = rest.split_at_mut(kv);
            for (heads, norm) in [(&mut *queries, 0), (&mut *keys, 1)] {
                if let Some(gains) = &block.qk_norm {
                    resize(&mut scratch.update, heads.len());
                    normalise(heads, &gains[norm], spec.norm_eps, &mut scratch.update);
                    heads.copy_from_slice(&scratch.update);
                }
                if let Some((angles, rope)) = rope {
                    let turned = rope.rotary_dim;
                    let (cos, sin) = angles[slot * turned..(slot + 1) * turned].split_at(turned / 2);
                    turn(heads, dim, cos, sin, rope.pairs);
                }
            }
            if let Some(growth) = spec.query_growth {
                let factor = growth.factor(row.position as u32);
                queries.iter_mut().for_each(|x| *x *= factor);
            }
            feeds[row.feed].sequence.caches[index].push(keys, values);
        }
        resize(&mut scratch.attended, rows.len() * query);
        let seen: usize = rows.iter().map(|row| row.position + 1).sum();
        let one = |(row, (qkv, out)): (&Row, (&[f32], &mut [f32])), scores: &mut Vec<f32>| {
            let cache = &feeds[row.feed].sequence.caches[index];
            cache.attend(&qkv[..query], row.position, block.sinks.as_deref(), scores, out);
        };
        if seen < SHARED_ATTENTION || rayon::current_num_threads() == 1 {
            let heads = scratch.qkv.chunks_exact(query + 2 * kv).zip(scratch.attended.chunks_exact_mut(query));
            rows.iter().zip(heads).for_each(|row| one(row, &mut scratch.scores));
        } else {
            let heads = scratch.qkv.par_chunks_exact(query + 2 * kv).zip(scratch.attended.par_chunks_exact_mut(query));
            rows.par_iter().zip(heads).for_each_init(Vec::new, |scores, row| one(row, scores));
        }
        if spec.gated_attention {
            sigmoid_gate(&scratch.gates, &mut scratch.attended);
        }
    }

    /// The gated delta net of one block, sequence by sequence: `scratch.qkv` to `scratch.attended`.
    fn recur(&self, index: usize, delta: &PackedDelta, rows: &[Row], feeds: &mut [Feed<'_>], scratch: &mut Scratch) {
        let heads = delta.weights.heads();
        let (row, values, count) = (heads.row_width(), heads.value_width(), heads.value_heads);
        let width = row + values + 2 * count;
        let Scratch { qkv: inputs, delta: own, attended, .. } = scratch;
        attended.clear();
        let mut first = 0;
        for run in rows.chunk_by(|a, b| a.feed == b.feed) {
            let inputs = &inputs[first * width..(first + run.len()) * width];
            first += run.len();
            let apart = [(&mut own.qkv, 0..row), (&mut own.strengths, row + values..row + values + count)];
            for (part, columns) in apart.into_iter().chain([(&mut own.steps, row + values + count..width)]) {
                part.clear();
                inputs.chunks_exact(width).for_each(|input| part.extend_from_slice(&input[columns.clone()]));
            }
            resize(&mut own.read, run.len() * values);
            let state = &mut feeds[run[0].feed].sequence.states[index];
            delta.weights.advance(state, &mut own.qkv, [&own.steps, &own.strengths], &mut own.read);
            resize(&mut own.normed, own.read.len());
            normalise(&own.read, &delta.norm, self.spec.norm_eps, &mut own.normed);
            for (input, normed) in inputs.chunks_exact(width).zip(own.normed.chunks_exact(values)) {
                own.gated.clear();
                own.gated.extend_from_slice(&input[row..row + values]);
                own.gated.extend_from_slice(normed);
                let start = attended.len();
                attended.resize(start + values, 0.0);
                gate(Gate::Silu, &own.gated, &mut attended[start..]);
            }
        }
    }

    /// The rest of a block: adds the outputs of attention and of the feed-forward layer to `scratch.residual`.
    fn feed_forward(&self, block: &PackedBlock, scratch: &mut Scratch) {
        let Scratch { residual, normed, attended, update, fed, inner, .. } = scratch;
        if self.spec.parallel {
            // It reads what attention has read.
            block.run_feed_forward(normed, inner, fed);
        }
        block.output.run(attended, update);
        self.add_update(residual, update, block.norms.after_attention.as_ref(), normed);
        if !self.spec.parallel {
            self.normalise(residual, block.norms.before_feed_forward.as_ref(), normed);
            block.run_feed_forward(normed, inner, fed);
        }
        self.add_update(residual, fed, block.norms.after_feed_forward.as_ref(), normed);
    }

    /// Adds a layer's output to the stream, normalised and scaled where the spec says so.
    fn add_update(&self, residual: &mut [f32], update: &mut [f32], gain: Option<&Vec<f32>>, normed: &mut Vec<f32>) {
        if gain.is_some() {
            self.normalise(update, gain, normed);
            update.copy_from_slice(normed);
        }
        if let Some(scale) = self.spec.residual_scale {
            scale_all(update, scale);
        }
        add(residual, update);
    }

    /// The spec's norm of each row of `x` to `out`, or `x` itself without a gain.
    fn normalise(&self, x: &[f32], gain: Option<&Vec<f32>>, out: &mut Vec<f32>) {
        resize(out, x.len());
        match gain {
            None => out.copy_from_slice(x),
            Some(gain) if self.spec.norm_centred => {
                let mut centred = x.to_vec();
                centre(&mut centred, gain.len());
                normalise(&centred, gain, self.spec.norm_eps, out);
            }
            Some(gain) => normalise(x, gain, self.spec.norm_eps, out),
        }
    }
}

impl PackedBlock {
    /// The feed-forward layer, from its input to its output.
    fn run_feed_forward(&self, input: &[f32], inner: &mut Inner, out: &mut Vec<f32>) {
        match &self.feed_forward {
            PackedFeedForward::Gated(layer) => layer.run(self.gate, input, &mut inner.gate_up, &mut inner.gated, out),
            PackedFeedForward::Routed { router, options, experts } => {
                router.run(input, &mut inner.router);
                let (routing, weights) = route(&inner.router, experts.len(), *options);
                let width = router.matrix.inputs();
                out.clear();
                resize(out, input.len());
                for (index, expert) in experts.iter().enumerate() {
                    let tokens = routing.tokens_of(index);
                    inner.input.clear();
                    for token in tokens.iter().map(|token| *token as usize) {
                        inner.input.extend_from_slice(&input[token * width..(token + 1) * width]);
                    }
                    let Inner { gate_up, gated, input, output, .. } = inner;
                    expert.run(self.gate, input, gate_up, gated, output);
                    let rows = tokens.iter().zip(routing.slots_of(index)).zip(output.chunks_exact(width));
                    for ((token, slot), row) in rows {
                        let out = &mut out[*token as usize * width..][..width];
                        let weight = weights[*slot as usize];
                        out.iter_mut().zip(row).for_each(|(out, value)| *out += weight * value);
                    }
                }
            }
        }
    }
}

impl PackedGated {
    fn run(&self, kind: Gate, input: &[f32], gate_up: &mut Vec<f32>, gated: &mut Vec<f32>, out: &mut Vec<f32>) {
        self.gate_up.run(input, gate_up);
        resize(gated, gate_up.len() / 2);
        let inner = self.gate_up.matrix.outputs() / 2;
        let pairs = gate_up.chunks_exact(2 * inner).zip(gated.chunks_exact_mut(inner));
        pairs.for_each(|(gate_up, out)| gate(kind, gate_up, out));
        self.down.run(gated, out);
    }
}

impl Projection {
    /// `x·Wᵀ + b` for all rows.
    fn run(&self, x: &[f32], y: &mut Vec<f32>) {
        let rows = x.len() / self.matrix.inputs().max(1);
        resize(y, rows * self.matrix.outputs());
        self.matrix.multiply(x, y);
        for adapter in &self.adapters {
            adapter.add(x, y, self.matrix.outputs());
        }
        if let Some(bias) = &self.bias {
            add(y, bias);
        }
    }
}

/// Takes the gate beside each head's query out of rows of `widths` (all queries; the row without gates).
fn split_gates(rows: &mut Vec<f32>, gates: &mut Vec<f32>, [query, width]: [usize; 2], dim: usize) {
    let mut kept = Vec::with_capacity(rows.len());
    gates.clear();
    for row in rows.chunks_exact(query + width) {
        let (heads, rest) = row.split_at(2 * query);
        for head in heads.chunks_exact(2 * dim) {
            kept.extend_from_slice(&head[..dim]);
            gates.extend_from_slice(&head[dim..]);
        }
        kept.extend_from_slice(rest);
    }
    *rows = kept;
}

/// Moves the rows that are last to the front and drops the others.
fn keep_last(rows: &[Row], width: usize, values: &mut Vec<f32>) {
    let mut kept = 0;
    for (index, _) in rows.iter().enumerate().filter(|(_, row)| row.last) {
        values.copy_within(index * width..(index + 1) * width, kept * width);
        kept += 1;
    }
    values.truncate(kept * width);
}

/// Sets the length; the values are overwritten next.
fn resize(values: &mut Vec<f32>, len: usize) {
    values.resize(len, 0.0);
}

fn scale_all(values: &mut [f32], scale: f64) {
    values.iter_mut().for_each(|x| *x *= scale as f32);
}
