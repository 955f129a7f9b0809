//! Scores of completions, computed by hand: the tokens that a reduction counts, beside terminators that an EOS term is on.

use smpo_losses::{Batch, Completion, LossConfig, LossState, Objective, Pair, PairEvaluation};

/// The one pair of a step, by probabilities of its tokens; `ends` are the terminators of rejected.
fn evaluated(table: &str, chosen: &[f64], rejected: &[f64], ends: &[bool]) -> PairEvaluation {
    let ln = |p: &[f64]| p.iter().map(|p| p.ln()).collect::<Vec<f64>>();
    let (chosen, rejected) = (ln(chosen), ln(rejected));
    let none = vec![false; chosen.len()];
    let pairs = [Pair::new(Completion::new(&chosen, &none), Completion::new(&rejected, ends))];
    let objective = Objective::new(toml::from_str::<LossConfig>(table).unwrap()).unwrap();
    objective.evaluate(&Batch::new(&pairs), &mut LossState::default()).unwrap().pairs.remove(0)
}

const LESS_CONFIDENT: &str = "kind = \"simpo\"\nbeta = 1.0\ngamma = 0.0\ntoken_selection = \"less_confident\"\n";

fn near(got: Option<f64>, expected: f64) {
    assert!((got.unwrap() - expected).abs() < 1e-12, "{got:?}, expected {expected}");
}

/// The mean probability of ¼, ½ and ¾ is that of the second, which is not below it.
#[test]
fn a_token_of_the_mean_probability_is_not_less_confident() {
    let table = format!("{LESS_CONFIDENT}eos_term = \"invert\"");
    let probabilities = [0.25, 0.5, 0.75];
    let got = evaluated(&table, &probabilities, &probabilities, &[false, true, false]);
    near(got.chosen_reward, 0.25f64.ln());
    near(got.rejected_reward, 0.25f64.ln());
    for weights in [&got.chosen_weights, &got.rejected_weights] {
        assert_eq!(weights.iter().map(|weight| *weight == 0.0).collect::<Vec<_>>(), [false, true, true]);
    }
}

/// Without its terminator rejected has the mean probability 0.4.
#[test]
fn a_masked_terminator_is_no_part_of_the_mean_probability() {
    let table = format!("{LESS_CONFIDENT}eos_term = \"mask\"");
    let got = evaluated(&table, &[0.5], &[0.1, 0.3, 0.9, 0.5, 0.7], &[false, false, true, false, false]);
    near(got.rejected_reward, (0.1f64.ln() + 0.3f64.ln()) / 2.0);
}

/// −log σ(0) has the derivative −½, of which each of four tokens has a quarter.
#[test]
fn tokens_that_are_all_alike_count_all() {
    let got = evaluated(LESS_CONFIDENT, &[1.0; 4], &[1.0; 4], &[false; 4]);
    assert_eq!((got.chosen_weights, got.rejected_weights), (vec![-0.125; 4], vec![0.125; 4]));
}

/// The third token of rejected is past the length of chosen, and a terminator is a token of that length.
#[test]
fn a_terminator_has_its_place_in_the_shared_length() {
    let table = "kind = \"dpo\"\nbeta = 1.0\nreference_free = true\nld_alpha = 0.25\neos_term = \"invert\"";
    let powers = [-1.0, -2.0, -4.0].map(f64::exp);
    let got = evaluated(table, &powers[..2], &powers, &[false, true, false]);
    near(got.rejected_reward, -1.0 + 2.0 - 0.25 * 4.0);
    let first = got.rejected_weights[0];
    assert!(first > 0.0);
    assert_eq!(got.rejected_weights, [first, -first, 0.25 * first]);
}
