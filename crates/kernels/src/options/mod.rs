//! Arguments that are no tensors: options of the operations, dropout masks, packed segments, routed tokens.

mod adamw;
mod attention;
mod balance;
mod clamp;
mod delta;
mod draw;
mod dropout;
mod gate;
mod head;
mod norm;
mod rotary;
mod routing;
mod segments;

pub(crate) use adamw::UpdateFactors;
pub use adamw::{AdamWOptions, MomentFormat};
pub use attention::AttentionOptions;
pub(crate) use attention::Extents;
pub use balance::Balance;
pub use clamp::Clamp;
pub use delta::DeltaHeads;
pub use draw::{DrawnToken, TokenDraw};
pub use dropout::DropoutMask;
pub use gate::Gate;
pub(crate) use head::TOP_TOKENS;
pub use head::{HeadOptions, RowEntropy, TerminatorScore};
pub use norm::NormOptions;
pub use rotary::RotaryPairs;
pub use routing::{RouterOptions, Routing};
pub(crate) use segments::{AttentionPlan, PairList};
pub use segments::{Segments, Span};
