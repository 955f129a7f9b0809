//! Comparison of an engine's log-probs with those of a reference forward pass, before anything is measured with it.
//!
//! An engine that breaks under load (contaminated key–value caches, a wrong rotary table, a head that is not the
//! model's) produces exactly the symptom that is measured here: loops and no terminator. Re-scoring a few of its
//! completions, token by token, with an independent forward pass distinguishes the two: log-probs of one model agree to
//! rounding, log-probs of another do not.

use smpo_chat::Message;

use crate::{Completion, InferenceError, Request};

/// One token on which the engine and the reference differ most.
#[derive(Debug, Clone, PartialEq)]
pub struct Disagreement {
    /// The prompt.
    pub prompt_id: String,
    /// The sample.
    pub sample: u32,
    /// Position in the completion.
    pub step: usize,
    /// The token id.
    pub token: u32,
    /// The engine's log-prob, in nats.
    pub engine: f32,
    /// The reference's log-prob, in nats.
    pub reference: f32,
}

/// The outcome of a fidelity check.
#[derive(Debug, Clone, PartialEq)]
pub struct Fidelity {
    /// Completions that could be compared.
    pub completions: usize,
    /// Tokens that were compared.
    pub tokens: usize,
    /// Mean absolute disagreement, in nats.
    pub mean_abs_nats: f64,
    /// 95th percentile of the absolute disagreement, in nats.
    pub p95_abs_nats: f64,
    /// Largest absolute disagreement, in nats; infinite where one side is not finite and the other differs.
    pub max_abs_nats: f64,
    /// The token with that disagreement; absent when no token differs.
    pub worst: Option<Disagreement>,
}

impl Fidelity {
    /// True if every token agrees to within `tolerance` nats.
    pub fn within(&self, tolerance: f64) -> bool {
        self.max_abs_nats <= tolerance
    }

    /// True if the disagreement looks like noise rather than another model: hardly any token beyond a fraction of the
    /// maximum allowed, which contaminated caches and other weights exceed on many.
    pub fn is_noise(&self, tolerance: f64) -> bool {
        self.within(tolerance) && self.mean_abs_nats <= tolerance / 8.0 && self.p95_abs_nats <= tolerance / 2.0
    }
}

/// Dtype of an engine that computes with quantised weights.
pub const QUANTISED: &str = "quantised";

/// Tolerance in nats between two correct implementations, by the engine's dtype.
///
/// In float32 mistral.rs and transformers agree to about 2e-6; a contaminated cache shows 0.1 and more. An engine of
/// quantised weights rounds its activations to 8 bits too: SmolLM2-135M in Q4_1 through mistral.rs is at most 0.27 nats off its
/// own dequantised weights, and healthy, while contaminated caches are 1.9 off. The errors of independent roundings are
/// normal, with a standard deviation σ of about 0.08 there, and the largest of the 200 or so tokens compared is at 3 σ; 0.8
/// nats are 10 σ. So noise of this kind passes ([`Fidelity::is_noise`] looks at its mean and 95th percentile too), and
/// structure does not.
pub fn default_tolerance(dtype: Option<&str>) -> f64 {
    match dtype {
        Some("f32" | "float32" | "f64" | "float64") => 1e-3,
        Some(QUANTISED) => 0.8,
        _ => 5e-2,
    }
}

/// Compares recorded log-probs with those of `rescore`, which gets a conversation and the token ids of its
/// completion (terminator included) and returns the teacher-forced log-prob of each, in nats. It renders and
/// tokenises the conversation itself, so a prompt that the engine encodes differently shows as well. Completions without token
/// ids or log-probs are skipped.
///
/// # Errors
/// [`InferenceError::NothingToRescore`], [`InferenceError::Rescore`], [`InferenceError::RescoredLength`]. A
/// disagreement is no error here: see [`Fidelity::within`].
pub fn check_fidelity<'a, E: std::fmt::Display>(
    completions: impl IntoIterator<Item = (&'a Request, &'a Completion)>,
    mut rescore: impl FnMut(&[Message], &[u32]) -> Result<Vec<f32>, E>,
) -> Result<Fidelity, InferenceError> {
    let mut fidelity =
        Fidelity { completions: 0, tokens: 0, mean_abs_nats: 0.0, p95_abs_nats: 0.0, max_abs_nats: 0.0, worst: None };
    let (mut given, mut sum, mut differences) = (0, 0.0, Vec::new());
    for (request, completion) in completions {
        given += 1;
        let (Some(ids), Some(engine)) = (&completion.token_ids, &completion.logps) else { continue };
        if ids.is_empty() {
            continue;
        }
        let (prompt_id, sample) = (&request.prompt_id, request.sample);
        let reference = rescore(&request.messages, ids).map_err(|error| InferenceError::Rescore {
            prompt_id: prompt_id.clone(),
            sample,
            message: error.to_string(),
        })?;
        if reference.len() != ids.len() || engine.len() != ids.len() {
            return Err(InferenceError::RescoredLength {
                prompt_id: prompt_id.clone(),
                sample,
                expected: ids.len(),
                got: if reference.len() == ids.len() { engine.len() } else { reference.len() },
            });
        }
        fidelity.completions += 1;
        fidelity.tokens += ids.len();
        for (step, ((&engine, &reference), &token)) in engine.iter().zip(&reference).zip(ids).enumerate() {
            let difference = disagreement(engine, reference);
            sum += difference;
            differences.push(difference);
            if difference > fidelity.max_abs_nats {
                fidelity.max_abs_nats = difference;
                fidelity.worst =
                    Some(Disagreement { prompt_id: prompt_id.clone(), sample, step, token, engine, reference });
            }
        }
    }
    if fidelity.tokens == 0 {
        return Err(InferenceError::NothingToRescore { completions: given });
    }
    fidelity.mean_abs_nats = sum / fidelity.tokens as f64;
    differences.sort_by(f64::total_cmp);
    fidelity.p95_abs_nats = differences[(differences.len() * 95 / 100).min(differences.len() - 1)];
    Ok(fidelity)
}

