//! A model with a head of labels and its tokenizer: a reward model, or a classifier.

use std::path::Path;

use smpo_inference::{Item, RewardModel, ScorerError};
use smpo_model::{Decoder, Labels, ModelDir, PackedBatch, Placement, ScoreOptions, Storage};
use smpo_tokenizer::ChatTokenizer;

use crate::NativeError;
use crate::batches::batches;

/// A reward model or a classifier, loaded.
pub struct LabelModel {
    decoder: Decoder,
    labels: Labels,
    tokenizer: ChatTokenizer,
    /// Tokens that the template writes after the end of the last turn.
    tail: Vec<u32>,
}

/// A conversation as token ids.
struct Sequence {
    /// Its place among the conversations.
    index: usize,
    prompt: Vec<u32>,
    completion: Vec<u32>,
}

impl Sequence {
    fn len(&self) -> usize {
        self.prompt.len() + self.completion.len()
    }
}

impl LabelModel {
    /// Loads a `…ForSequenceClassification` directory, or a PEFT adapter of one on `base` (default: the base that the
    /// adapter names).
    ///
    /// # Errors
    /// [`NativeError`]; also for a language model.
    pub fn load(model: &Path, base: Option<&Path>) -> Result<Self, NativeError> {
        let dir = ModelDir::open(model, base)?;
        let decoder = dir.load_frozen(&Placement::default(), &Storage::default())?;
        let labels = decoder.expect_labels(model)?.clone();
        let tokenizer = ChatTokenizer::of_model(dir.tokenizer(), dir.adapter())?;
        let tail = tokenizer.encode_tail()?;
        Ok(LabelModel { decoder, labels, tokenizer, tail })
    }

    /// As [`LabelModel::load`], for a reward model alone.
    ///
    /// # Errors
    /// [`NativeError`]; also for a language model and for a classifier.
    pub fn load_reward(model: &Path, base: Option<&Path>) -> Result<Self, NativeError> {
        let loaded = Self::load(model, base)?;
        match loaded.labels.is_reward() {
            true => Ok(loaded),
            false => Err(NativeError::NoReward { path: model.to_path_buf(), got: loaded.labels.to_string() }),
        }
    }

    /// Labels of the head.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Tokenizer, chat template and terminators of the model.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }

    /// The values that the head gives each conversation, one for each label; `None` for one that is longer than the model's
    /// context. A completion that says that it was cut is read at the last token of its text.
    ///
    /// # Errors
    /// When a conversation cannot be rendered or encoded, or a token is not in the model.
    pub fn values(&self, items: &[Item<'_>]) -> Result<Vec<Option<Vec<f64>>>, ScorerError> {
        let encode = |(index, item)| self.encode(index, item);
        self.run_all(items.iter().enumerate().map(encode).collect::<Result<_, _>>()?)
    }

    /// The same of texts and whole conversations, whoever speaks last, as token ids.
    ///
    /// # Errors
    /// When a text has no token, or one that is not in the model.
    pub fn values_of_texts(&self, texts: Vec<Vec<u32>>) -> Result<Vec<Option<Vec<f64>>>, ScorerError> {
        let sequence = |(index, mut prompt): (usize, Vec<u32>)| {
            if prompt.is_empty() {
                return Err("expected a text with at least one token, got none".into());
            }
            let completion = prompt.split_off(1);
            self.sequence(index, prompt, completion)
        };
        self.run_all(texts.into_iter().enumerate().map(sequence).collect::<Result<_, _>>()?)
    }

    fn run_all(&self, mut sequences: Vec<Sequence>) -> Result<Vec<Option<Vec<f64>>>, ScorerError> {
        let most = self.decoder.spec().max_positions.unwrap_or(usize::MAX);
        let mut values = vec![None; sequences.len()];
        sequences.retain(|sequence| sequence.len() <= most);
        for batch in batches(&sequences, Sequence::len) {
            self.run(batch, &mut values)?;
        }
        Ok(values)
    }

    fn encode(&self, index: usize, item: &Item<'_>) -> Result<Sequence, ScorerError> {
        let ids = self.tokenizer.encode_completion(item.prompt, item.completion)?;
        let mut completion = ids.completion_ids;
        match ids.turns.last().and_then(|turn| turn.cut) {
            Some(cut) => completion.truncate(cut),
            None => completion.extend_from_slice(&self.tail),
        }
        self.sequence(index, ids.prompt_ids, completion)
    }

    fn sequence(&self, index: usize, prompt: Vec<u32>, completion: Vec<u32>) -> Result<Sequence, ScorerError> {
        let vocabulary = self.decoder.spec().vocab_size;
        if let Some(id) = prompt.iter().chain(&completion).find(|id| **id as usize >= vocabulary) {
            return Err(format!(
                "its tokenizer gives token {id}, and the model has {vocabulary}: the tokenizer is another model's"
            )
            .into());
        }
        Ok(Sequence { index, prompt, completion })
    }

    /// Runs a batch; completions of one prompt that follow each other share it.
    fn run(&self, batch: &[Sequence], values: &mut [Option<Vec<f64>>]) -> Result<(), ScorerError> {
        let mut builder = PackedBatch::builder().turning_at(self.decoder.spec().turns_at());
        for alike in batch.chunk_by(|a, b| a.prompt == b.prompt) {
            let completions: Vec<&[u32]> = alike.iter().map(|sequence| sequence.completion.as_slice()).collect();
            builder.push_pooled(&alike[0].prompt, &completions, self.decoder.config().pad_token())?;
        }
        let packed = builder.build()?;
        let given = self.decoder.score(&packed, &ScoreOptions::default())?.values()?;
        for (sequence, given) in batch.iter().zip(given.chunks_exact(self.labels.count())) {
            if let Some(value) = given.iter().find(|value| !value.is_finite()) {
                return Err(format!("the head gives {value}: the weights or the arithmetic are broken").into());
            }
            values[sequence.index] = Some(given.iter().map(|&value| f64::from(value)).collect());
        }
        Ok(())
    }
}

impl RewardModel for LabelModel {
    fn rewards(&mut self, items: &[Item<'_>]) -> Result<Vec<Option<f64>>, ScorerError> {
        let values = self.values(items)?;
        Ok(values.into_iter().map(|values| values.and_then(|values| values.first().copied())).collect())
    }
}
