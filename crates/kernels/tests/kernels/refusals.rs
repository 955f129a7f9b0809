//! Unfit input is refused with an error, never with a panic.

use crate::comparison::Source;
use candle_core::{DType, Device, Tensor};
use smpo_kernels::{self as kernels, AttentionOptions, HeadOptions, KernelError, Segments};

fn text<T>(result: kernels::Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected a refusal"),
        Err(error) => error.to_string(),
    }
}

fn tensor(shape: &[usize]) -> Tensor {
    Source::new(1).tensor(shape)
}

#[test]
fn refusals_name_operation_argument_and_shapes() {
    let (matrix, cube) = (tensor(&[4, 6]), tensor(&[4, 2, 6]));
    let error = kernels::embedding(&matrix, &[0, 3, 9, 4]).unwrap_err();
    assert!(matches!(error, KernelError::OutOfVocabulary { index: 2, id: 9, vocabulary: 4, .. }));
    assert_eq!(error.to_string(), "embedding: token 9 at index 2 is outside the vocabulary, expected an id below 4");
    assert_eq!(
        text(kernels::embedding(&cube, &[0])),
        "embedding: expected `weight` with dimensions (V, H), got [4, 2, 6]"
    );
    assert_eq!(
        text(kernels::rms_norm(&matrix, &tensor(&[5]), 1e-6)),
        "rms_norm: expected `weight` of shape [6], got [5]"
    );
    assert!(text(kernels::rms_norm(&matrix, &tensor(&[6]), 0.0)).contains("`eps` above 0, got 0"));
    assert!(text(kernels::add_rms_norm(&matrix, &cube, &tensor(&[6]), 1e-6)).contains("`residual`"));
    let half = matrix.to_dtype(DType::F16).unwrap();
    assert_eq!(
        text(kernels::swiglu(&half, &half)),
        "swiglu: expected `gate` as f32, got f16; convert it with `to_dtype`"
    );
    assert!(text(kernels::geglu(&matrix, &cube)).contains("geglu: expected `up` of shape [4, 6]"));
    assert!(text(kernels::weighted_sum(&matrix, &cube)).contains("`weights` of shape [4, 6]"));
    assert!(text(kernels::add(&matrix, &cube)).contains("add: expected `b` of shape [4, 6], got [4, 2, 6]"));
    assert!(text(kernels::columns(&matrix, 2..7)).contains("`range` within the columns, got 2..7 of 6"));
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = 4..2;
    assert!(text(kernels::columns(&matrix, reversed)).contains("got 4..2 of 6"));
}

#[test]
fn rotary_refusals() {
    let (matrix, cube) = (tensor(&[4, 6]), tensor(&[4, 2, 6]));
    assert!(text(kernels::rotary(&matrix, &matrix, &matrix, kernels::RotaryPairs::Halves)).contains("(N, heads, D)"));
    assert!(
        text(kernels::rotary(&cube, &tensor(&[4, 4]), &tensor(&[4, 4]), kernels::RotaryPairs::Halves))
            .contains("`cos` of shape [4, at most 3], got [4, 4]")
    );
    let angle = candle_core::Var::from_tensor(&tensor(&[4, 3])).unwrap();
    assert!(
        text(kernels::rotary(&cube, &angle, &angle, kernels::RotaryPairs::Halves)).contains("`cos` must be a constant")
    );
}

#[test]
fn linear_refusals() {
    let matrix = tensor(&[4, 6]);
    assert!(text(kernels::linear(&matrix, &tensor(&[3, 5]), None)).contains("`weight` of shape [O, 6]"));
    let bias = tensor(&[4]);
    assert!(text(kernels::linear(&matrix, &tensor(&[3, 6]), Some(&bias))).contains("`bias` of shape [3]"));
    let scalar = Tensor::new(1f32, &Device::Cpu).unwrap();
    assert!(text(kernels::linear(&scalar, &matrix, None)).contains("(…, I)"));
    assert!(text(kernels::add_linear(&matrix, &matrix, &tensor(&[5, 6]), 1.0)).contains("`base` of shape [4, 5]"));
    assert!(text(kernels::add_linear(&matrix, &matrix, &matrix, f64::NAN)).contains("`scale` finite, got NaN"));
}

