//! Decoding on a device: the forward pass of training, with attention to keys and values in the device's memory.

use std::ops::Range;
use std::path::Path;

use candle_core::Tensor;
use smpo_kernels::decode::{
    CachePlaces, CachedQueries, CachedSequence, DeviceCache, StackedHeads, device_draw, device_logits,
};
use smpo_kernels::{DrawnToken, Segments, Span, TokenDraw, Weight};

use crate::attention::{Attention, Heads, StackedAttention, attend_packed, attention_options};
use crate::block::Block;
use crate::decoder::{Decoder, Pass};
use crate::error::{ModelError, Result};
use crate::placement::refuse_device;
use crate::spec::{DecoderSpec, LayerSpec};
use crate::weights::WeightDtype;

/// Tokens of prompts in one forward pass, unless one prompt alone has more.
const PROMPT_TOKENS: usize = 4096;

/// A [`Decoder`] as it is, for decoding on the device that its weights lie on: they are shared, so it follows their training,
/// and adapters stay beside them. Families without kernels for a device are refused.
///
/// Attention and draw of a sequence depend on that sequence alone; cuBLAS may round its products otherwise in a batch of
/// another size.
#[derive(Debug, Clone)]
pub struct DeviceDecoder {
    decoder: Decoder,
    /// Operations on host memory run as emulated kernels.
    emulated: bool,
}

/// The rows of a cache in a device's memory, shared out among sequences.
#[derive(Debug)]
pub struct SequenceCache {
    rows: DeviceCache,
    /// Rows of each sequence, in order.
    taken: Vec<Range<usize>>,
}

/// One sequence's rows in a [`SequenceCache`].
#[derive(Debug)]
pub struct DeviceSequence {
    rows: Range<usize>,
    tokens: usize,
    /// Tokens of its first feed.
    first: usize,
}

/// Tokens for one sequence, its whole prompt at first, the token just drawn later; and the draw that follows.
#[derive(Debug)]
pub struct DeviceFeed<'a> {
    /// Sequence that they extend.
    pub sequence: &'a mut DeviceSequence,
    /// Token ids: one, or for an empty sequence at least one.
    pub tokens: &'a [u32],
    /// Settings of the draw.
    pub draw: TokenDraw<'a>,
}

impl DecoderSpec {
    /// Bytes of one token's keys and values on a device.
    pub fn cached_bytes(&self, dtype: WeightDtype) -> usize {
        2 * self.layers.len() * self.kv_width() * dtype.bytes()
    }

    /// Bytes of the intermediate values of a step of `sequences` sequences on a device, or of a pass over prompts, about.
    pub fn sampling_bytes(&self, dtype: WeightDtype, sequences: usize) -> usize {
        let row = 6 * self.hidden_size + 3 * (self.query_width() + self.kv_width()) + 4 * self.intermediate_size;
        let tokens = PROMPT_TOKENS.min(self.max_positions.unwrap_or(PROMPT_TOKENS));
        (tokens + sequences) * row * dtype.bytes() + sequences * self.vocab_size * size_of::<f32>()
    }
}

impl Decoder {
    /// The model frozen, for sampling on a device: queries, keys and values as one product, gate and up as another, where they
    /// are tensors without adapters. One block's weights at a time are there twice.
    ///
    /// # Errors
    /// When memory is exhausted.
    pub fn with_stacked_projections(self) -> Result<Self> {
        let mut decoder = self.frozen();
        drop(self);
        decoder.blocks.iter_mut().try_for_each(Block::stack_projections)?;
        Ok(decoder)
    }
}

impl DeviceDecoder {
    /// Shares the decoder's weights.
    ///
    /// # Errors
    /// When it is no language model, or has no kernels for a device; on the CPU outside the emulator.
    pub fn new(decoder: &Decoder) -> Result<Self> {
        let placement = decoder.placement();
        if !placement.runs_kernels_of_a_device() {
            return Err(ModelError::input("device", "a GPU", "the CPU"));
        }
        refuse_device(decoder.spec(), &placement)?;
        decoder.expect_language_model(Path::new("model"))?;
        Ok(Self { decoder: decoder.frozen(), emulated: smpo_kernels::is_emulating() })
    }

    /// Decoder specification.
    pub fn spec(&self) -> &DecoderSpec {
        self.decoder.spec()
    }

    /// dtype of weights, activations and cache.
    pub fn dtype(&self) -> WeightDtype {
        self.decoder.placement().dtype
    }

    /// Bytes of keys and values of one token.
    pub fn token_bytes(&self) -> usize {
        self.spec().cached_bytes(self.dtype())
    }

