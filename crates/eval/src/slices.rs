//! Names of slices with a meaning of their own: no prompt may be in one.

/// Slice of the estimates over every prompt of a suite.
pub const ALL: &str = "all";

/// Slice of the held-out preference pairs.
pub const HELD_OUT: &str = "held_out";

/// Slice of prompts that name none.
pub const PLAIN: &str = "prompts";

/// The problem with a prompt's slice of such a name.
pub(crate) fn reserved(slice: &str) -> Option<String> {
    [ALL, HELD_OUT].contains(&slice).then(|| format!("the slice name {slice:?} is reserved; choose another"))
}