#[test]
fn attention_refusals() {
    let (matrix, cube) = (tensor(&[4, 6]), tensor(&[4, 2, 6]));
    let segments = Segments::causal(4).unwrap();
    let options = AttentionOptions::for_width(6);
    let attend = |q, k, v, options| text(kernels::attention(q, k, v, &segments, options));
    assert!(attend(&matrix, &cube, &cube, options).contains("(N, Hq, D)"));
    let three = tensor(&[4, 3, 6]);
    assert!(attend(&three, &cube, &cube, options).contains("`k` of shape [4, a divisor of 3, 6]"));
    assert!(attend(&cube, &cube, &three, options).contains("`v` of shape [4, 2, 6]"));
    let five = tensor(&[5, 2, 6]);
    assert!(attend(&five, &five, &five, options).contains("[4, Hq, D], as the segments"));
    let bad = AttentionOptions { window: Some(0), ..options };
    assert!(attend(&cube, &cube, &cube, bad).contains("`window` of at least 1"));
    let bad = AttentionOptions { soft_cap: Some(-1.0), ..options };
    assert!(attend(&cube, &cube, &cube, bad).contains("`soft_cap` finite and above 0, got -1"));
    let bad = AttentionOptions { scale: f64::NAN, ..options };
    assert!(attend(&cube, &cube, &cube, bad).contains("`scale` finite, got NaN"));
}

#[test]
fn head_refusals() {
    let (matrix, weight) = (tensor(&[4, 6]), tensor(&[9, 6]));
    let head = |targets: &[u32], options| text(kernels::selected_log_probs(&matrix, &weight, targets, options));
    assert!(head(&[0, 1], HeadOptions::default()).contains("`targets` of shape [4], got [2]"));
    assert!(head(&[0, 1, 9, 2], HeadOptions::default()).contains("target 9 at index 2"));
    let bad = HeadOptions { chunk: 0, ..HeadOptions::default() };
    assert!(head(&[0, 1, 2, 3], bad).contains("`chunk` of at least 1"));
    let with = |terminators: &[u32]| {
        text(kernels::selected_log_probs_with_terminators(
            &matrix,
            &weight,
            &[0, 1, 2, 3],
            terminators,
            HeadOptions::default(),
        ))
    };
    assert!(with(&[]).contains("`terminators` of at least one token"));
    assert!(with(&[9]).contains("terminator 9 at index 0"));
}

#[test]
fn refusals_travel_through_candle() {
    let mut source = Source::new(2);
    let weight = source.tensor(&[4, 6]);
    let inner = || -> candle_core::Result<Tensor> { Ok(kernels::embedding(&weight, &[7])?) };
    assert!(inner().unwrap_err().to_string().contains("embedding: token 7 at index 0"));
}

/// Empty inputs are no reason to fail.
#[test]
fn nothing_in_nothing_out() {
    let mut source = Source::new(3);
    let (none, weight) = (source.var(&[0, 6]), source.var(&[9, 6]));
    let y = kernels::linear(&none, &weight, None).unwrap();
    assert_eq!(y.dims(), [0, 9]);
    let norm = source.var(&[6]);
    assert_eq!(kernels::rms_norm(&none, &norm, 1e-6).unwrap().dims(), [0, 6]);
    let ell = kernels::selected_log_probs(&none, &weight, &[], HeadOptions::default()).unwrap();
    assert_eq!(ell.dims(), [0]);
    let segments = Segments::new(vec![]).unwrap();
    let cube = source.var(&[0, 2, 3]);
    let options = AttentionOptions::for_width(3);
    let y = kernels::attention(&cube, &cube, &cube, &segments, options).unwrap();
    assert_eq!(y.dims(), [0, 2, 3]);
}