    /// Bytes of the intermediate values of a step of `sequences` sequences, or of a pass over their prompts, at most about.
    pub fn step_bytes(&self, sequences: usize) -> usize {
        self.spec().sampling_bytes(self.dtype(), sequences)
    }

    /// Memory for `tokens` tokens of all sequences together, allocated at once.
    ///
    /// # Errors
    /// When the device has not as much left, or the width of a head has no kernel.
    pub fn cache(&self, tokens: usize) -> Result<SequenceCache> {
        let (spec, placement) = (self.spec(), self.decoder.placement());
        let heads = [spec.kv_heads, spec.head_dim];
        let rows = || DeviceCache::new(&placement.device, placement.dtype.candle(), spec.layers.len(), heads, tokens);
        Ok(SequenceCache { rows: self.on_device(rows)?, taken: Vec::new() })
    }

    /// Feeds the tokens and draws one for each feed, in their order.
    ///
    /// # Errors
    /// When a feed has no token, or several for a sequence that is not empty, a token is not below `V`, a sequence has no
    /// room; when the device fails. What the sequences hold is then unspecified.
    pub fn step(&self, cache: &SequenceCache, feeds: &mut [DeviceFeed<'_>]) -> Result<Vec<DrawnToken>> {
        self.check(feeds)?;
        // Running sequences, then prompts, as many in a pass as fit.
        let (running, prompts): (Vec<usize>, Vec<usize>) =
            (0..feeds.len()).partition(|index| feeds[*index].sequence.tokens > 0);
        let mut passes = vec![running];
        let mut tokens = PROMPT_TOKENS;
        for index in prompts {
            tokens += feeds[index].tokens.len();
            if tokens > PROMPT_TOKENS {
                passes.push(Vec::new());
                tokens = feeds[index].tokens.len();
            }
            passes.last_mut().into_iter().for_each(|pass| pass.push(index));
        }
        passes.retain(|pass| !pass.is_empty());
        let drawn = self.on_device(|| {
            let hidden = passes.iter().map(|pass| self.run(cache, feeds, pass)).collect::<Result<Vec<_>>>()?;
            let hidden = if let [one] = &hidden[..] { one.clone() } else { Tensor::cat(&hidden, 0)? };
            let draws: Vec<TokenDraw<'_>> = passes.iter().flatten().map(|index| feeds[*index].draw).collect();
            Ok::<_, ModelError>(device_draw(&self.logits(&hidden)?, self.spec().logit_soft_cap, &draws)?)
        })?;
        for DeviceFeed { sequence, tokens, .. } in feeds.iter_mut() {
            if sequence.tokens == 0 {
                sequence.first = tokens.len();
            }
            sequence.tokens += tokens.len();
        }
        let mut by_feed: Vec<(usize, DrawnToken)> = passes.into_iter().flatten().zip(drawn).collect();
        by_feed.sort_by_key(|(index, _)| *index);
        Ok(by_feed.into_iter().map(|(_, drawn)| drawn).collect())
    }

    fn check(&self, feeds: &[DeviceFeed<'_>]) -> Result<()> {
        for DeviceFeed { sequence, tokens, .. } in feeds {
            if tokens.is_empty() || (sequence.tokens > 0 && tokens.len() > 1) {
                let got = tokens.len().to_string();
                return Err(ModelError::input("tokens of a sequence", "a prompt of at least one, then one", got));
            }
            if let Some(id) = tokens.iter().find(|id| **id as usize >= self.spec().vocab_size) {
                let expected = format!("an id below the vocabulary of {}", self.spec().vocab_size);
                return Err(ModelError::input("token", expected, id.to_string()));
            }
            let length = sequence.tokens + tokens.len();
            if length > sequence.rows.len() {
                let expected = format!("at most {}", smpo_suggest::counted(sequence.rows.len(), "token"));
                return Err(ModelError::input("sequence", expected, length.to_string()));
            }
        }
        Ok(())
    }

    /// Hidden states of the last token of each of some feeds, which are all prompts or all of one token.
    fn run(&self, cache: &SequenceCache, feeds: &[DeviceFeed<'_>], chosen: &[usize]) -> Result<Tensor> {
        let (mut ids, mut positions, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        let (mut places, mut spans, mut last, mut queries) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for DeviceFeed { sequence, tokens, .. } in chosen.iter().map(|index| &feeds[*index]) {
            let (first, start, count) = (sequence.rows.start, sequence.tokens, tokens.len());
            spans.push(Span::new(ids.len()..ids.len() + count));
            ids.extend_from_slice(tokens);
            last.push(ids.len() as u32 - 1);
            positions.extend((start..start + count).map(|position| position as u32));
            places.extend((first + start..first + start + count).map(|row| row as u32));
            // A rope that depends on length goes by the first feed, as on the CPU.
            lengths.resize(ids.len(), if start == 0 { count } else { sequence.first });
            queries.push(CachedSequence { first_row: first, position: start + count - 1 });
        }
        let segments = Segments::new(spans)?;
        let keep = (last.len() < ids.len()).then_some(&last[..]);
        let pass = Pass {
            positions: &positions,
            lengths: &lengths,
            segments: &segments,
            keep,
            dropout_seed: None,
            balance: None,
        };
        let prompts = chosen.iter().any(|index| feeds[*index].sequence.tokens == 0);
        let mut attention = CachedPass {
            spec: self.spec(),
            cache: &cache.rows,
            places: cache.rows.places(&places)?,
            queries: cache.rows.queries(queries)?,
            prompts: prompts.then_some(&segments),
            layer: 0,
        };
        self.decoder.run(&ids, &pass, &mut attention)
    }

    /// The head's float32 logits, before the soft cap.
    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let (hidden, head) = (self.decoder.head_input(hidden)?, &self.decoder.head);
        match &head.adapter {
            None => Ok(device_logits(&hidden, head.weight.weight())?),
            Some(adapter) => {
                let adapted = adapter.head_inputs(&hidden, &head.weight, None)?;
                Ok(device_logits(&adapted.hidden, Weight::Tensor(&adapted.weight))?)
            }
        }
    }

    fn on_device<T>(&self, f: impl FnOnce() -> T) -> T {
        if self.emulated { smpo_kernels::emulate(f) } else { f() }
    }
}

/// Attention of a pass, layer after layer.
struct CachedPass<'a> {
    spec: &'a DecoderSpec,
    cache: &'a DeviceCache,
    places: CachePlaces,
    queries: CachedQueries,
    /// The sequences of prompts, which attend to themselves.
    prompts: Option<&'a Segments>,
    layer: usize,
}

impl CachedPass<'_> {
    /// The index of the next layer.
    fn next(&mut self) -> usize {
        self.layer += 1;
        self.layer - 1
    }
}

impl Attention for CachedPass<'_> {
    fn attend(&mut self, layer: &LayerSpec, heads: Heads) -> Result<Tensor> {
        let index = self.next();
        self.cache.write(index, &heads.keys, &heads.values, &self.places)?;
        if let Some(segments) = self.prompts {
            return attend_packed(self.spec, layer, &heads, segments);
        }
        Ok(self.cache.attend(index, &heads.queries, &mut self.queries, attention_options(self.spec, layer))?)
    }

