//! Arguments that are no tensors: options of the operations, dropout masks, packed segments.

mod adamw;
mod attention;
mod dropout;
mod head;
mod norm;
mod rotary;
mod segments;

pub(crate) use adamw::UpdateFactors;
pub use adamw::{AdamWOptions, MomentFormat};
pub use attention::AttentionOptions;
pub(crate) use attention::Extents;
pub use dropout::DropoutMask;
pub(crate) use head::TOP_TOKENS;
pub use head::{HeadOptions, RowEntropy, TerminatorScore};
pub use norm::NormOptions;
pub use rotary::RotaryPairs;
pub(crate) use segments::{AttentionPlan, PairList};
pub use segments::{Segments, Span};
