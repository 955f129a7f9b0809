//! The exit code of a verdict, in one place.

use smpo_results::Decision;

/// What an inconclusive verdict means to whoever called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnInconclusive {
    /// Its own exit code, 3.
    #[default]
    Report,
    /// Exit 0, as if passed.
    Pass,
    /// Exit 1, as if failed.
    Fail,
}

/// 0 pass, 1 fail, 3 inconclusive unless told otherwise. (2, a usage error, and 4, an execution error, are
/// not verdicts.)
pub fn exit_code(decision: Decision, inconclusive: OnInconclusive) -> u8 {
    match (decision, inconclusive) {
        (Decision::Pass, _) | (Decision::Inconclusive, OnInconclusive::Pass) => 0,
        (Decision::Fail, _) | (Decision::Inconclusive, OnInconclusive::Fail) => 1,
        (Decision::Inconclusive, OnInconclusive::Report) => 3,
    }
}
