//! Prompts of real tokens, learned for a model whose weights stay.
//!
//! Each place of a prompt has a vector; its dot products with the token embeddings, with Gumbel noise and under a temperature,
//! are a distribution over tokens ([`Codebook`]). The model reads the likeliest token, and the gradient passes through the
//! distribution as if it had read the mean embedding (straight-through; Jang et al. 2017, arXiv 1611.01144). The objective is
//! any of whole answers that needs no reference ([`FrozenModel`]). What counts is measured on held-out rows, with the text of
//! the tokens in the place where a user of it puts it ([`Found`]).

mod codebook;
mod frozen_model;
mod outcome;
mod rows;
mod run;
mod state;
mod tokens;

pub use codebook::{Choice, Codebook, CodebookGradient};
pub use frozen_model::FrozenModel;
pub use outcome::{Found, Optimized};
pub use rows::Slotted;
pub(crate) use run::{dry_run, train};
