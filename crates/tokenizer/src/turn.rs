//! The assistant's turns among the tokens of a completion.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// An assistant's turn whose tokens are scored, by places among the tokens of a completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Its tokens, the terminator last.
    pub tokens: Range<usize>,
    /// Of a turn that did not end: the place after its last token; what follows is the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<usize>,
}

impl Turn {
    /// Counts its places from the end of a prompt of `prompt` tokens.
    pub(crate) fn follow(&mut self, prompt: usize) {
        let after = |place: usize| place.saturating_sub(prompt);
        self.tokens = after(self.tokens.start)..after(self.tokens.end);
        self.cut = self.cut.map(after);
    }

    /// A turn that ended.
    pub fn finished(tokens: Range<usize>) -> Self {
        Self { tokens, cut: None }
    }
}
