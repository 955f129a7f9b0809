//! The vectors of prompts, and the tokens that they choose.

use candle_core::{D, DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::MOST_NOISE;
use crate::error::TrainError;

/// Standard deviation of the vectors about where they start.
const SPREAD: f64 = 0.01;

/// The vectors of several prompts of one length.
#[derive(Debug)]
pub struct Codebook {
    prompts: usize,
    length: usize,
    /// Vectors, (prompts·length, `H`).
    pub values: Var,
    /// Scale of the noise, (1), learned as well.
    pub noise: Var,
}

/// Tokens that were chosen, and all that the way back needs.
#[derive(Debug)]
pub struct Choice {
    /// The likeliest token of each place.
    pub ids: Vec<u32>,
    /// Probabilities, (prompts·length, `V`).
    probabilities: Tensor,
    /// Gumbel noise, if there was any.
    gumbel: Option<Tensor>,
    temperature: f64,
}

/// Gradients of a codebook.
#[derive(Debug)]
pub struct CodebookGradient {
    /// Of the logits of the tokens at each place, before the noise, (prompts·length, `V`).
    pub logits: Tensor,
    /// Of the vectors.
    pub values: Tensor,
    /// Of the scale of the noise.
    pub noise: Tensor,
}

impl Codebook {
    /// Vectors near the embeddings of `init`, and near the mean embedding where that has ended. `table` (`V`, `H`) has the
    /// embeddings.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn new(
        table: &Tensor,
        (prompts, length): (usize, usize),
        init: &[u32],
        noise: f64,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let width = table.dim(1)?;
        let given = &init[..init.len().min(length)];
        let mut start = Vec::new();
        if !given.is_empty() {
            start.push(table.index_select(&Tensor::new(given, &Device::Cpu)?, 0)?);
        }
        if given.len() < length {
            start.push(table.mean_keepdim(0)?.broadcast_as((length - given.len(), width))?.contiguous()?);
        }
        let start = Tensor::cat(&vec![Tensor::cat(&start, 0)?; prompts], 0)?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let spread: Vec<f32> = (0..prompts * length * width).map(|_| (SPREAD * normal(&mut random)) as f32).collect();
        let spread = Tensor::from_vec(spread, (prompts * length, width), &Device::Cpu)?;
        let (values, noise) = ((start + spread)?, Tensor::new(&[noise as f32], &Device::Cpu)?);
        Ok(Codebook { prompts, length, values: Var::from_tensor(&values)?, noise: Var::from_tensor(&noise)? })
    }

    /// Chooses tokens under a temperature. `mask` (`V`) is −∞ for tokens that may not be chosen, else 0; `gumbel` is of the
    /// shape of the logits.
    ///
    /// # Errors
    /// When a product fails.
    pub fn choose(
        &self,
        table: &Tensor,
        mask: &Tensor,
        temperature: f64,
        gumbel: Option<Tensor>,
    ) -> Result<Choice, TrainError> {
        let logits = self.values.as_tensor().detach().matmul(&table.t()?)?.broadcast_add(mask)?;
        let noisy = match &gumbel {
            Some(gumbel) => (logits + gumbel.broadcast_mul(&self.noise.as_tensor().detach())?)?,
            None => logits,
        };
        let ids = noisy.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let scaled = (noisy / temperature)?;
        let scaled = scaled.broadcast_sub(&scaled.max_keepdim(D::Minus1)?)?.exp()?;
        let probabilities = scaled.broadcast_div(&scaled.sum_keepdim(D::Minus1)?)?;
        Ok(Choice { ids, probabilities, gumbel, temperature })
    }

    /// The tokens without noise, prompt by prompt.
    ///
    /// # Errors
    /// When a product fails.
    pub fn tokens(&self, table: &Tensor, mask: &Tensor) -> Result<Vec<Vec<u32>>, TrainError> {
        let ids = self.choose(table, mask, 1.0, None)?.ids;
        Ok(ids.chunks(self.length).map(<[u32]>::to_vec).collect())
    }

    /// Gumbel noise for one step, fixed by seed and step.
    ///
    /// # Errors
    /// When the tensor cannot be made.
    pub fn gumbel(&self, vocabulary: usize, seed: u64, step: u64) -> Result<Tensor, TrainError> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(step + 1);
        let places = self.prompts * self.length;
        let draw = |_| -(-f64::ln(random.random::<f64>().max(f64::MIN_POSITIVE))).max(f64::MIN_POSITIVE).ln() as f32;
        let noise: Vec<f32> = (0..places * vocabulary).map(draw).collect();
        Ok(Tensor::from_vec(noise, (places, vocabulary), &Device::Cpu)?)
    }

    /// Value and gradient of the mean cosine of each two prompts' mean vectors, times `weight`.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn similarity(&self, weight: f64) -> Result<(f64, Tensor), TrainError> {
        let values: Vec<f32> = self.values.as_tensor().flatten_all()?.to_vec1()?;
        let width = self.values.dim(1)?;
        let mean = |prompt: &[f32]| {
            let mut mean = vec![0.0; width];
            for row in prompt.chunks(width) {
                mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / self.length as f64);
            }
            mean
        };
        let means: Vec<Vec<f64>> = values.chunks(self.length * width).map(mean).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let norms: Vec<f64> = means.iter().map(|mean| dot(mean, mean).sqrt().max(1e-12)).collect();
        let pairs = (self.prompts * (self.prompts - 1) / 2).max(1) as f64;
        let mut value = 0.0;
        let mut gradients = vec![vec![0.0; width]; self.prompts];
        for i in 0..self.prompts {
            for j in i + 1..self.prompts {
                let cosine = dot(&means[i], &means[j]) / (norms[i] * norms[j]);
                value += weight * cosine / pairs;
                for (one, other) in [(i, j), (j, i)] {
                    for at in 0..width {
                        let toward = means[other][at] / (norms[i] * norms[j]);
                        let away = cosine * means[one][at] / (norms[one] * norms[one]);
                        gradients[one][at] += weight * (toward - away) / (pairs * self.length as f64);
                    }
                }
            }
        }
        let rows = gradients.iter().flat_map(|gradient| std::iter::repeat_n(gradient, self.length));
        let flat: Vec<f32> = rows.flatten().map(|value| *value as f32).collect();
        Ok((value, Tensor::from_vec(flat, self.values.shape(), &Device::Cpu)?))
    }

    /// Keeps the scale of the noise in its range.
    ///
    /// # Errors
    /// When the tensor cannot be written.
    pub fn clamp_noise(&self) -> Result<f64, TrainError> {
        let most = MOST_NOISE as f32;
        let noise = self.noise.as_tensor().to_vec1::<f32>()?[0].clamp(-most, most);
        self.noise.set(&Tensor::new(&[noise], &Device::Cpu)?)?;
        Ok(f64::from(noise))
    }
}

impl Choice {
    /// From the gradient of the embeddings that the model read, (prompts·length, `H`), as if they had been the means under
    /// the probabilities.
    ///
    /// # Errors
    /// When a product fails.
    pub fn backward(&self, table: &Tensor, embedded: &Tensor) -> Result<CodebookGradient, TrainError> {
        let of_probabilities = embedded.matmul(&table.t()?)?;
        let mean = (&self.probabilities * &of_probabilities)?.sum_keepdim(D::Minus1)?;
        let logits = (&self.probabilities * of_probabilities.broadcast_sub(&mean)?)?;
        let logits = (logits / self.temperature)?;
        let noise = match &self.gumbel {
            Some(gumbel) => (gumbel * &logits)?.sum_all()?.reshape(1)?,
            None => Tensor::zeros(1, DType::F32, &Device::Cpu)?,
        };
        Ok(CodebookGradient { values: logits.matmul(table)?, noise, logits })
    }
}

/// A draw from N(0, 1) (Box and Muller 1958).
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (random.random::<f64>().max(f64::MIN_POSITIVE), random.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
