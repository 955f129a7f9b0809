//! Divergences from a teacher: agreement with PyTorch (`golden/generate_divergence.py`), and their properties.

use proptest::prelude::*;
use proptest::sample::select;
use serde::Deserialize;
use smpo_losses::divergence::{Distance, Divergence, RowTerms, RowWeights};

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    divergence: Divergence,
    temperature: f64,
    mixture: f64,
    student: Vec<f32>,
    teacher: Vec<f32>,
    label: usize,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    divergence: f64,
    logp: f64,
    gradient: Vec<f32>,
}

const ALL: [Divergence; 5] = [
    Divergence::ForwardKl,
    Divergence::ReverseKl,
    Divergence::JensenShannon,
    Divergence::SoftCrossEntropy,
    Divergence::Slim,
];

#[test]
fn divergences_agree_with_pytorch() {
    let golden: Golden = serde_json::from_str(include_str!("golden/golden_divergence.json")).unwrap();
    for divergence in ALL {
        assert!(golden.cases.iter().any(|case| case.divergence == divergence), "no golden case of {divergence:?}");
    }
    for Case { divergence, temperature, mixture, mut student, teacher, label, expected } in golden.cases {
        let weights = RowWeights { divergence: 0.3, nll: 0.7 };
        let got = Distance { divergence, temperature, mixture }.row(&mut student, &teacher, label, weights);
        let close = |got: f64, expected: f64| (got - expected).abs() <= 1e-9 * expected.abs().max(1.0);
        assert!(
            close(got.divergence, expected.divergence),
            "{divergence:?}: {} {}",
            got.divergence,
            expected.divergence
        );
        assert!(close(got.logp, expected.logp), "{divergence:?}");
        for (got, expected) in student.iter().zip(&expected.gradient) {
            assert!((got - expected).abs() <= 1e-6, "{divergence:?} at {temperature}: {got} and {expected}");
        }
    }
}

fn row(distance: Distance, student: &[f32], teacher: &[f32], label: usize) -> (RowTerms, Vec<f32>) {
    let mut gradient = student.to_vec();
    let terms = distance.row(&mut gradient, teacher, label, RowWeights { divergence: 1.0, nll: 0.0 });
    (terms, gradient)
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(prop_oneof![4 => -6f32..6.0, 1 => -90f32..90.0], 7)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// 0 at the teacher itself and nowhere below; a gradient that moves no probability in sum.
    #[test]
    fn divergences_are_least_at_the_teacher(
        student in logits(), teacher in logits(), temperature in 0.3..4.0f64, mixture in 0.05..0.95f64,
        divergence in select(vec![Divergence::ForwardKl, Divergence::ReverseKl, Divergence::JensenShannon]),
    ) {
        let distance = Distance { divergence, temperature, mixture };
        let (terms, gradient) = row(distance, &student, &teacher, 3);
        prop_assert!(terms.divergence >= -1e-9, "{}", terms.divergence);
        prop_assert!(gradient.iter().sum::<f32>().abs() < 1e-3 * (1.0 + gradient.iter().map(|g| g.abs()).sum::<f32>()));
        let (terms, gradient) = row(distance, &teacher, &teacher, 3);
        prop_assert!(terms.divergence.abs() < 1e-9 && terms.agrees && gradient.iter().all(|g| g.abs() < 1e-6));
        if divergence == Divergence::JensenShannon {
            let most = -(mixture * mixture.ln() + (1.0 - mixture) * (1.0 - mixture).ln());
            prop_assert!(row(distance, &student, &teacher, 3).0.divergence <= most + 1e-9, "above its bound");
        }
    }

    #[test]
    fn everything_is_finite(
        student in prop::collection::vec(-1e5f32..1e5, 5), teacher in prop::collection::vec(-1e5f32..1e5, 5),
        divergence in select(ALL.to_vec()), temperature in 0.01..100.0f64,
    ) {
        let distance = Distance { divergence, temperature, mixture: 0.5 };
        let (terms, gradient) = row(distance, &student, &teacher, 1);
        prop_assert!(terms.divergence.is_finite() && terms.logp.is_finite(), "{terms:?}");
        prop_assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    }

    #[test]
    fn soft_cross_entropy_is_forward_kl_and_the_entropy_of_the_teacher(student in logits(), teacher in logits()) {
        let of = |divergence| row(Distance { divergence, temperature: 1.0, mixture: 0.5 }, &student, &teacher, 0);
        let (kl, soft) = (of(Divergence::ForwardKl), of(Divergence::SoftCrossEntropy));
        let entropy = row(Distance { divergence: Divergence::SoftCrossEntropy, temperature: 1.0, mixture: 0.5 }, &teacher, &teacher, 0);
        prop_assert!((soft.0.divergence - kl.0.divergence - entropy.0.divergence).abs() < 1e-6 * (1.0 + soft.0.divergence));
        prop_assert_eq!(kl.1, soft.1);
    }
}

#[test]
fn models_agree_where_they_find_the_same_token_the_likeliest() {
    let agrees = |student: &[f32], teacher: &[f32]| {
        row(Distance { divergence: Divergence::ForwardKl, temperature: 1.0, mixture: 0.5 }, student, teacher, 0)
            .0
            .agrees
    };
    for (student, teacher, expected) in [
        ([1.0, 2.0, 3.0], [-1.0, 0.0, 9.0], true),
        ([3.0, 2.0, 1.0], [9.0, 0.0, -1.0], true),
        ([1.0, 3.0, 2.0], [0.0, 9.0, 0.5], true),
        ([1.0, 2.0, 3.0], [9.0, 0.0, -1.0], false),
        ([3.0, 2.0, 1.0], [0.0, 9.0, 1.0], false),
        ([1.0, 2.0, 3.0], [0.0, 9.0, 1.0], false),
        // of equally likely tokens the first
        ([3.0, 3.0, 1.0], [9.0, 0.0, 0.0], true),
        ([3.0, 3.0, 1.0], [0.0, 9.0, 0.0], false),
    ] {
        assert_eq!(agrees(&student, &teacher), expected, "{student:?} and {teacher:?}");
    }
}
