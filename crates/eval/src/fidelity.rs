//! Fidelity check: an engine's log-probs against those of a reference forward pass, before anything is measured.
//!
//! An engine that is wrong produces exactly the symptoms that are measured here, loops and no terminator, so beyond the
//! tolerance nothing is measured. It samples as the run will, with as many requests in flight: batching is where
//! engines break.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use smpo_inference::{
    Completion, Fidelity, Generator, InferenceError, QUANTISED, Request, Sampler, TeacherForced, check_fidelity,
    default_tolerance, generate_each,
};
use smpo_results::FidelityInfo;

use crate::evaluate::Engines;
use crate::prompts::Prompt;
use crate::suite::Suite;

/// Prompts whose completions are re-scored, spread over the suite by position.
const PROMPTS: usize = 3;
/// The longest prompts, which are re-scored as well: windows and rotary scaling show on nothing else.
const LONGEST: usize = 2;
/// The reference of a fidelity check, in `run.json`.
pub(crate) const OWN: &str = "smpo's forward pass";
/// Tokens of each: a contaminated cache shows from the first.
const TOKENS: u32 = 48;

/// Errors of the fidelity check.
#[derive(Debug, thiserror::Error)]
pub enum FidelityError {
    /// The completions could not be compared.
    #[error("fidelity check: {0}")]
    Engine(#[from] InferenceError),
    /// The engine's log-probs are not those of the reference forward pass.
    #[error("{}", explain(.fidelity, *.tolerance))]
    Disagreement {
        /// The comparison.
        fidelity: Box<Fidelity>,
        /// Maximum |Δ log-prob| allowed, in nats.
        tolerance: f64,
        /// Maximum |Δ log-prob| with one request in flight, in nats, if that is within the tolerance: batching is at
        /// fault, not the model.
        sequential: Option<f64>,
    },
}

impl FidelityError {
    /// True if every log-prob is off by the factor ln 10: the engine reports decimal logarithms.
    pub fn is_decimal(&self) -> bool {
        let FidelityError::Disagreement { fidelity, sequential: None, .. } = self else { return false };
        let ratio = fidelity.worst.as_ref().map_or(0.0, |worst| f64::from(worst.reference) / f64::from(worst.engine));
        (ratio / std::f64::consts::LN_10 - 1.0).abs() < 0.01
    }

    /// The tolerance of quantised weights, if the disagreement is beyond that of a dtype and looks like their rounding: a
    /// server does not say that its weights are quantised.
    pub fn quantised_tolerance(&self) -> Option<f64> {
        let FidelityError::Disagreement { fidelity, sequential: None, .. } = self else { return None };
        let tolerance = default_tolerance(Some(QUANTISED));
        let beyond_rounding = fidelity.max_abs_nats > default_tolerance(None);
        (beyond_rounding && fidelity.is_noise(tolerance)).then_some(tolerance)
    }
}

/// The sentence on a disagreement.
pub(crate) fn explain(fidelity: &Fidelity, tolerance: f64) -> String {
    let Fidelity { max_abs_nats, mean_abs_nats, p95_abs_nats, tokens, worst, .. } = fidelity;
    let mut text = format!(
        "the engine does not reproduce this model's log-probs: max |Δ| {} nats over {} (tolerance {tolerance}; mean {}, \
         95th percentile {})",
        nats(*max_abs_nats, tolerance),
        smpo_suggest::counted(tokens, "token"),
        nats(*mean_abs_nats, 0.0),
        nats(*p95_abs_nats, 0.0)
    );
    if let Some(worst) = worst {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            ", at token {} of prompt {:?}: engine {}, reference {}",
            worst.step, worst.prompt_id, worst.engine, worst.reference
        );
    }
    text
}

/// A number of nats, with the digits that show it above `bound` where it is.
fn nats(value: f64, bound: f64) -> String {
    let short = format!("{value:.3}");
    let shows = |text: &str| text.parse::<f64>().is_ok_and(|shown| shown > bound);
    if value <= bound || shows(&short) {
        return short;
    }
    let scientific = format!("{value:.1e}");
    if shows(&scientific) { scientific } else { value.to_string() }
}

