//! One adapter: `y = W·x + b + s·B·A·x`, and DoRA's `m / ‖W + s·B·A‖ · (W + s·B·A)·x + b`.

use candle_core::{D, DType, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use smpo_kernels::{DropoutMask, LowRank, adapted_linear, adapted_linear_for_backward, add_linear, dropout, linear};

use super::{LoraConfig, LoraInit, Start};
use crate::error::Result;
use crate::linear::Product;
use crate::matrix::Matrix;
use crate::parameter::{Parameter, normal};
use crate::placement::{Placement, host_values};

/// The adapter of one linear layer with `K` inputs and `O` outputs.
#[derive(Debug, Clone)]
pub(crate) struct Adapter {
    /// (`r`, `K`).
    pub a: Parameter,
    /// (`O`, `r`).
    pub b: Parameter,
    /// DoRA's magnitudes, (`O`).
    pub magnitude: Option<Box<Parameter>>,
    /// α, which a pattern may set apart from the configuration's.
    pub alpha: f64,
    /// The part of the base that the adapter began as, which is taken out of the weight.
    pub start: Option<Start>,
    scale: f64,
    dropout: f64,
    /// Index of this adapter's stream of dropout masks.
    stream: u64,
}

/// Placement and configuration of an adapter.
#[derive(Clone, Copy)]
pub(crate) struct AdapterOptions<'a> {
    pub config: &'a LoraConfig,
    pub placement: &'a Placement,
    /// Index of its stream of dropout masks.
    pub stream: u64,
}

/// Values of an adapter's tensors, row-major.
pub(crate) struct AdapterValues {
    /// (`r`, `K`).
    pub a: Vec<f32>,
    /// (`O`, `r`).
    pub b: Vec<f32>,
    /// (`O`).
    pub magnitude: Option<Vec<f32>>,
}

/// Dropout of an adapter's inputs in a forward pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    pub seed: u64,
    /// Index of the first row within the batch: a part of the rows is dropped as within the whole.
    pub first_row: usize,
}

impl Dropout {
    /// The same dropout for the rows from `first_row` on.
    pub fn at_row(self, first_row: usize) -> Self {
        Self { first_row, ..self }
    }
}

/// Inputs of the fused head: the logits are `hidden · weightᵀ`.
pub(crate) struct HeadInputs {
    pub hidden: Tensor,
    pub weight: Tensor,
}

impl Adapter {
    /// The names of A, B and magnitude, as PEFT has them under its own prefix.
    pub fn names(module: &str) -> [String; 3] {
        [
            format!("{module}.lora_A.weight"),
            format!("{module}.lora_B.weight"),
            format!("{module}.lora_magnitude_vector"),
        ]
    }

    /// A new adapter, the identity: A drawn as PEFT does, B zero, magnitudes the weight's own.
    pub fn new(module: &str, weight: &Matrix, options: AdapterOptions<'_>, rng: &mut ChaCha8Rng) -> Result<Self> {
        let (outputs, inputs) = weight.shape()?;
        let AdapterOptions { config, placement, .. } = options;
        // Kaiming's uniform with a = √5, PyTorch's default for linear layers.
        let bound = (inputs as f32).powf(-0.5);
        let a = match config.init {
            LoraInit::Gaussian => normal(rng, config.r * inputs, 1.0 / config.r as f64),
            _ => (0..config.r * inputs).map(|_| rng.random_range(-bound..bound)).collect(),
        };
        let magnitude = match config.dora {
            true => Some(host_values(&row_norms(&weight.dense(placement)?.detach())?)?),
            false => None,
        };
        let values = AdapterValues { a, b: vec![0.0; outputs * config.r], magnitude };
        Self::from_values(module, weight, options, values)
    }

    /// An adapter with given values.
    pub fn from_values(
        module: &str,
        weight: &Matrix,
        options: AdapterOptions<'_>,
        values: AdapterValues,
    ) -> Result<Self> {
        let (outputs, inputs) = weight.shape()?;
        let AdapterOptions { config, placement, stream } = options;
        let [a_name, b_name, magnitude_name] = Self::names(module);
        Ok(Self {
            a: Parameter::trainable(a_name, values.a, &[config.r, inputs], placement)?,
            b: Parameter::trainable(b_name, values.b, &[outputs, config.r], placement)?,
            magnitude: match values.magnitude {
                Some(values) => Some(Box::new(Parameter::trainable(magnitude_name, values, &[outputs], placement)?)),
                None => None,
            },
            alpha: config.alpha,
            start: None,
            scale: config.scale(),
            dropout: config.dropout,
            stream,
        })
    }

    /// Rank.
    pub fn rank(&self) -> usize {
        self.a.tensor.dims()[0]
    }

    /// Factor on the update.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Sets the share of the inputs that is zeroed in training.
    pub fn set_dropout(&mut self, dropout: f64) {
        self.dropout = dropout;
    }

    /// True without magnitudes and, in this pass, without dropout.
    pub fn is_plain(&self, dropout: Option<Dropout>) -> bool {
        self.magnitude.is_none() && (dropout.is_none() || self.dropout == 0.0)
    }

