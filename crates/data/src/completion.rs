//! A completion as token ids, and its cut to length.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use smpo_tokenizer::Turn;

use crate::Unfinished;

/// A completion as token ids. Its scored tokens are those of the assistant's turns; the others are context between them.
/// Of a data set, each finished turn ends in exactly one terminator, which is scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizedCompletion {
    ids: Vec<u32>,
    scored: Vec<Range<usize>>,
    is_terminator: Vec<bool>,
    finished: bool,
}

impl TokenizedCompletion {
    /// A finished completion of scored tokens alone, with the terminators among `ids` marked.
    pub fn new(ids: Vec<u32>, is_terminator: impl Fn(u32) -> bool) -> Self {
        let whole = std::iter::once(0..ids.len()).collect();
        Self::of_turns(ids, whole, true, is_terminator)
    }

    /// `scored` are places in `ids`, in order, without overlap. What follows the last of them predicts nothing and is
    /// left out.
    fn of_turns(
        mut ids: Vec<u32>,
        scored: Vec<Range<usize>>,
        finished: bool,
        is_terminator: impl Fn(u32) -> bool,
    ) -> Self {
        let within = scored.into_iter().map(|turn| turn.start..turn.end.min(ids.len()));
        let scored: Vec<Range<usize>> = within.filter(|turn| !turn.is_empty()).collect();
        ids.truncate(scored.last().map_or(0, |last| last.end));
        let is_terminator = scored.iter().flat_map(|turn| &ids[turn.clone()]).map(|&id| is_terminator(id)).collect();
        Self { ids, scored, is_terminator, finished }
    }

    /// Ids of all its tokens, those between the assistant's turns included.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Places of the scored tokens in [`TokenizedCompletion::ids`], a range per turn; the last one ends where the ids do.
    pub fn scored(&self) -> &[Range<usize>] {
        &self.scored
    }

    /// Ids of the scored tokens, `[T]`.
    pub fn scored_ids(&self) -> impl Iterator<Item = u32> {
        self.scored.iter().flat_map(|turn| &self.ids[turn.clone()]).copied()
    }

    /// True where the scored token is a terminator, `[T]`.
    pub fn is_terminator(&self) -> &[bool] {
        &self.is_terminator
    }

    /// Number of scored tokens, T.
    pub fn len(&self) -> usize {
        self.is_terminator.len()
    }

    /// True for a completion without scored tokens.
    pub fn is_empty(&self) -> bool {
        self.is_terminator.is_empty()
    }

    /// False for a completion of which a turn was cut before its end: that turn has no terminator, unless the
    /// configuration keeps it.
    pub fn finished(&self) -> bool {
        self.finished
    }
}

/// A completion before it is cut to length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CompletionIds {
    pub ids: Vec<u32>,
    /// Its scored turns; absent for a single one that is finished and all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    turns: Option<Vec<Turn>>,
}

impl CompletionIds {
    pub fn new(ids: Vec<u32>, turns: Vec<Turn>) -> Self {
        let is_plain = matches!(&turns[..], [turn] if turn.cut.is_none() && turn.tokens == (0..ids.len()));
        Self { ids, turns: (!is_plain).then_some(turns) }
    }

    /// Its scored turns.
    pub fn turns(&self) -> Vec<Turn> {
        self.turns.clone().unwrap_or_else(|| vec![Turn::finished(0..self.ids.len())])
    }

    /// True if every turn says that it ended.
    pub fn finished(&self) -> bool {
        self.turns.iter().flatten().all(|turn| turn.cut.is_none())
    }

    /// The same without its first `tokens`, which belong to the prompt.
    pub fn after(&self, tokens: usize) -> Self {
        let shifted = |turn: &Turn| Turn {
            tokens: turn.tokens.start.saturating_sub(tokens)..turn.tokens.end.saturating_sub(tokens),
            cut: turn.cut.map(|cut| cut.saturating_sub(tokens)),
        };
        let turns = self.turns.as_ref().map(|turns| turns.iter().map(shifted).collect());
        Self { ids: self.ids[tokens..].to_vec(), turns }
    }

    /// Cuts it to `room` tokens; returns how many were lost.
    pub fn cut(
        self,
        room: usize,
        unfinished: Unfinished,
        is_terminator: impl Fn(u32) -> bool,
    ) -> (TokenizedCompletion, usize) {
        let keeps_terminator = unfinished == Unfinished::KeepTerminator;
        let mut finished = self.finished();
        let of_turn =
            |turn: &Turn| turn.tokens.start..turn.cut.filter(|_| !keeps_terminator).unwrap_or(turn.tokens.end);
        let mut scored: Vec<Range<usize>> = self.turns().iter().map(of_turn).collect();
        let mut ids = self.ids;
        let whole = scored.last().map_or(0, |last| last.end);
        let terminator = ids.last().copied();
        if whole > room {
            finished = false;
            ids.truncate(room);
            scored.retain(|turn| turn.start < room);
            if keeps_terminator
                && let Some(last) = scored.last_mut().filter(|last| last.end > room)
                && let (Some(kept), Some(terminator)) = (ids.last_mut(), terminator)
            {
                *kept = terminator;
                last.end = room;
            }
        }
        let completion = TokenizedCompletion::of_turns(ids, scored, finished, is_terminator);
        let lost = whole - completion.ids.len();
        (completion, lost)
    }
}
