//! Element types of weights, as an option.

use clap::ValueEnum;
use smpo_model::Element;

/// The element type of weights that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    Float32,
    Bfloat16,
    Float16,
}

impl Dtype {
    pub fn element(self) -> Element {
        match self {
            Dtype::Float32 => Element::F32,
            Dtype::Bfloat16 => Element::Bf16,
            Dtype::Float16 => Element::F16,
        }
    }
}
