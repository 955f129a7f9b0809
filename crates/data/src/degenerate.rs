//! Groups that say nothing.

use std::fmt;

/// Groups without a preference among their completions, repetitions included: they are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DegenerateGroups {
    /// With fewer than two completions.
    pub small: usize,
    /// With one reward for all completions.
    pub tied: usize,
}

/// The reason why a group with `rewards` says nothing; `None` where it says something.
pub(crate) fn degenerate(rewards: &[f64]) -> Option<&'static str> {
    match rewards {
        [] | [_] => Some(SMALL),
        [first, rest @ ..] => rest.iter().all(|reward| reward == first).then_some(TIED),
    }
}

const SMALL: &str = "fewer than two completions";
const TIED: &str = "one reward for all completions";

impl DegenerateGroups {
    /// True if there are any.
    pub fn any(self) -> bool {
        self.small + self.tied > 0
    }

    /// Counts `copies` of a group, if it says nothing; true if so.
    pub(crate) fn count(&mut self, rewards: &[f64], copies: usize) -> bool {
        let reason = degenerate(rewards);
        match reason {
            Some(SMALL) => self.small += copies,
            Some(_) => self.tied += copies,
            None => {}
        }
        reason.is_some()
    }
}

impl fmt::Display for DegenerateGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { small, tied } = self;
        let groups = smpo_suggest::counted(small + tied, "group");
        write!(f, "{groups} left out: {small} with {SMALL}, {tied} with {TIED}")
    }
}
