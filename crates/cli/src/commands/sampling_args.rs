//! Options that replace a suite's sampling settings.

use smpo_eval::Suite;

use crate::exit::Failure;

/// Cap, samples per prompt, seed and sampler.
#[derive(Debug, Default, clap::Args)]
pub struct SamplingArgs {
    /// Maximum new tokens per completion [default: the suite's]
    #[arg(long, value_name = "TOKENS", help_heading = "Sampling")]
    pub cap: Option<u32>,
    /// Completions per prompt [default: the suite's]
    #[arg(long, value_name = "K", help_heading = "Sampling")]
    pub samples: Option<u32>,
    /// Sampling seed [default: the suite's]
    #[arg(long, help_heading = "Sampling")]
    pub seed: Option<u64>,
    /// Sampling temperature; 0 is greedy [default: the suite's]
    #[arg(long, help_heading = "Sampling")]
    pub temperature: Option<f64>,
    /// Top-k sampling: keep the K most likely tokens [default: the suite's]
    #[arg(long, value_name = "K", help_heading = "Sampling")]
    pub top_k: Option<u32>,
    /// Top-p (nucleus) sampling: keep the smallest set of tokens with cumulative probability ≥ P
    /// [default: the suite's]
    #[arg(long, value_name = "P", help_heading = "Sampling")]
    pub top_p: Option<f64>,
    /// Min-p sampling: keep tokens with probability ≥ P × that of the most likely token [default: the suite's]
    #[arg(long, value_name = "P", help_heading = "Sampling")]
    pub min_p: Option<f64>,
}

impl SamplingArgs {
    /// Replaces what is given in a suite that was checked.
    ///
    /// # Errors
    /// A value out of range.
    pub fn apply(&self, suite: &mut Suite) -> Result<(), Failure> {
        suite.cap = self.cap.unwrap_or(suite.cap);
        suite.samples_per_prompt = self.samples.unwrap_or(suite.samples_per_prompt);
        suite.seed = self.seed.unwrap_or(suite.seed);
        suite.sampler.temperature = self.temperature.unwrap_or(suite.sampler.temperature);
        suite.sampler.top_k = self.top_k.or(suite.sampler.top_k);
        suite.sampler.top_p = self.top_p.or(suite.sampler.top_p);
        suite.sampler.min_p = self.min_p.or(suite.sampler.min_p);
        suite.check().map_err(|problem| Failure::user(of_option(&problem)))
    }
}

/// A problem of a suite's field as one of the option that gave it.
fn of_option(problem: &str) -> String {
    let (field, problem) = problem.split_once(": ").unwrap_or(("", problem));
    let option = match field.strip_prefix("sampler.").unwrap_or(field) {
        "samples_per_prompt" => "samples".to_owned(),
        field => field.replace('_', "-"),
    };
    format!("--{option}: {problem}")
}