    fn of_stacked(&mut self) -> Option<&mut dyn StackedAttention> {
        // Prompts need their keys and values beside the cache too.
        if self.prompts.is_none() { Some(self) } else { None }
    }
}

impl StackedAttention for CachedPass<'_> {
    fn attend_stacked(&mut self, layer: &LayerSpec, stacked: &StackedHeads<'_>) -> Result<Tensor> {
        let index = self.next();
        let queries = self.cache.write_stacked(index, stacked, &self.places)?;
        Ok(self.cache.attend(index, &queries, &mut self.queries, attention_options(self.spec, layer))?)
    }
}

impl SequenceCache {
    /// Number of tokens of all sequences together.
    pub fn tokens(&self) -> usize {
        self.rows.tokens()
    }

    /// True if there are `tokens` neighbouring rows that no sequence has.
    pub fn fits(&self, tokens: usize) -> bool {
        self.gap(tokens).is_some()
    }

    /// An empty sequence that may grow to `tokens` tokens; `None` where it does not fit.
    pub fn sequence(&mut self, tokens: usize) -> Option<DeviceSequence> {
        let (index, first) = self.gap(tokens)?;
        let rows = first..first + tokens;
        self.taken.insert(index, rows.clone());
        Some(DeviceSequence { rows, tokens: 0, first: 0 })
    }

    /// Gives a sequence's rows back.
    pub fn release(&mut self, sequence: DeviceSequence) {
        self.taken.retain(|rows| *rows != sequence.rows);
    }

    /// The first gap of so many rows: the number of sequences before it, and its first row.
    fn gap(&self, tokens: usize) -> Option<(usize, usize)> {
        let starts = std::iter::once(0).chain(self.taken.iter().map(|rows| rows.end));
        let ends = self.taken.iter().map(|rows| rows.start).chain([self.rows.tokens()]);
        let mut gaps = starts.zip(ends).enumerate();
        gaps.find(|(_, (start, end))| end - start >= tokens.max(1)).map(|(index, (start, _))| (index, start))
    }
}

impl DeviceSequence {
    /// Empties it.
    pub fn clear(&mut self) {
        self.tokens = 0;
    }

    /// Number of tokens in the cache.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}