fn disagreement(engine: f32, reference: f32) -> f64 {
    if engine == reference {
        return 0.0;
    }
    let difference = (f64::from(engine) - f64::from(reference)).abs();
    if difference.is_nan() { f64::INFINITY } else { difference }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sampler;

    fn case(prompt_id: &str, ids: Option<Vec<u32>>, logps: Option<Vec<f32>>) -> (Request, Completion) {
        let request = Request {
            prompt_id: prompt_id.into(),
            sample: 2,
            messages: vec![Message::user(prompt_id)],
            sampler: Sampler::greedy(),
            max_tokens: 8,
            seed: 0,
            extra_body: Default::default(),
        };
        let tokens = ids.as_ref().map(|ids| ids.len() as u32);
        let completion = Completion { token_ids: ids, logps, tokens, cap: 8, ..Completion::new("") };
        (request, completion)
    }

    fn check(
        cases: &[(Request, Completion)],
        rescore: impl FnMut(&[Message], &[u32]) -> Result<Vec<f32>, String>,
    ) -> Result<Fidelity, InferenceError> {
        check_fidelity(cases.iter().map(|(request, completion)| (request, completion)), rescore)
    }

    #[test]
    fn the_worst_token_is_named() {
        let cases = [
            case("a", Some(vec![1, 2]), Some(vec![-1.0, -2.0])),
            case("text only", None, None),
            case("b", Some(vec![3, 4, 5]), Some(vec![-1.0, -2.0, -3.0])),
        ];
        let fidelity = check(&cases, |messages, ids| {
            Ok(match messages[0].content.as_str() {
                "a" => vec![-1.0, -2.25],
                "b" => vec![-1.0, -1.5, -3.25],
                other => panic!("{other} has no log-probs and {ids:?} was re-scored"),
            })
        })
        .expect("comparable");
        assert_eq!((fidelity.completions, fidelity.tokens), (2, 5));
        assert_eq!(fidelity.max_abs_nats, 0.5);
        assert_eq!(fidelity.mean_abs_nats, (0.25 + 0.5 + 0.25) / 5.0);
        assert_eq!(fidelity.p95_abs_nats, 0.5);
        let worst = fidelity.worst.clone().expect("they differ");
        assert_eq!((worst.prompt_id.as_str(), worst.sample, worst.step, worst.token), ("b", 2, 1, 4));
        assert!(fidelity.within(0.5) && !fidelity.within(0.49));
    }

    #[test]
    fn noise_of_quantisation_is_told_from_structure() {
        let tolerance = default_tolerance(Some(QUANTISED));
        let of = |differences: &[f32]| {
            let ids: Vec<u32> = (0..differences.len() as u32).collect();
            let cases = [case("a", Some(ids), Some(vec![-1.0; differences.len()]))];
            check(&cases, |_, _| Ok(differences.iter().map(|difference| -1.0 - difference).collect()))
                .expect("comparable")
        };
        let noise: Vec<f32> = (0..100).map(|i| 0.27 * (i % 10) as f32 / 9.0 * (i % 10) as f32 / 9.0).collect();
        assert!(of(&noise).is_noise(tolerance), "{:?}", of(&noise));
        // One token far off, and many tokens off by little: neither is rounding.
        let mut spike = noise.clone();
        spike[50] = 1.9;
        assert!(!of(&spike).is_noise(tolerance));
        assert!(!of(&[0.3; 100]).is_noise(tolerance));
    }

    #[test]
    fn not_finite_never_passes_unless_both_agree() {
        let cases = [case("a", Some(vec![1, 2]), Some(vec![f32::NEG_INFINITY, -1.0]))];
        let same = check(&cases, |_, _| Ok(vec![f32::NEG_INFINITY, -1.0])).expect("comparable");
        assert_eq!(same.max_abs_nats, 0.0);
        for reference in [[f32::NEG_INFINITY, f32::NAN], [-3.0, -1.0]] {
            let fidelity = check(&cases, |_, _| Ok(reference.to_vec())).expect("comparable");
            assert!(!fidelity.within(1e9), "{reference:?}: {fidelity:?}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let cases = [case("a", Some(vec![1, 2]), Some(vec![-1.0, -2.0]))];
        let short = check(&cases, |_, _| Ok(vec![-1.0])).expect_err("short");
        assert!(matches!(short, InferenceError::RescoredLength { expected: 2, got: 1, .. }), "{short}");
        let failed = check(&cases, |_, _| Err("no weights".to_string())).expect_err("failed");
        assert!(failed.to_string().contains("no weights"), "{failed}");
        let nothing = check(&[case("t", None, None)], |_, _| Ok(vec![])).expect_err("nothing");
        assert!(matches!(nothing, InferenceError::NothingToRescore { completions: 1 }), "{nothing}");
    }
}
