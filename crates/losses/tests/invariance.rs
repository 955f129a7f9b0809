//! Invariances: memory around a completion, the order of pairs, the split into micro-batches.

mod strategies;

use proptest::prelude::*;
use smpo_losses::loss::SmpoConfig;
use smpo_losses::{Batch, Completion, Evaluation, Loss, LossConfig, LossState, Objective, Pair, Totals, WinsorScope};
use strategies::*;

fn check_close(a: &Evaluation, b: &Evaluation) -> Result<(), TestCaseError> {
    for ((name, x), (_, y)) in a.metrics().into_iter().zip(b.metrics()) {
        prop_assert!(close(x, y, 1e-9), "{name}: {x} and {y}");
    }
    prop_assert_eq!(a.metrics().len(), b.metrics().len());
    prop_assert_eq!(a.pairs.len(), b.pairs.len());
    for (x, y) in a.pairs.iter().zip(&b.pairs) {
        prop_assert!(close(x.po_loss, y.po_loss, 1e-9));
        let weights = x.chosen_weights.iter().chain(&x.rejected_weights);
        for (x, y) in weights.zip(y.chosen_weights.iter().chain(&y.rejected_weights)) {
            prop_assert!(close(*x, *y, 1e-9), "{x} and {y}");
        }
    }
    Ok(())
}

/// A batch, and two of its splits into micro-batches.
fn split_batch() -> impl Strategy<Value = (Vec<Sides>, Vec<usize>)> {
    prop::collection::vec(sides(), 2..7).prop_flat_map(|pairs| {
        let cuts = prop::collection::vec(any::<bool>(), pairs.len() - 1);
        (Just(pairs), cuts).prop_map(|(pairs, cuts)| {
            let mut sizes = vec![1];
            for cut in cuts {
                match sizes.last_mut() {
                    Some(last) if !cut => *last += 1,
                    _ => sizes.push(1),
                }
            }
            (pairs, sizes)
        })
    })
}

fn widened(mut config: LossConfig) -> LossConfig {
    if config.transforms.winsor_scope == WinsorScope::Microbatch {
        config.transforms.winsor_scope = WinsorScope::Step;
        config.transforms = without_idle(config.transforms);
    }
    config
}

