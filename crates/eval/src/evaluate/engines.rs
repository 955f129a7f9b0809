//! The engines of one model: generators, and a scorer that is independent of them.

use smpo_inference::fleet::Patience;
use smpo_inference::{Generator, RewardModel, Served, TeacherForced};
use smpo_results::{RewardModelInfo, TerminatorSet};

/// Everything that runs the model under evaluation.
pub struct Engines {
    /// Servers or devices with the same model. Several share a run: each is checked by itself, requests are dealt to
    /// whoever has room, and one that fails is set aside.
    pub workers: Vec<Worker>,
    /// Failures and pauses of several workers.
    pub patience: Patience,
    /// Reference forward pass for the fidelity check and the teacher-forced metrics; without it both are skipped.
    pub scorer: Option<Box<dyn TeacherForced>>,
    /// Terminators of the model, if known, for the manifest.
    pub terminators: Option<TerminatorSet>,
    /// SHA-256 of the chat template, if known, for the manifest.
    pub template_sha256: Option<String>,
    /// The generators may report log-probs of the distribution they sample from (servers do) instead of the model's
    /// own at temperature 1; the fidelity check then samples at temperature 1, where the two are equal.
    pub sampled_log_probs: bool,
    /// Use one generator only unless the fidelity check has passed with all of them.
    pub sequential_unless_checked: bool,
    /// Another implementation of the same model, which a few completions are compared with.
    pub cross_check: Option<Box<dyn Generator>>,
    /// Model that gives each sample a reward, with its name for the manifest.
    pub reward: Option<(RewardModelInfo, Box<dyn RewardModel>)>,
}

/// A server or a device with the model.
pub struct Worker {
    /// URL without credentials, or device.
    pub name: String,
    /// One thread and one request in flight each.
    pub generators: Vec<Box<dyn Generator>>,
    /// The server's part in the completions so far, where the generators are connections to one.
    pub server: Option<Server>,
}

impl Worker {
    /// A worker on its own account.
    pub fn new<G: Generator + 'static>(name: impl Into<String>, generators: impl IntoIterator<Item = G>) -> Self {
        let generators = generators.into_iter().map(|one| Box::new(one) as Box<dyn Generator>).collect();
        Worker { name: name.into(), generators, server: None }
    }
}

/// A server behind generators.
pub struct Server {
    /// Model name that is requested of it.
    pub model: String,
    /// Its part in the completions so far.
    pub served: Box<dyn Fn() -> Served + Send>,
}

impl Engines {
    /// Generators alone: neither fidelity check nor teacher-forced metrics.
    pub fn new<G: Generator + 'static>(generators: impl IntoIterator<Item = G>) -> Self {
        Engines::of(vec![Worker::new("", generators)])
    }

    /// As [`Engines::new`], on several servers or devices.
    pub fn of(workers: Vec<Worker>) -> Self {
        Engines {
            workers,
            patience: Patience::default(),
            scorer: None,
            terminators: None,
            template_sha256: None,
            sampled_log_probs: false,
            sequential_unless_checked: false,
            cross_check: None,
            reward: None,
        }
    }

    /// Adds a reference forward pass of the same model.
    #[must_use]
    pub fn with_scorer(self, scorer: impl TeacherForced + 'static) -> Self {
        Engines { scorer: Some(Box::new(scorer)), ..self }
    }
}
