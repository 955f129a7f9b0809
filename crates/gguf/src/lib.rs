//! GGUF files (ggml/docs/gguf.md, versions 2 and 3): the header, the tensors with their blocks, and the tokenizer files of
//! Hugging Face that the metadata describes. Nothing here knows a model family.
//!
//! A header is hostile input. Its counts and lengths are held against the bytes of the file before anything is allocated
//! for them, lists stay in the file until they are asked for, and tensors lie inside the file, apart from each other: what
//! a file claims costs nothing, only what it holds does.
//!
//! ```no_run
//! # fn main() -> Result<(), smpo_gguf::GgufError> {
//! let file = smpo_gguf::GgufFile::open("model-00001-of-00003.gguf")?;
//! let tensor = file.tensor("blk.0.attn_q.weight").expect("a layer");
//! println!("{} {:?} {:?}", file.architecture()?, tensor.ggml_type(), tensor.shape());
//! let packed: Vec<u8> = tensor.bytes()?;
//! let values: Vec<f32> = tensor.dequantise()?;
//! # Ok(())
//! # }
//! ```

mod blocks;
mod companions;
mod error;
mod file;
mod ggml_type;
mod header;
mod metadata;
mod part;
mod split;
mod tokenizer;

pub use blocks::{dequantise, dequantise_into};
pub use companions::{companion, companions, tokenizer_home, write_companions};
pub use error::{GgufError, Result};
pub use file::{GgufFile, Tensor, is_gguf};
pub use ggml_type::GgmlType;
pub use metadata::Metadata;
