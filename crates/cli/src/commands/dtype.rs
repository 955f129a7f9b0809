//! dtype of weights, as an option.

use clap::ValueEnum;
use smpo_model::WeightDtype;

/// dtype of saved weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    Float32,
    Bfloat16,
    Float16,
}

impl Dtype {
    pub fn weight_dtype(self) -> WeightDtype {
        match self {
            Dtype::Float32 => WeightDtype::F32,
            Dtype::Bfloat16 => WeightDtype::Bf16,
            Dtype::Float16 => WeightDtype::F16,
        }
    }
}
