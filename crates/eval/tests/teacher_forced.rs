//! Gold answers and held-out pairs through a scorer that is arithmetic, not a model.

use smpo_data::PreferencePair;
use smpo_eval::teacher_forced::{TeacherForcedError, measure_gold, measure_pairs};
use smpo_eval::{ALL, HELD_OUT, Item, Prompt, ScorerError, Suite, TeacherForced, TokenScores, measure};
use smpo_inference::Sampler;
use smpo_results::Message;

/// log p = −0.1 per character of the completion, a terminator of −len.
struct Arithmetic {
    largest_batch: usize,
}

impl TeacherForced for Arithmetic {
    fn score(&mut self, items: &[Item<'_>]) -> Result<Vec<TokenScores>, ScorerError> {
        self.largest_batch = self.largest_batch.max(items.len());
        Ok(items
            .iter()
            .map(|item| {
                let len = item.completion[0].content.len();
                let mut logps = vec![-0.1 * len as f64; len];
                logps.push(-(len as f64));
                TokenScores { logps, terminator_logp: -(len as f64), terminator_rank: len as u32 }
            })
            .collect())
    }

    fn log_probs(&mut self, _: &[Message], token_ids: &[u32]) -> Result<Vec<f32>, ScorerError> {
        Ok(vec![-0.1; token_ids.len()])
    }
}

fn suite(count: usize) -> Suite {
    let prompts = (0..count).map(|index| Prompt {
        id: format!("p{index}"),
        slice: "s".into(),
        messages: vec![Message::user("?")],
        reference: (index % 2 == 0).then(|| "x".repeat(index % 5 + 1)),
        language: None,
        closed: false,
        extra_body: Default::default(),
        cap: None,
        turn: None,
    });
    Suite {
        name: "t".into(),
        prompts: prompts.collect(),
        sampler: Sampler::greedy(),
        cap: 4,
        samples_per_prompt: 1,
        seed: 0,
        pairs: None,
    }
}

#[test]
fn gold_answers_are_scored_in_batches_and_joined_with_nothing_lost() {
    let mut scorer = Arithmetic { largest_batch: 0 };
    let mut seen = Vec::new();
    let rows = measure_gold(&suite(301), &mut scorer, |done, total| seen.push((done, total))).expect("scores");
    assert_eq!(rows.len(), 151);
    assert_eq!(seen.last(), Some(&(151, 151)));
    assert!((2..=64).contains(&scorer.largest_batch));
    assert_eq!((rows[1].prompt_id.as_str(), &rows[1].values["eos_logp_gold"]), ("p2", &vec![-3.0]));
    assert_eq!(rows[1].values["eos_rank_gold"], [3.0]);
    let measured = measure(&[], rows);
    let estimate = measured.metrics.get("eos_logp_gold", ALL).expect("measured");
    assert_eq!(estimate.n, 151);
    assert!(estimate.ci_low < estimate.value && estimate.value < estimate.ci_high && estimate.primary);
}

#[test]
fn pairs_give_accuracy_and_margin_in_their_own_slice() {
    let side = |text: &str| vec![Message::assistant(text)];
    let pair = |id: &str, chosen: &str, rejected: &str| PreferencePair {
        id: id.into(),
        prompt: vec![Message::user("?")],
        inputs: Default::default(),
        chosen: side(chosen),
        rejected: side(rejected),
        margin: None,
    };
    let pairs = [pair("a", "x", "xxxx"), pair("b", "xxx", "xx"), pair("c", "xx", "xxx"), pair("d", "x", "xx")];
    let rows = measure_pairs(&pairs, &mut Arithmetic { largest_batch: 0 }, |_, _| {}).expect("scores");
    assert_eq!(rows.iter().map(|row| row.values["pref_accuracy"][0]).collect::<Vec<_>>(), [1.0, 0.0, 1.0, 1.0]);
    // 1 token of −0.1 and a terminator of −1 against 4 of −0.4 and −4
    assert!((rows[0].values["margin"][0] - (-1.1 / 2.0 + 5.6 / 5.0)).abs() < 1e-12);
    let metrics = measure(&[], rows).metrics;
    assert_eq!(metrics.get("pref_accuracy", HELD_OUT).map(|m| (m.value, m.n)), Some((0.75, 4)));
    assert!(metrics.get("loop_rate", ALL).is_none());
}

/// Breaks its contract in a chosen way.
struct Broken(fn(usize) -> Result<Vec<TokenScores>, ScorerError>);

impl TeacherForced for Broken {
    fn score(&mut self, items: &[Item<'_>]) -> Result<Vec<TokenScores>, ScorerError> {
        (self.0)(items.len())
    }

    fn log_probs(&mut self, _: &[Message], _: &[u32]) -> Result<Vec<f32>, ScorerError> {
        Err("not needed here".into())
    }
}

#[test]
fn broken_scorers_are_named() {
    let run = |scorer: fn(usize) -> Result<Vec<TokenScores>, ScorerError>| {
        measure_gold(&suite(3), &mut Broken(scorer), |_, _| {}).expect_err("broken")
    };
    let error = run(|_| Err("out of memory".into()));
    assert!(matches!(&error, TeacherForcedError::Scorer { first, .. } if first == "p0"), "{error}");
    let error = run(|_| Ok(Vec::new()));
    assert!(matches!(error, TeacherForcedError::Count { expected: 2, got: 0, .. }), "{error}");
    let error =
        run(|count| Ok(vec![TokenScores { logps: vec![f64::NAN], terminator_logp: -1.0, terminator_rank: 0 }; count]));
    assert!(matches!(&error, TeacherForcedError::NotFinite { id, .. } if id == "p0"), "{error}");
    let error = run(|count| Ok(vec![TokenScores { logps: vec![], terminator_logp: -1.0, terminator_rank: 0 }; count]));
    assert!(error.to_string().contains("at least one token"), "{error}");
}
