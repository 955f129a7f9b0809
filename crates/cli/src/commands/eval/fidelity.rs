//! Holding an engine against this program's own forward pass before anything is measured.
//!
//! An engine that is wrong produces exactly what is measured here, loops and no terminator, so beyond the tolerance
//! nothing is measured. It is asked as the run will ask it, with as many requests in flight: batching is what breaks
//! engines.

use std::ops::ControlFlow;

use anyhow::{Context, anyhow};
use smpo_eval::Suite;
use smpo_inference::{
    Completion, Fidelity, Generator, HttpGenerator, InferenceError, Request, Sampler, check_fidelity,
    default_tolerance, generate_each,
};
use smpo_tokenizer::ChatTokenizer;

use super::forward::Forward;
use crate::exit::{Blame, Failure};

/// Prompts whose completions are re-scored, spread over the suite.
const PROMPTS: usize = 3;
/// Tokens of each: a contaminated cache shows from the first.
const TOKENS: u32 = 48;

/// The largest disagreement in nats that passes; `None` where the engine shows no log-probs to check.
///
/// # Errors
/// An execution error with the figure beyond `tolerance`, which is the engine's default when absent.
pub fn check(
    generators: &mut [Box<dyn Generator>],
    forward: &Forward,
    suite: &Suite,
    tolerance: Option<f64>,
    name: &str,
) -> Result<Option<f64>, Failure> {
    let dtype = generators.first().and_then(|one| one.engine().dtype);
    let tolerance = tolerance.unwrap_or_else(|| default_tolerance(dtype.as_deref()));
    let Some(fidelity) =
        compare(generators, forward, suite).with_context(|| format!("{name}: fidelity check")).execution()?
    else {
        return Ok(None);
    };
    if fidelity.within(tolerance) {
        return Ok(Some(fidelity.max_abs_nats));
    }
    // Whether it is the batching or the model decides what to do about it.
    let alone = match generators {
        [first, _, ..] => compare(std::slice::from_mut(first), forward, suite).ok().flatten(),
        _ => None,
    };
    let remedy = match alone {
        Some(alone) if alone.within(tolerance) => format!(
            "; one request at a time it agrees to {:.1e} nats: it breaks under load, and --concurrency 1 measures it",
            alone.max_abs_nats
        ),
        _ => decimal(&fidelity),
    };
    let worst = fidelity.worst.map_or_else(String::new, |worst| {
        format!(
            "; worst at token {} of prompt {:?}: engine {}, own forward pass {}",
            worst.step, worst.prompt_id, worst.engine, worst.reference
        )
    });
    Err(Failure::Execution(anyhow!(
        "{name}: the engine's log-probs differ from this program's own forward pass by up to {:.3} nats over {} tokens, \
         expected at most {tolerance}{worst}; what it samples is another model's{remedy}. --no-fidelity-check measures \
         it all the same",
        fidelity.max_abs_nats,
        fidelity.tokens
    )))
}

/// mistralrs-server reports decimal logarithms: one factor on every token.
fn decimal(fidelity: &Fidelity) -> String {
    let factor = fidelity.worst.as_ref().map_or(0.0, |worst| f64::from(worst.reference) / f64::from(worst.engine));
    if (factor / std::f64::consts::LN_10 - 1.0).abs() < 0.01 {
        "; its log-probs look decimal: try --logprob-base ten".into()
    } else {
        String::new()
    }
}

/// Samples as the run will and re-scores; `None` where nothing carries log-probs that fit tokens.
fn compare(
    generators: &mut [Box<dyn Generator>],
    forward: &Forward,
    suite: &Suite,
) -> Result<Option<Fidelity>, InferenceError> {
    let step = suite.prompts.len().div_ceil(PROMPTS).max(1);
    let prompts: Vec<_> = suite.prompts.iter().step_by(step).collect();
    // Samples of one prompt side by side: sequences of equal length are what mistral.rs confuses.
    let samples = generators.len().div_ceil(prompts.len().max(1)).max(1) as u32;
    // A server may give the log-probs of what it draws from: at temperature 1 those are the model's own. A local engine
    // records the model's own always.
    let served = generators.first().is_some_and(|one| one.engine().name == HttpGenerator::ENGINE);
    let sampler = if served { Sampler::temperature(1.0) } else { suite.sampler };
    let requests: Vec<Request> = prompts
        .iter()
        .flat_map(|prompt| {
            (0..samples).map(|sample| Request {
                prompt_id: prompt.id.clone(),
                sample,
                messages: prompt.messages.clone(),
                sampler,
                max_tokens: suite.cap.min(TOKENS),
                seed: suite.seed,
            })
        })
        .collect();
    // It is asked for only where a server gives no ids; where it cannot be read, nothing is checked that needs it.
    let tokenizer = forward.sampling_tokenizer().ok();
    let mut completions = Vec::new();
    generate_each(generators, &requests, |index, result| {
        // What fails, too long for the model for one, is recorded by the run as a failed sample.
        if let Ok(completion) = result {
            completions.push((&requests[index], with_ids(tokenizer.as_ref(), completion)));
        }
        ControlFlow::Continue(())
    });
    let pairs = completions.iter().map(|(request, completion)| (*request, completion));
    match check_fidelity(pairs, |messages, ids| forward.rescore(messages, ids)) {
        Ok(fidelity) => Ok(Some(fidelity)),
        Err(InferenceError::NothingToRescore { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A server that shows the text of each token in place of its id is as good, where that says which token it was.
fn with_ids(tokenizer: Option<&ChatTokenizer>, mut completion: Completion) -> Completion {
    if let (None, Some(tokenizer), Some(pieces)) = (&completion.token_ids, tokenizer, &completion.pieces) {
        completion.token_ids = tokenizer.ids_of_pieces(pieces);
    }
    completion
}
