//! Completions that did not end: those that say so, and those that `max_length` cuts.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_suggest::counted;

/// Treatment of a completion that did not end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unfinished {
    /// It has no terminator: none is appended, and none is scored.
    #[default]
    NoTerminator,
    /// Its row is left out; of a group, the completion alone.
    Drop,
    /// It ends in a terminator like any other: the model learns that the text ends where it was cut.
    KeepTerminator,
}

impl Unfinished {
    /// Every treatment.
    pub const ALL: [Self; 3] = [Self::NoTerminator, Self::Drop, Self::KeepTerminator];

    /// Name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoTerminator => "no_terminator",
            Self::Drop => "drop",
            Self::KeepTerminator => "keep_terminator",
        }
    }
}

/// Numbers of completions that did not end, repetitions of rows included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnfinishedCompletions {
    /// On the chosen side, instruction examples and desirable completions included.
    pub chosen: usize,
    /// On the rejected side, undesirable completions included.
    pub rejected: usize,
    /// In groups.
    pub grouped: usize,
    /// Rows left out because of one.
    pub dropped_rows: usize,
    /// Completions left out of their groups.
    pub dropped_completions: usize,
}

impl UnfinishedCompletions {
    /// True if there are any.
    pub fn any(self) -> bool {
        self.chosen + self.rejected + self.grouped + self.dropped_rows + self.dropped_completions > 0
    }
}

impl fmt::Display for UnfinishedCompletions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chosen, rejected, grouped, dropped_rows, dropped_completions } = self;
        let of_groups = grouped + dropped_completions;
        let mut parts = Vec::new();
        if of_groups == 0 || chosen + rejected + dropped_rows > 0 {
            let rows = counted(*dropped_rows, "row");
            parts.push(format!(
                "{chosen} chosen and {rejected} rejected completions did not end, {rows} left out for one"
            ));
        }
        if of_groups > 0 {
            let of_groups = counted(*grouped, "completion");
            let others = counted(*dropped_completions, "other");
            parts.push(format!("{of_groups} of groups did not end, {others} left out for it"));
        }
        f.write_str(&parts.join("; "))
    }
}
