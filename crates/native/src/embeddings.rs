//! Embeddings of texts: the mean of the decoder's last hidden states over the tokens.

use smpo_inference::{Embedder, InferenceError, unit};
use smpo_model::PackedBatch;

use crate::NativeModel;
use crate::model::BATCH_TOKENS;

impl Embedder for NativeModel {
    /// Of a text longer than the model's context, or 8192 tokens, the beginning.
    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
        let longest = self.decoder.spec().max_positions.unwrap_or(BATCH_TOKENS).min(BATCH_TOKENS);
        let mut vectors = Vec::with_capacity(texts.len());
        let (mut batch, mut tokens) = (Vec::new(), 0);
        for text in texts {
            let encoded = self.tokenizer.tokenizer().encode_fast(*text, true).map_err(|error| failed(&error))?;
            let mut ids = encoded.get_ids().to_vec();
            ids.truncate(longest);
            if tokens + ids.len() > BATCH_TOKENS && !batch.is_empty() {
                self.pool(std::mem::take(&mut batch), &mut vectors)?;
                tokens = 0;
            }
            tokens += ids.len();
            batch.push(ids);
        }
        if !batch.is_empty() {
            self.pool(batch, &mut vectors)?;
        }
        Ok(vectors)
    }

    fn batch(&self) -> usize {
        256
    }
}

impl NativeModel {
    fn pool(&self, batch: Vec<Vec<u32>>, vectors: &mut Vec<Vec<f32>>) -> Result<(), InferenceError> {
        // the last token of a sequence is only predicted: any follows the text
        let sequences = batch.iter().map(|ids| (ids.as_slice(), &[0][..]));
        let packed = PackedBatch::from_sequences(sequences).map_err(|error| failed(&error))?;
        let hidden = self.decoder.hidden(&packed).map_err(|error| failed(&error))?;
        let width = self.decoder.spec().hidden_size;
        let hidden: Vec<f32> =
            hidden.flatten_all().and_then(|hidden| hidden.to_vec1()).map_err(|error| failed(&error))?;
        let mut rows = hidden.chunks_exact(width);
        for ids in &batch {
            let mut sum = vec![0.0; width];
            for row in rows.by_ref().take(ids.len()) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            }
            let mean = sum.into_iter().map(|sum| sum as f32).collect();
            vectors.push(unit(mean).ok_or_else(|| failed(&"a hidden state is not finite"))?);
        }
        Ok(())
    }
}

fn failed(problem: &dyn std::fmt::Display) -> InferenceError {
    InferenceError::Embeddings { source_name: "the model".into(), message: problem.to_string() }
}
