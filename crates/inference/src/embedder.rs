//! Texts as vectors.

use crate::InferenceError;

/// A source of embeddings.
pub trait Embedder {
    /// A vector of length 1 for each text, all of one dimension.
    ///
    /// # Errors
    /// [`InferenceError`].
    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError>;

    /// Texts that are best given at once.
    fn batch(&self) -> usize;
}

/// The vector in its direction of length 1; `None` for one without a direction: zero, or not finite.
pub fn unit(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if !(length.is_finite() && length > 0.0) {
        return None;
    }
    vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    Some(vector)
}