/// The sampler of a fidelity check: one under which the reported log-probs are the model's own.
pub(crate) fn sampler(suite: &Suite, engines: &Engines) -> Sampler {
    if engines.sampled_log_probs { Sampler::temperature(1.0) } else { suite.sampler }
}

/// Bound on the disagreement of an engine.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    /// Maximum |Δ log-prob|, in nats.
    pub tolerance: f64,
    /// Mean and 95th percentile are bounded too, as of noise.
    noise: bool,
}

impl Bound {
    /// The given tolerance, which is one for the maximum alone, or the default of a dtype.
    pub fn of(tolerance: Option<f64>, dtype: Option<String>) -> Self {
        Bound {
            tolerance: tolerance.unwrap_or_else(|| default_tolerance(dtype.as_deref())),
            noise: tolerance.is_none() && dtype.as_deref() == Some(QUANTISED),
        }
    }

    /// True if the disagreement is within the bound.
    pub fn holds(&self, fidelity: &Fidelity) -> bool {
        if self.noise { fidelity.is_noise(self.tolerance) } else { fidelity.within(self.tolerance) }
    }
}

/// |Δ log-prob| between the generators of the one worker and `engines.scorer`, if the maximum is within `tolerance` (default:
/// [`default_tolerance`] of the engine's dtype). `None` without a scorer, or if the engine gives no log-probs that
/// belong to token ids.
///
/// # Errors
/// [`FidelityError`].
pub fn check(
    suite: &Suite,
    engines: &mut Engines,
    tolerance: Option<f64>,
) -> Result<Option<FidelityInfo>, FidelityError> {
    let sampler = sampler(suite, engines);
    let (Some(scorer), [worker]) = (engines.scorer.as_deref_mut(), &mut engines.workers[..]) else { return Ok(None) };
    let generators = &mut worker.generators[..];
    let bound = Bound::of(tolerance, generators.first().and_then(|one| one.engine().dtype));
    let agrees = |fidelity: &Fidelity| bound.holds(fidelity);
    let tolerance = bound.tolerance;
    let Some(fidelity) = compare(generators, scorer, suite, sampler)? else { return Ok(None) };
    if agrees(&fidelity) {
        return Ok(Some(info(&fidelity, OWN)));
    }
    let sequential = match generators {
        [first, _, ..] => compare(std::slice::from_mut(first), scorer, suite, sampler).ok().flatten(),
        _ => None,
    };
    let sequential = sequential.filter(|alone| agrees(alone)).map(|alone| alone.max_abs_nats);
    Err(FidelityError::Disagreement { fidelity: Box::new(fidelity), tolerance, sequential })
}

/// Compares the first generator with `other`, an independent implementation of the same model: what both draw up to the
/// first token on which they part. `None` if there is nothing to compare.
pub fn cross_check(suite: &Suite, engines: &mut Engines) -> Option<FidelityInfo> {
    let mut other = engines.cross_check.take()?;
    let generator = engines.workers.first_mut()?.generators.first_mut()?;
    let mut completions = Vec::new();
    for request in requests(suite, suite.sampler, 1) {
        let (Ok(mut one), Ok(two)) = (generator.generate(&request), other.generate(&request)) else { continue };
        let (Some(ids), Some(other_ids)) = (&mut one.token_ids, &two.token_ids) else { continue };
        let common = ids.iter().zip(other_ids).take_while(|(a, b)| a == b).count();
        ids.truncate(common);
        one.logps.iter_mut().for_each(|logps| logps.truncate(common));
        completions.push((request, one, two.logps.unwrap_or_default()));
    }
    let mut logps = completions.iter().filter(|(_, one, _)| one.token_ids.as_ref().is_some_and(|ids| !ids.is_empty()));
    let pairs = completions.iter().map(|(request, one, _)| (request, one));
    let compared = check_fidelity(pairs, |_, ids| {
        let (_, _, other) = logps.next().ok_or("no completion left")?;
        Ok::<_, &str>(other[..ids.len().min(other.len())].to_vec())
    });
    let engine = other.engine();
    compared.ok().map(|fidelity| info(&fidelity, &format!("{} {}", engine.name, engine.version)))
}

