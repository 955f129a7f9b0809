//! The decoder with its tokenizer, as generators and as teacher-forced scorer.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use smpo_chat::Message;
use smpo_inference::{Item, ScorerError, TeacherForced, TokenScores};
use smpo_model::{Decoder, DeviceDecoder, ModelDir, PackedBatch, Placement, ScoreOptions, Storage};
use smpo_tokenizer::ChatTokenizer;

use crate::batches::batches;
use crate::{NativeError, NativeGenerator, NativeOptions};

/// A model directory or adapter, loaded: generates ([`NativeModel::generators`]) and scores ([`TeacherForced`]).
pub struct NativeModel {
    pub(crate) decoder: Decoder,
    pub(crate) tokenizer: Arc<ChatTokenizer>,
}

impl NativeModel {
    /// Loads a Hugging Face directory, a GGUF file (`base`: a directory whose tokenizer is taken in place of its own), or a
    /// PEFT adapter on `base` (default: the base that the adapter names).
    ///
    /// # Errors
    /// [`NativeError`].
    pub fn load(model: &Path, base: Option<&Path>) -> Result<Self, NativeError> {
        Self::load_on(model, base, &Placement::default())
    }

    /// As [`NativeModel::load`], to a device and dtype.
    ///
    /// # Errors
    /// [`NativeError`], also when the device is out of memory.
    pub fn load_on(model: &Path, base: Option<&Path>, placement: &Placement) -> Result<Self, NativeError> {
        let dir = ModelDir::open(model, base)?;
        let mut decoder = dir.load_frozen(placement, &Storage::default())?;
        decoder.expect_language_model(model)?;
        if placement.runs_kernels_of_a_device() {
            decoder = decoder.with_stacked_projections()?;
        }
        let tokenizer = ChatTokenizer::of_model(dir.tokenizer(), dir.adapter())?;
        Ok(NativeModel { decoder, tokenizer: Arc::new(tokenizer) })
    }

    /// The same model under variables of the chat template, such as `enable_thinking`.
    ///
    /// # Errors
    /// If the template fails under them.
    pub fn with_template_variables(mut self, variables: &Map<String, Value>) -> Result<Self, NativeError> {
        if !variables.is_empty() {
            self.tokenizer = Arc::new(ChatTokenizer::clone(&self.tokenizer).with_variables(variables)?);
        }
        Ok(self)
    }

    /// Tokenizer, chat template and terminators of the model.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }

    /// Generators of this model.
    ///
    /// # Errors
    /// [`NativeError`]: the decoder cannot be packed, the tokenizer cannot be read, a thread cannot be started.
    pub fn generators(&self, options: NativeOptions) -> Result<Vec<NativeGenerator>, NativeError> {
        Ok(NativeGenerator::start(self.decoder.pack()?, self.tokenizer.clone(), options)?)
    }

    /// Generators of this model on the device that it was loaded to, by that device's name, with `memory` bytes for their cache
    /// and a step's intermediate values.
    ///
    /// # Errors
    /// [`NativeError`], also when the model has no kernels for a device, or the memory is not enough for one sequence.
    pub fn generators_on_device(
        &self,
        options: NativeOptions,
        (device, memory): (String, usize),
    ) -> Result<Vec<NativeGenerator>, NativeError> {
        let decoder = DeviceDecoder::new(&self.decoder)?;
        Ok(NativeGenerator::start_on_device(decoder, self.tokenizer.clone(), options, (device, memory))?)
    }

    fn score_packed(&self, batch: &[(Vec<u32>, Vec<u32>)], scores: &mut Vec<TokenScores>) -> Result<(), ScorerError> {
        let sequences = batch.iter().map(|(prompt, completion)| (prompt.as_slice(), completion.as_slice()));
        let packed = PackedBatch::from_sequences(sequences)?;
        let options = ScoreOptions { terminators: self.tokenizer.terminator_ids(), ..ScoreOptions::default() };
        let scored = self.decoder.score(&packed, &options)?;
        let log_probs = scored.log_probs().to_vec1::<f32>()?;
        for rows in packed.completions() {
            let end = scored.terminators().get(rows.end - 1).ok_or("the decoder gave no terminator scores")?;
            scores.push(TokenScores {
                logps: log_probs[rows.clone()].iter().map(|&logp| f64::from(logp)).collect(),
                terminator_logp: f64::from(end.log_prob),
                terminator_rank: end.rank,
            });
        }
        Ok(())
    }
}

impl TeacherForced for NativeModel {
    fn score(&mut self, items: &[Item<'_>]) -> Result<Vec<TokenScores>, ScorerError> {
        let encode = |item: &Item<'_>| -> Result<_, ScorerError> {
            let ids = self.tokenizer.encode_completion(item.prompt, item.completion)?;
            Ok((ids.prompt_ids, ids.completion_ids))
        };
        let sequences = items.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let mut scores = Vec::with_capacity(items.len());
        for batch in batches(&sequences, |(prompt, completion)| prompt.len() + completion.len()) {
            self.score_packed(batch, &mut scores)?;
        }
        Ok(scores)
    }

    fn log_probs(&mut self, prompt: &[Message], token_ids: &[u32]) -> Result<Vec<f32>, ScorerError> {
        let prompt = self.tokenizer.encode_prompt(prompt)?;
        let batch = PackedBatch::from_sequences([(prompt.as_slice(), token_ids)])?;
        Ok(self.decoder.log_probs(&batch)?.to_vec1()?)
    }

    fn token_ids(&self, pieces: &[String]) -> Option<Vec<u32>> {
        self.tokenizer.ids_of_pieces(pieces)
    }
}
