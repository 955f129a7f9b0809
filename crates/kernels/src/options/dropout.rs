//! Dropout masks by seed, stream and index.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The elements to drop: the same on every device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutMask {
    /// Probability that an element becomes zero, in [0, 1).
    pub share: f64,
    /// Seed of the random stream.
    pub seed: u64,
    /// Sets masks of one seed apart.
    pub stream: u64,
    /// Index of the first element at hand among all that the mask is for: a part of the rows is masked as it would be
    /// among all rows.
    pub first_element: u64,
}

impl DropoutMask {
    /// The probability that an element stays.
    pub(crate) fn keep(&self) -> f32 {
        (1.0 - self.share) as f32
    }

    /// ChaCha's key.
    pub(crate) fn key(&self) -> [u32; 8] {
        let bytes = ChaCha8Rng::seed_from_u64(self.seed).get_seed();
        let mut key = [0; 8];
        for (word, bytes) in key.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        key
    }

    /// The factor of each of `count` elements: 0 or 1 / keep.
    pub(crate) fn factors(&self, count: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.stream);
        // One word an element, so that an element's factor does not depend on earlier ones being drawn.
        rng.set_word_pos(u128::from(self.first_element));
        let keep = self.keep();
        (0..count).map(|_| if rng.random::<f32>() < keep { 1.0 / keep } else { 0.0 }).collect()
    }
}