proptest! {
    #![proptest_config(cases(cases_over_losses() / 4))]

    #[test]
    fn what_surrounds_a_completion_is_never_read(
        config in configs(),
        pairs in batch(sides()),
        prompt in 0..5usize,
        padding in 0..5usize,
    ) {
        // One long row each, as a padded tensor would hold it: anything but completion tokens is poison.
        let row = |values: &[f64]| [&vec![f64::NAN; prompt][..], values, &vec![f64::INFINITY; padding]].concat();
        let flags = |values: &[bool]| [&vec![true; prompt][..], values, &vec![true; padding]].concat();
        let rows: Vec<_> = pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected])
            .map(|side| {
                let numbers = [&side.logps[..], &side.ref_logps, side.borrow().entropy.unwrap()].map(row);
                (numbers, flags(&side.is_terminator), prompt..prompt + side.logps.len())
            })
            .collect();
        let completions: Vec<_> = rows.iter().map(|([logps, reference, entropy], terminators, span)| {
            Completion::new(&logps[span.clone()], &terminators[span.clone()])
                .with_reference(&reference[span.clone()])
                .with_entropy(&entropy[span.clone()])
        }).collect();
        let in_rows: Vec<_> = completions.chunks(2).map(|sides| Pair::new(sides[0], sides[1])).collect();
        let kl = mismatched();
        let kl = [kl.borrow()];
        let batch = Batch { mismatched: &kl, ..Batch::new(&in_rows) };
        let objective = Objective::new(config.clone()).unwrap();
        let got = objective.evaluate(&batch, &mut LossState::default()).unwrap();
        prop_assert_eq!(got, evaluate(&config, &pairs));
    }

    #[test]
    fn permuting_pairs_permutes_results(config in configs(), pairs in batch(sides()), by in 0..5usize) {
        // A window is about order, unless it holds everything.
        let mut config = config;
        if let WinsorScope::Window(_) = config.transforms.winsor_scope {
            config.transforms.winsor_scope = WinsorScope::Window(1000);
        }
        let by = by % pairs.len();
        let mut moved = pairs.clone();
        moved.rotate_left(by);
        moved.reverse();
        let mut expected = evaluate(&config, &pairs);
        expected.pairs.rotate_left(by);
        expected.pairs.reverse();
        check_close(&evaluate(&config, &moved), &expected)?;
    }

    #[test]
    fn the_split_changes_nothing_but_a_quantile_per_microbatch(config in configs(), (pairs, sizes) in split_batch()) {
        let config = widened(config);
        let (mut split, whole) = (evaluate_split(&config, &pairs, &sizes), evaluate(&config, &pairs));
        if config.transforms.winsor_scope == WinsorScope::Microbatch {
            // A floor alone is the same bound in each micro-batch, and is counted in each.
            let bounds = [&split, &whole].map(|evaluation| evaluation.statistics.clip_bound.value().unwrap_or(0.0));
            prop_assert!(close(bounds[0], bounds[1], 1e-12));
            split.statistics.clip_bound = whole.statistics.clip_bound;
        }
        prop_assert_eq!(split, whole);
    }

    #[test]
    fn microbatches_one_by_one_add_up_to_the_step(config in configs(), (pairs, sizes) in split_batch()) {
        prop_assume!(!config.loss.compares_pairs());
        let whole = evaluate_split(&config, &pairs, &sizes);
        let objective = Objective::new(config).unwrap();
        let borrowed = borrow(&pairs);
        let totals = Some(Totals::of(&borrowed));
        let kl = mismatched();
        let kl = [kl.borrow()];
        let mut state = LossState::default();
        let batch = Batch { microbatches: &sizes, mismatched: &kl, ..Batch::new(&borrowed) };
        let bounds = objective.bounds(&batch, &mut state).unwrap();
        let mut parts = Vec::new();
        let mut rest = &borrowed[..];
        for (index, &size) in sizes.iter().enumerate() {
            let (pairs, tail) = rest.split_at(size);
            rest = tail;
            let part = Batch { mismatched: &kl, totals, ..Batch::new(pairs) };
            parts.push(if objective.needs_whole_step() {
                let mut bounds = bounds[index.min(bounds.len() - 1)];
                bounds.pairs = size;
                objective.evaluate_within(&part, &[bounds]).unwrap()
            } else {
                objective.evaluate(&part, &mut LossState::default()).unwrap()
            });
        }
        let mut sum = parts.remove(0);
        parts.into_iter().for_each(|part| sum.merge(part));
        check_close(&sum, &whole)?;
    }

    #[test]
    fn a_window_is_the_same_whether_or_not_its_state_was_stored(config in configs(), first in batch(sides()), second in batch(sides())) {
        let mut config = config;
        config.transforms.winsor_scope = WinsorScope::Window(9);
        config.transforms = without_idle(config.transforms);
        let objective = Objective::new(config).unwrap();
        let kl = mismatched();
        let kl = [kl.borrow()];
        let step = |pairs: &[Sides], state: &mut LossState| {
            let pairs = borrow(pairs);
            objective.evaluate(&Batch { mismatched: &kl, ..Batch::new(&pairs) }, state).unwrap()
        };
        let mut state = LossState::default();
        step(&first, &mut state);
        prop_assert!(state.rejected.len() <= 9 && state.chosen.len() <= 9);
        let mut restored: LossState = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        prop_assert_eq!(step(&second, &mut state), step(&second, &mut restored));
        prop_assert_eq!(state, restored);
    }
}

#[test]
fn a_microbatch_quantile_is_its_own() {
    // One pair of shallow tokens, one of deep ones. Per micro-batch each has its own bound; over the step they share one.
    let side = |logps: Vec<f64>| Tokens { is_terminator: vec![false; logps.len()], ref_logps: logps.clone(), logps };
    let shallow = side(vec![-0.1, -0.2, -0.3]);
    let deep = side(vec![-7.0, -8.0, -9.0]);
    let pairs =
        [Sides { chosen: shallow.clone(), rejected: shallow.clone() }, Sides { chosen: shallow, rejected: deep }];
    let mut config = LossConfig::from(Loss::Smpo(SmpoConfig::default()));
    config.transforms.lower_clip_percentile = Some(0.5);
    let per_microbatch = evaluate_split(&config, &pairs, &[1, 1]);
    assert!(close(per_microbatch.statistics.clip_bound.value().unwrap(), (-0.2 - 8.0) / 2.0, 1e-12));
    config.transforms.winsor_scope = WinsorScope::Step;
    let over_the_step = evaluate_split(&config, &pairs, &[1, 1]);
    assert!(close(over_the_step.statistics.clip_bound.value().unwrap(), (-0.3 - 7.0) / 2.0, 1e-12));
}
