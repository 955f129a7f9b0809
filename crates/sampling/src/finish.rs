//! The end of a completion.

use serde::{Deserialize, Serialize};

/// Reason for which a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model drew a terminator of its full set.
    Eos,
    /// A stop string cut it. No engine here sends one; completions sampled elsewhere may have been cut so.
    Stop,
    /// It reached the cap: right-censored.
    Length,
    /// The engine failed; the text is what had arrived.
    Error,
    /// The engine or the file format does not say.
    Unknown,
}