    /// `x` (`N`, `K`) to (`N`, `O`).
    pub fn forward(
        &self,
        x: &Tensor,
        weight: &Matrix,
        bias: Option<&Tensor>,
        dropout: Option<Dropout>,
        product: Product,
    ) -> Result<Tensor> {
        let dropped = self.drop_inputs(x, dropout)?;
        let low = linear(dropped.as_ref().unwrap_or(x), &self.a.tensor, None)?;
        let update = LowRank { low: &low, b: &self.b.tensor, scale: self.scale };
        let Some(ratio) = self.magnitude_ratio(weight)? else {
            return Ok(match product {
                Product::Computed => adapted_linear(x, weight.weight(), bias, update)?,
                Product::ForBackward => adapted_linear_for_backward(x, weight.weight(), bias, update)?,
            });
        };
        match dropped {
            None => {
                let y = adapted_linear(x, weight.weight(), None, update)?.broadcast_mul(&ratio)?;
                match bias {
                    Some(bias) => Ok(y.broadcast_add(bias)?),
                    None => Ok(y),
                }
            }
            // As in PEFT: only DoRA's update gets the dropped inputs.
            Some(dropped) => {
                let base = linear(&dropped, weight.weight(), None)?;
                let sum = add_linear(&base, &low, &self.b.tensor, self.scale)?;
                let added = (sum.broadcast_mul(&ratio)? - base)?;
                Ok((linear(x, weight.weight(), bias)? + added)?)
            }
        }
    }

    /// The adapted head as one product, so that the fused head serves it: `[h, s·A·h] · [W, B]ᵀ`, and with DoRA the
    /// weight's rows scaled.
    pub fn head_inputs(&self, hidden: &Tensor, weight: &Matrix, dropout: Option<Dropout>) -> Result<HeadInputs> {
        let dropped = self.drop_inputs(hidden, dropout)?;
        let low = self.low_rank(dropped.as_ref().unwrap_or(hidden))?;
        let scaled = |w: &Tensor, ratio: &Option<Tensor>| match ratio {
            Some(ratio) => w.broadcast_mul(&ratio.unsqueeze(1)?),
            None => Ok(w.clone()),
        };
        let ratio = self.magnitude_ratio(weight)?;
        let weight = &*weight.dense(&self.placement())?;
        let low_weight = scaled(&self.b.tensor, &ratio)?;
        let (hidden, weight) = match (dropped, &ratio) {
            (Some(dropped), Some(_)) => {
                let beyond_base = (scaled(weight, &ratio)? - weight)?;
                (Tensor::cat(&[hidden, &dropped, &low], 1)?, Tensor::cat(&[weight, &beyond_base, &low_weight], 1)?)
            }
            _ => (Tensor::cat(&[hidden, &low], 1)?, Tensor::cat(&[&scaled(weight, &ratio)?, &low_weight], 1)?),
        };
        Ok(HeadInputs { hidden, weight })
    }

    /// The weight with the adapter in it, (`O`, `K`).
    pub fn merged(&self, weight: &Matrix) -> Result<Tensor> {
        let sum = self.adapted(weight)?;
        let merged = match self.magnitude_ratio(weight)? {
            Some(ratio) => sum.broadcast_mul(&ratio.detach().to_dtype(DType::F32)?.unsqueeze(1)?)?,
            None => sum,
        };
        Ok(merged.to_dtype(self.b.tensor.dtype())?)
    }

    /// Device and dtype of its parameters, which are those of activations.
    fn placement(&self) -> Placement {
        Placement::of(&self.a.tensor)
    }

    /// `s·A·x`, (`N`, `r`): scaled here, where there are the fewest values.
    fn low_rank(&self, x: &Tensor) -> Result<Tensor> {
        Ok((linear(x, &self.a.tensor, None)? * self.scale)?)
    }

    /// `s·B`, outside any graph.
    pub fn scaled_b(&self) -> Result<Tensor> {
        Ok((self.b.tensor.detach() * self.scale)?)
    }

    /// `W + s·B·A` in float32, outside any graph.
    fn adapted(&self, weight: &Matrix) -> Result<Tensor> {
        let [a, b] = [&self.a, &self.b].map(|factor| factor.tensor.detach().to_dtype(DType::F32));
        let weight = weight.dense(&self.placement())?.detach().to_dtype(DType::F32)?;
        Ok((weight + (b?.matmul(&a?)? * self.scale)?)?)
    }

    /// `m / ‖W + s·B·A‖` per output, (`O`); the norm is a constant to the gradient (DoRA, section 4.3).
    pub fn magnitude_ratio(&self, weight: &Matrix) -> Result<Option<Tensor>> {
        match &self.magnitude {
            None => Ok(None),
            Some(magnitude) => {
                let norms = row_norms(&self.adapted(weight)?)?.to_dtype(magnitude.tensor.dtype())?;
                Ok(Some((&magnitude.tensor / norms)?))
            }
        }
    }

    /// Zeroes a share of the values and scales up the others; `None` without dropout.
    fn drop_inputs(&self, x: &Tensor, dropped: Option<Dropout>) -> Result<Option<Tensor>> {
        let Some(Dropout { seed, first_row }) = dropped.filter(|_| self.dropout > 0.0) else {
            return Ok(None);
        };
        let (_, width) = x.dims2()?;
        let first_element = first_row as u64 * width as u64;
        Ok(Some(dropout(x, DropoutMask { share: self.dropout, seed, stream: self.stream, first_element })?))
    }

    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        [&self.a, &self.b].into_iter().chain(self.magnitude.as_deref())
    }

    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        [&mut self.a, &mut self.b].into_iter().chain(self.magnitude.as_deref_mut())
    }
}

/// Norm of each row, (`O`), in float32: candle would add bfloat16 in bfloat16, and squares of small float16 weights are zero.
fn row_norms(weight: &Tensor) -> candle_core::Result<Tensor> {
    weight.to_dtype(DType::F32)?.sqr()?.sum(D::Minus1)?.sqrt()
}
