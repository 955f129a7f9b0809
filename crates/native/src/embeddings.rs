//! Embeddings of texts: the mean of the decoder's last hidden states over the tokens.

use smpo_inference::{Embedder, InferenceError, unit};
use smpo_model::PackedBatch;

use crate::NativeModel;
use crate::batches::{BATCH_TOKENS, batches};

impl Embedder for NativeModel {
    /// Of a text longer than the model's context, or 8192 tokens, the beginning.
    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
        let longest = self.decoder.spec().max_positions.unwrap_or(BATCH_TOKENS).min(BATCH_TOKENS);
        let encode = |text: &&str| -> Result<Vec<u32>, InferenceError> {
            let encoded = self.tokenizer.tokenizer().encode_fast(*text, true).map_err(|error| failed(&error))?;
            let mut ids = encoded.get_ids().to_vec();
            ids.truncate(longest);
            Ok(ids)
        };
        let sequences = texts.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in batches(&sequences, Vec::len) {
            self.pool(batch, &mut vectors)?;
        }
        Ok(vectors)
    }

    fn batch(&self) -> usize {
        256
    }
}

impl NativeModel {
    fn pool(&self, batch: &[Vec<u32>], vectors: &mut Vec<Vec<f32>>) -> Result<(), InferenceError> {
        // the last token of a sequence is only predicted: any follows the text
        let sequences = batch.iter().map(|ids| (ids.as_slice(), &[0][..]));
        let packed = PackedBatch::from_sequences(sequences).map_err(|error| failed(&error))?;
        let hidden = self.decoder.hidden(&packed).map_err(|error| failed(&error))?;
        let width = self.decoder.spec().hidden_size;
        let hidden: Vec<f32> =
            hidden.flatten_all().and_then(|hidden| hidden.to_vec1()).map_err(|error| failed(&error))?;
        let mut rows = hidden.chunks_exact(width);
        for ids in batch {
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
