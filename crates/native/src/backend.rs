//! Decoders with the memory of their sequences, as a worker drives them.

use smpo_model::{
    DeviceDecoder, DeviceFeed, DeviceSequence, Feed, ModelError, PackedDecoder, Scratch, Sequence, SequenceCache,
    TokenDraw,
};
use smpo_sampling::{Drawn, LogitsError, Recorder};

/// A job in the batch.
pub(crate) struct Running<S> {
    pub sequence: S,
    /// The prompt, where the sequence may have to be fed again.
    pub prompt: Vec<u32>,
    /// Tokens that the model has not seen yet: the prompt, then the token drawn last.
    pub next: Vec<u32>,
    pub recorder: Recorder,
}

/// One drawn token for each job, or the error of logits that are no distribution.
pub(crate) type Draws = Vec<Result<u32, LogitsError>>;

/// A decoder with the memory of the sequences that run.
pub(crate) trait Backend {
    /// Memory of one sequence.
    type Sequence;

    /// True if a sequence of so many tokens fits beside those that run.
    fn fits(&self, tokens: usize) -> bool;

    /// Memory for a sequence of so many tokens, which fits or is alone.
    fn open(&mut self, tokens: usize) -> Result<Self::Sequence, ModelError>;

    /// Empties a sequence.
    fn clear(&mut self, sequence: &mut Self::Sequence);

    /// Length beyond which a sequence has to be fed again whole, [`smpo_model::DecoderSpec::turns_at`].
    fn turns_at(&self) -> Option<usize>;

    /// Takes the memory back.
    fn close(&mut self, sequence: Self::Sequence);

    /// Feeds each job's tokens to the model, draws the next one and records it.
    fn step(&mut self, running: &mut [Running<Self::Sequence>]) -> Result<Draws, ModelError>;
}

/// A packed decoder on the CPU; tokens are drawn from its logits.
pub(crate) struct OnHost<'a> {
    decoder: &'a PackedDecoder,
    scratch: Scratch,
    /// Tokens of all sequences at their longest, and those that are taken.
    tokens: usize,
    taken: usize,
}

impl<'a> OnHost<'a> {
    pub fn new(decoder: &'a PackedDecoder, tokens: usize) -> Self {
        Self { decoder, scratch: Scratch::default(), tokens, taken: 0 }
    }
}

impl Backend for OnHost<'_> {
    type Sequence = (Sequence, usize);

    fn fits(&self, tokens: usize) -> bool {
        self.taken.saturating_add(tokens) <= self.tokens
    }

    fn open(&mut self, tokens: usize) -> Result<Self::Sequence, ModelError> {
        self.taken += tokens;
        Ok((self.decoder.sequence(tokens), tokens))
    }

    fn clear(&mut self, sequence: &mut Self::Sequence) {
        self.decoder.clear(&mut sequence.0);
    }

    fn turns_at(&self) -> Option<usize> {
        self.decoder.spec().turns_at()
    }

    fn close(&mut self, (_, tokens): Self::Sequence) {
        self.taken -= tokens;
    }

    fn step(&mut self, running: &mut [Running<Self::Sequence>]) -> Result<Draws, ModelError> {
        let mut feeds: Vec<Feed> =
            running.iter_mut().map(|one| Feed { sequence: &mut one.sequence.0, tokens: &one.next }).collect();
        let logits = self.decoder.advance(&mut feeds, &mut self.scratch)?;
        let rows = logits.chunks_exact(self.decoder.spec().vocab_size);
        Ok(running.iter_mut().zip(rows).map(|(one, logits)| Ok(one.recorder.step(logits)?.token)).collect())
    }
}

/// A decoder on a device, which draws the tokens too.
pub(crate) struct OnDevice<'a> {
    decoder: &'a DeviceDecoder,
    /// Allocated with the first sequence.
    cache: Option<SequenceCache>,
    /// Tokens to allocate a cache for, and the most that there is memory for.
    tokens: usize,
    most: usize,
}

impl<'a> OnDevice<'a> {
    pub fn new(decoder: &'a DeviceDecoder, [tokens, most]: [usize; 2]) -> Self {
        Self { decoder, cache: None, tokens, most }
    }
}

impl Backend for OnDevice<'_> {
    type Sequence = DeviceSequence;

    fn fits(&self, tokens: usize) -> bool {
        self.cache.as_ref().map_or(tokens <= self.tokens, |cache| cache.fits(tokens))
    }

    fn open(&mut self, tokens: usize) -> Result<DeviceSequence, ModelError> {
        let refused = || {
            let expected = format!("at most {}: the GPU's memory has room for no more keys and values", self.most);
            ModelError::input("tokens of prompt and completion", expected, tokens.to_string())
        };
        if let Some(sequence) = self.cache.as_mut().and_then(|cache| cache.sequence(tokens)) {
            return Ok(sequence);
        }
        if tokens > self.most {
            return Err(refused());
        }
        // The first sequence, or one alone that is longer than the cache so far.
        self.cache = None;
        let cache = self.cache.insert(self.decoder.cache(self.tokens.max(tokens))?);
        cache.sequence(tokens).ok_or_else(refused)
    }

    fn clear(&mut self, sequence: &mut DeviceSequence) {
        sequence.clear();
    }

    fn turns_at(&self) -> Option<usize> {
        self.decoder.spec().turns_at()
    }

    fn close(&mut self, sequence: DeviceSequence) {
        if let Some(cache) = &mut self.cache {
            cache.release(sequence);
        }
    }

    fn step(&mut self, running: &mut [Running<DeviceSequence>]) -> Result<Draws, ModelError> {
        let Some(cache) = &self.cache else { return Ok(Vec::new()) };
        let mut feeds: Vec<DeviceFeed<'_>> = Vec::with_capacity(running.len());
        for Running { sequence, next, recorder, .. } in running.iter_mut() {
            feeds.push(DeviceFeed { sequence, tokens: next, draw: settings(recorder) });
        }
        let drawn = self.decoder.step(cache, &mut feeds)?;
        let record = |(one, drawn): (&mut Running<DeviceSequence>, smpo_model::DrawnToken)| {
            let drawn = Drawn {
                token: drawn.token,
                logit: drawn.logit,
                log_sum: drawn.log_sum,
                terminator_log_sum: drawn.terminator_log_sum,
                broken: drawn.broken,
                vocabulary: self.decoder.spec().vocab_size,
            };
            Ok(one.recorder.record(drawn)?.token)
        };
        Ok(running.iter_mut().zip(drawn).map(record).collect())
    }
}

/// Settings of a recorder's next draw.
fn settings(recorder: &Recorder) -> TokenDraw<'_> {
    let sampler = recorder.sampler();
    TokenDraw {
        key: recorder.key(),
        step: recorder.recording().token_ids.len() as u64,
        temperature: sampler.temperature,
        top_k: sampler.top_k,
        top_p: sampler.top_p,
        min_p: sampler.min_p,
        terminators: recorder.terminators(),
    }
}
