//! This program's own forward pass over given completions: what the engine is checked against, and what gives
//! teacher-forced measures.

use std::path::{Path, PathBuf};

use anyhow::Context;
use smpo_eval::teacher_forced::{Item, ScorerError, TeacherForced, TokenScores};
use smpo_model::{Decoder, ModelDir, PackedBatch, PackedDecoder, ScoreOptions};
use smpo_results::{Message, TerminatorSet};
use smpo_tokenizer::{ChatTokenizer, TokenizerError};

/// Tokens packed into one forward pass.
const BATCH_TOKENS: usize = 8192;

/// A model and its tokenizer.
pub struct Forward {
    /// What was asked for: the directory, or that of an adapter.
    model: PathBuf,
    /// The directory of the weights.
    weights: PathBuf,
    decoder: Decoder,
    tokenizer: ChatTokenizer,
    terminators: Vec<u32>,
}

impl Forward {
    /// Loads a Hugging Face directory or a PEFT adapter on one.
    pub fn load(model: &Path, base: Option<&Path>) -> anyhow::Result<Self> {
        let dir = ModelDir::open(model, base)?;
        let decoder = dir.load()?;
        let tokenizer = ChatTokenizer::from_model_dir(dir.companions())?;
        let terminators = tokenizer.terminators().ids();
        let weights = dir.weights().to_owned();
        Ok(Forward { model: model.to_owned(), weights, decoder: decoder.frozen(), tokenizer, terminators })
    }

    /// Every token that ends a turn.
    pub fn terminators(&self) -> TerminatorSet {
        self.tokenizer.terminators().into()
    }

    /// The same model, to sample from.
    pub fn pack(&self) -> anyhow::Result<PackedDecoder> {
        Ok(self.decoder.pack()?)
    }

    /// Tokenizer to sample with: the base's, with the template of an adapter where it brings one, as for every engine.
    pub fn sampling_tokenizer(&self) -> Result<ChatTokenizer, TokenizerError> {
        ChatTokenizer::from_files(&self.weights.join("tokenizer.json"), &self.model, Some(&self.weights))
    }

    /// log p of each token of a completion that somebody else sampled, terminator included, in nats.
    pub fn rescore(&self, messages: &[Message], ids: &[u32]) -> anyhow::Result<Vec<f32>> {
        let prompt = self.tokenizer.encode_prompt(messages)?;
        let batch = PackedBatch::from_sequences([(prompt.as_slice(), ids)])?;
        Ok(self.decoder.log_probs(&batch)?.to_vec1()?)
    }

    fn score_packed(&self, batch: Vec<(Vec<u32>, Vec<u32>)>, scores: &mut Vec<TokenScores>) -> anyhow::Result<()> {
        let sequences = batch.iter().map(|(prompt, completion)| (prompt.as_slice(), completion.as_slice()));
        let packed = PackedBatch::from_sequences(sequences)?;
        let options = ScoreOptions { terminators: &self.terminators, ..ScoreOptions::default() };
        let scored = self.decoder.score(&packed, &options)?;
        let log_probs = scored.log_probs().to_vec1::<f32>()?;
        for rows in packed.completions() {
            let end = scored.terminators().get(rows.end - 1).context("no standing of the terminators")?;
            scores.push(TokenScores {
                logps: log_probs[rows.clone()].iter().map(|&logp| f64::from(logp)).collect(),
                terminator_logp: f64::from(end.log_prob),
                terminator_rank: end.rank,
            });
        }
        Ok(())
    }
}

impl TeacherForced for Forward {
    fn score(&mut self, items: &[Item<'_>]) -> Result<Vec<TokenScores>, ScorerError> {
        let mut scores = Vec::with_capacity(items.len());
        let (mut batch, mut tokens) = (Vec::new(), 0);
        for item in items {
            let ids = self.tokenizer.encode_completion(item.prompt, item.completion)?;
            let len = ids.prompt_ids.len() + ids.completion_ids.len();
            if tokens + len > BATCH_TOKENS && !batch.is_empty() {
                self.score_packed(std::mem::take(&mut batch), &mut scores)?;
                tokens = 0;
            }
            tokens += len;
            batch.push((ids.prompt_ids, ids.completion_ids));
        }
        if !batch.is_empty() {
            self.score_packed(batch, &mut scores)?;
        }
        Ok(scores)
    }
}
