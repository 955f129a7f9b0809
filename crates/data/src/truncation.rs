//! Cutting rows to a maximum length.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Unfinished;

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

/// Maximum lengths of a row, in tokens, and the treatment of completions that did not end.
///
/// The prompt is cut to `max_prompt_length` and to nothing else; each completion is cut by its own length to what the
/// prompt leaves of `max_length`, whatever the other side's. A completion that was cut did not end.
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
    /// Treatment of completions that did not end.
    pub unfinished: Unfinished,
}

/// The loss of a row that was cut to length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Truncated {
    /// Tokens cut from the prompt.
    pub prompt: usize,
    /// Tokens cut from the completions, both sides together, without terminators of unfinished ones.
    pub completion: usize,
    /// True if nothing of a completion is left to learn from but, at most, its terminator.
    pub vanished: bool,
    /// True if the sides differ, but no longer in what is left of them.
    pub identical: bool,
}

impl Truncated {
    /// True if tokens were cut.
    pub fn any(self) -> bool {
        self.prompt + self.completion > 0
    }
}

impl Truncation {
    /// Cuts a prompt to `max_prompt_length`, but not to nothing: something must predict the first token of the
    /// completion. Returns the number of tokens cut.
    pub fn cut_prompt(&self, prompt: &mut Vec<u32>) -> usize {
        let begins_with_bos = self.bos.is_some() && prompt.first().copied() == self.bos;
        let least = 1 + usize::from(begins_with_bos);
        let target = self.max_prompt_length.unwrap_or(usize::MAX).max(least).min(prompt.len());
        let cut = prompt.len() - target;
        match self.keep {
            TruncationMode::KeepStart => prompt.truncate(target),
            TruncationMode::KeepEnd => {
                let from = usize::from(begins_with_bos);
                prompt.drain(from..from + cut);
            }
        }
        cut
    }

    /// Tokens that a prompt of `prompt` tokens leaves for each completion.
    pub fn room(&self, prompt: usize) -> usize {
        self.max_length.map_or(usize::MAX, |max| max.saturating_sub(prompt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_cut_at_the_end_that_is_not_kept_and_never_to_nothing() {
        use TruncationMode::{KeepEnd, KeepStart};
        for (prompt, max, keep, left) in [
            (&[1, 2, 3, 4][..], Some(4), KeepEnd, &[1, 2, 3, 4][..]),
            (&[1, 2, 3, 4], None, KeepEnd, &[1, 2, 3, 4]),
            (&[1, 2, 3, 4], Some(3), KeepEnd, &[2, 3, 4]),
            (&[1, 2, 3, 4], Some(3), KeepStart, &[1, 2, 3]),
            (&[1, 2, 3, 4], Some(0), KeepEnd, &[4]),
            (&[1, 2, 3, 4], Some(0), KeepStart, &[1]),
            // 9 is BOS: it stays where it begins the prompt, and something after it
            (&[9, 2, 3, 4], Some(3), KeepEnd, &[9, 3, 4]),
            (&[9, 2, 3, 4], Some(3), KeepStart, &[9, 2, 3]),
            (&[9, 2, 3, 4], Some(1), KeepEnd, &[9, 4]),
            (&[2, 9, 3, 4], Some(2), KeepEnd, &[3, 4]),
            (&[9], Some(1), KeepEnd, &[9]),
            (&[], Some(1), KeepEnd, &[]),
        ] {
            let bounds = Truncation { max_prompt_length: max, keep, bos: Some(9), ..Truncation::default() };
            let mut cut = prompt.to_vec();
            let lost = bounds.cut_prompt(&mut cut);
            assert_eq!((&cut[..], lost), (left, prompt.len() - left.len()), "{prompt:?} {max:?} {keep:?}");
        }
        let mut without_bos = vec![9, 2];
        Truncation { max_prompt_length: Some(1), ..Truncation::default() }.cut_prompt(&mut without_bos);
        assert_eq!(without_bos, [2]);
        Truncation::default().cut_prompt(&mut Vec::new());
    }

    #[test]
    fn the_prompt_leaves_what_is_left() {
        let room = |max_length, prompt| Truncation { max_length, ..Truncation::default() }.room(prompt);
        assert_eq!([room(Some(8), 5), room(Some(8), 8), room(Some(8), 9), room(None, 9)], [3, 0, 0, usize::MAX]);
    }

    #[test]
    fn any_token_that_is_cut_counts() {
        let cut = |prompt, completion| Truncated { prompt, completion, ..Truncated::default() }.any();
        assert_eq!([cut(0, 0), cut(1, 0), cut(0, 1), cut(1, 1)], [false, true, true, true]);
    }

    #[test]
    fn modes_are_named_as_configurations_write_them() {
        for mode in TruncationMode::ALL {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.name());
        }
    }
}
