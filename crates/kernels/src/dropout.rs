//! Dropout (Srivastava and others, JMLR 15, 2014) by a mask that is a function of seed, stream and place.

use crate::dense::Dense;
use crate::device::{self, engine};
use crate::error::{KernelError, Result};
use crate::graph::record;
use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const OP: &str = "dropout";

/// Which elements are dropped: the same on every device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutMask {
    /// Share of the elements that become zero, in [0, 1).
    pub share: f64,
    /// Draws the mask.
    pub seed: u64,
    /// Sets masks of one seed apart.
    pub stream: u64,
    /// The place of the first element at hand among all that the mask is for, so that a part of the rows loses what it
    /// would lose among all.
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

    /// What each of `count` elements is multiplied by.
    fn factors(&self, count: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.stream);
        // One word an element, so that an element's fate does not depend on those before it being drawn.
        rng.set_word_pos(u128::from(self.first_element));
        let keep = self.keep();
        (0..count).map(|_| if rng.random::<f32>() < keep { 1.0 / keep } else { 0.0 }).collect()
    }
}

/// `x`, any shape, with a share of its elements zeroed and the others scaled up to make up for them.
///
/// # Errors
///
/// [`KernelError::Option`] for a share outside [0, 1); [`KernelError::Type`], [`KernelError::Device`] for an unfit
/// tensor.
pub fn dropout(x: &Tensor, mask: DropoutMask) -> Result<Tensor> {
    if !(0.0..1.0).contains(&mask.share) {
        let got = mask.share.to_string();
        return Err(KernelError::Option { op: OP, option: "share", expected: "from 0 to below 1", got });
    }
    if let Some(engine) = engine(x) {
        return device::dropout(&engine, x, mask);
    }
    let input = Dense::new(OP, "x", x)?;
    let factors = mask.factors(x.elem_count());
    let values = input.read().iter().zip(&factors).map(|(x, factor)| x * factor).collect();
    record(OP, &[x], values, x.dims(), move |gradient, _, out| {
        out.deliver(0, |buffer| {
            buffer.zero_unless_accumulating();
            for ((slope, dy), factor) in buffer.values.iter_mut().zip(gradient.iter()).zip(&factors) {
                *slope += dy * factor;
            }
        })
    })
}
