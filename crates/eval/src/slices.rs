//! Names of slices that are reserved: no suite may declare them.

/// Slice of the estimates over every prompt of a suite.
pub const ALL: &str = "all";

/// Slice of the held-out preference pairs.
pub const HELD_OUT: &str = "held_out";

/// Slice of prompts in a plain file that name none.
pub const PLAIN: &str = "prompts";
