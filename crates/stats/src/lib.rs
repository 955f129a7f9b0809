//! Estimates, intervals, tests and power for paired evaluations of language models.
//!
//! The unit is the prompt: two models answer the same prompts, so everything here is paired by prompt.
//! Averaging the samples of a prompt first and resampling prompts afterwards keeps standard errors honest (Miller, *Adding Error Bars to Evals*, arXiv:2411.00640).
//!
//! | question | function |
//! |---|---|
//! | a share in one arm | [`proportion::wilson`], [`proportion::clopper_pearson`] |
//! | one binary sample per prompt, two arms | [`binary::mcnemar`], [`binary::tango`], [`binary::newcombe`] |
//! | a mean difference over prompts | [`bootstrap::means`] + [`bootstrap::bca`], [`permutation::sign_flip`] |
//! | two arms alike within a margin | [`equivalence::tango`], [`equivalence::student`] |
//! | several training seeds per arm | [`hierarchical::compare`] |
//! | lengths cut by a cap | [`survival::kaplan_meier`] |
//! | many metrics | [`multiplicity::holm`], [`multiplicity::benjamini_hochberg`] |
//! | all of k samples good | [`proportion::all_of`] |
//! | how many prompts, how small an effect | [`power`] |
//!
//! Resampling is seeded: resample `r` draws from its own stream of one ChaCha8 generator, so results are the
//! same bytes whatever the number of threads. Nothing here reads or writes files.

pub mod binary;
pub mod bootstrap;
pub mod distribution;
pub mod equivalence;
mod error;
pub mod hierarchical;
pub mod interval;
pub mod multiplicity;
pub mod permutation;
pub mod power;
pub mod proportion;
pub mod survival;

pub use error::StatsError;
pub use interval::Interval;