/// The comparison as `run.json` records it.
pub(crate) fn info(fidelity: &Fidelity, reference: &str) -> FidelityInfo {
    FidelityInfo {
        reference: reference.to_owned(),
        completions: fidelity.completions,
        tokens: fidelity.tokens,
        mean: fidelity.mean_abs_nats,
        p95: fidelity.p95_abs_nats,
        max: fidelity.max_abs_nats,
    }
}

/// Samples a few prompts and re-scores the completions; `None` if none has log-probs that belong to token ids.
fn compare(
    generators: &mut [Box<dyn Generator>],
    scorer: &mut dyn TeacherForced,
    suite: &Suite,
    sampler: Sampler,
) -> Result<Option<Fidelity>, InferenceError> {
    let requests = requests(suite, sampler, generators.len());
    let mut completions = Vec::new();
    generate_each(generators, &requests, |index, result| {
        // A failure, for example a prompt that is too long, is recorded by the run as a failed sample.
        if let Ok(completion) = result {
            completions.push((&requests[index], with_ids(scorer, completion)));
        }
        ControlFlow::Continue(())
    });
    let pairs = completions.iter().map(|(request, completion)| (*request, completion));
    rescore(pairs, scorer)
}

/// Re-scores completions, ids added ([`with_ids`]); `None` if none has log-probs that belong to token ids.
pub(crate) fn rescore<'a>(
    completions: impl IntoIterator<Item = (&'a Request, &'a Completion)>,
    scorer: &mut dyn TeacherForced,
) -> Result<Option<Fidelity>, InferenceError> {
    match check_fidelity(completions, |messages, ids| scorer.log_probs(messages, ids)) {
        Ok(fidelity) => Ok(Some(fidelity)),
        Err(InferenceError::NothingToRescore { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Requests for [`PROMPTS`] prompts and the [`LONGEST`]. Samples of one prompt run side by side: mistral.rs confuses sequences of equal
/// length.
pub(crate) fn requests(suite: &Suite, sampler: Sampler, generators: usize) -> Vec<Request> {
    let step = suite.prompts.len().div_ceil(PROMPTS).max(1);
    let mut chosen: Vec<usize> = (0..suite.prompts.len()).step_by(step).collect();
    let length = |prompt: &Prompt| prompt.messages.iter().map(|message| message.content.len()).sum::<usize>();
    let mut by_length: Vec<usize> = (0..suite.prompts.len()).filter(|index| !chosen.contains(index)).collect();
    by_length.sort_by_key(|&index| (Reverse(length(&suite.prompts[index])), index));
    chosen.extend(by_length.into_iter().take(LONGEST));
    let prompts: Vec<&Prompt> = chosen.into_iter().map(|index| &suite.prompts[index]).collect();
    let samples = generators.div_ceil(prompts.len().max(1)).max(1) as u32;
    prompts
        .iter()
        .flat_map(|prompt| {
            (0..samples).map(|sample| Request {
                prompt_id: prompt.id.clone(),
                sample,
                messages: prompt.messages.clone(),
                sampler,
                max_tokens: suite.cap.min(TOKENS),
                seed: suite.seed,
                extra_body: Default::default(),
            })
        })
        .collect()
}

/// Adds token ids to a completion of which a server reports the text of each token instead.
pub(crate) fn with_ids(scorer: &dyn TeacherForced, mut completion: Completion) -> Completion {
    if let (None, Some(pieces)) = (&completion.token_ids, &completion.pieces) {
        completion.token_ids = scorer.token_ids(pieces);
    }
    completion
}
