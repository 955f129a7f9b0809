//! Cutting rows to a maximum length.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The end of a prompt that is kept when it is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TruncationMode {
    /// Its end, with the last question and the assistant's header (and BOS, where it begins with it).
    #[default]
    KeepEnd,
    /// Its beginning.
    KeepStart,
}

impl TruncationMode {
    /// Both modes.
    pub const ALL: [Self; 2] = [Self::KeepEnd, Self::KeepStart];

    /// Name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeepEnd => "keep_end",
            Self::KeepStart => "keep_start",
        }
    }
}

/// Maximum lengths of a row, in tokens. The prompt is cut first, down to one token (two with BOS), since
/// something must predict the first token of the completion; then the completion loses its end, but never the
/// terminator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Truncation {
    /// Maximum tokens of prompt and completion together.
    pub max_length: Option<usize>,
    /// Maximum tokens of the prompt.
    pub max_prompt_length: Option<usize>,
    /// The end of the prompt that is kept.
    pub keep: TruncationMode,
    /// The BOS id, kept at the start of a prompt that begins with it.
    pub bos: Option<u32>,
}

/// Tokens that were cut from a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Truncated {
    /// From the prompt.
    pub prompt: usize,
    /// From the completions, both sides together.
    pub completion: usize,
    /// True if a completion lost all but its terminator: the row would train the model to answer nothing.
    pub vanished: bool,
}

impl Truncated {
    /// True if tokens were cut.
    pub fn any(self) -> bool {
        self.prompt + self.completion > 0
    }
}

impl Truncation {
    /// Cuts a prompt and its completions; they share the prompt, so the longest completion decides its length.
    pub fn apply(&self, prompt: &mut Vec<u32>, completions: &mut [&mut Vec<u32>]) -> Truncated {
        let longest = completions.iter().map(|completion| completion.len()).max().unwrap_or(0);
        let begins_with_bos = self.bos.is_some() && prompt.first().copied() == self.bos;
        let room = self.max_length.map_or(usize::MAX, |max| max.saturating_sub(longest));
        let least = 1 + usize::from(begins_with_bos);
        let target = self.max_prompt_length.unwrap_or(usize::MAX).min(room).max(least).min(prompt.len());
        let cut = prompt.len() - target;
        match self.keep {
            TruncationMode::KeepStart => prompt.truncate(target),
            TruncationMode::KeepEnd => {
                let from = usize::from(begins_with_bos);
                prompt.drain(from..from + cut);
            }
        }
        let room = self.max_length.map_or(usize::MAX, |max| max.saturating_sub(prompt.len()).max(1));
        let mut truncated = Truncated { prompt: cut, ..Truncated::default() };
        for completion in completions {
            let lost = shorten(completion, room);
            truncated.completion += lost;
            truncated.vanished |= lost > 0 && completion.len() == 1;
        }
        truncated
    }
}

/// Cuts a completion to `room` tokens, the last of them its terminator; returns how many were lost.
fn shorten(completion: &mut Vec<u32>, room: usize) -> usize {
    let before = completion.len();
    if let Some(&terminator) = completion.last()
        && before > room
    {
        completion.truncate(room - 1);
        // the cut may fall right behind an earlier turn's end
        while completion.last() == Some(&terminator) {
            completion.pop();
        }
        completion.push(terminator);
    }
    before - completion.len()
}
