//! The exit code of a verdict, decided in one place.

use smpo_results::{Decision, ExitCode};

/// Exit code of an inconclusive verdict.
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

/// Exit code of a decision.
pub fn exit_code(decision: Decision, inconclusive: OnInconclusive) -> ExitCode {
    match (decision, inconclusive) {
        (Decision::Pass, _) | (Decision::Inconclusive, OnInconclusive::Pass) => ExitCode::Pass,
        (Decision::Fail, _) | (Decision::Inconclusive, OnInconclusive::Fail) => ExitCode::Fail,
        (Decision::Inconclusive, OnInconclusive::Report) => ExitCode::Inconclusive,
    }
}
