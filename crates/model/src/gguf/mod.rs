//! Models in GGUF files: the configuration from the metadata, and the weights under Hugging Face's names.
//!
//! An architecture of GGUF is a constant `GGUF` in its family's file, named in the family's row of the table. Tensor names
//! follow from the layout (`names`), the plain fields of config.json from the metadata (`config`); an
//! `Architecture` holds what is particular.

mod architecture;
mod config;
mod convert;
mod names;
mod packed;
mod rope;
mod source;
mod weights;

pub(crate) use architecture::{Architecture, Rows};
pub(crate) use config::config_json;
pub use convert::convert;
pub(crate) use rope::{TEMPERATURE, scaling as rope_scaling};
pub use smpo_gguf::{GgmlType, GgufError, GgufFile, Metadata, Tensor, companion, dequantise, is_gguf};
pub(crate) use source::Source;
pub(crate) use weights::saved_dtype;
pub use weights::{Blocks, GgufWeights};
