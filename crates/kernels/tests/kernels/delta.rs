//! Gated delta nets: convolution, decay and rule against their twins, over packs that share prompts.

use crate::comparison::{LAYOUTS, Source, assert_close, assert_same, flat};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use smpo_kernels::{self as kernels, DeltaHeads, KernelError, Segments, Span, naive};

const TOLERANCE: f32 = 2e-5;

/// Two sequences of their own around a prompt with two completions.
fn pack(lengths: [usize; 5]) -> Segments {
    let mut end = 0;
    let ranges = lengths.map(|length| {
        end += length;
        end - length..end
    });
    let [alone, prompt, first, second, last] = ranges;
    let spans = vec![
        Span::new(alone),
        Span::new(prompt.clone()),
        Span::with_prefix(first, prompt.clone()),
        Span::with_prefix(second, prompt),
        Span::new(last),
    ];
    Segments::new(spans).unwrap()
}

fn heads(key_heads: usize, group: usize, key_dim: usize, value_dim: usize) -> DeltaHeads {
    DeltaHeads { key_heads, value_heads: key_heads * group, key_dim, value_dim }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_short_convolution_is_its_twin(
        seed: u64, layout in 0..3usize, lengths: [u8; 5], channels in 1..150usize, taps in 1..6usize,
    ) {
        let segments = pack(lengths.map(|length| 1 + usize::from(length) % 9));
        let mut source = Source::new(seed);
        let inputs = [
            source.input(&[segments.tokens(), channels], LAYOUTS[layout]),
            source.input(&[channels, 1, taps], LAYOUTS[layout]),
        ];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::short_convolution(&x[0], &x[1], &segments)?]),
            |x| naive::short_convolution(&x[0].contiguous()?, &x[1].contiguous()?, &segments).map(|y| vec![y]),
        );
    }

    #[test]
    fn a_decay_and_a_gate_are_their_twins(seed: u64, layout in 0..3usize, n in 1..40usize, heads in 1..9usize) {
        let mut source = Source::new(seed);
        let inputs = [
            source.input(&[n, heads], LAYOUTS[layout]),
            source.input(&[heads], LAYOUTS[0]),
            source.input(&[heads], LAYOUTS[0]),
        ];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::log_decay(&x[0], &x[1], &x[2])?]),
            |x| naive::log_decay(&x[0], &x[1], &x[2]).map(|y| vec![y]),
        );
        let inputs = [source.input(&[n, heads], LAYOUTS[layout]), source.input(&[n, heads], LAYOUTS[layout])];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::sigmoid_gate(&x[0], &x[1])?]),
            |x| naive::sigmoid_gate(&x[0], &x[1]).map(|y| vec![y]),
        );
    }

    #[test]
    fn a_gated_delta_rule_is_its_twin(
        seed: u64, layout in 0..3usize, lengths: [u8; 5], key_heads in 1..3usize, group in 1..4usize,
        key_dim in 1..20usize, value_dim in 1..70usize,
    ) {
        let segments = pack(lengths.map(|length| 1 + usize::from(length) % 7));
        check_rule(seed, layout, &segments, heads(key_heads, group, key_dim, value_dim));
    }
}

fn check_rule(seed: u64, layout: usize, segments: &Segments, heads: DeltaHeads) {
    let mut source = Source::new(seed);
    let tokens = segments.tokens();
    let inputs = [
        source.input(&[tokens, heads.row_width()], LAYOUTS[layout]),
        source.input(&[tokens, heads.value_heads], LAYOUTS[layout]),
        source.input(&[tokens, heads.value_heads], LAYOUTS[layout]),
    ];
    // Decays below one, strengths between none and all, as a model has them.
    let gates = |x: &[Tensor]| -> candle_core::Result<[Tensor; 2]> {
        Ok([(x[1].exp()? * -0.2)?, (x[2].neg()?.exp()? + 1.0)?.recip()?])
    };
    assert_same(
        &mut source,
        &inputs,
        TOLERANCE,
        |x| {
            let [decay, strength] = gates(x)?;
            Ok(vec![kernels::gated_delta_rule(&x[0], &decay, &strength, heads, segments)?])
        },
        |x| {
            let [decay, strength] = gates(x)?;
            naive::gated_delta_rule(&x[0].contiguous()?, &decay, &strength, heads, segments).map(|y| vec![y])
        },
    );
}

#[test]
fn sequences_of_several_chunks_are_their_twin() {
    check_rule(3, 0, &pack([3, 70, 40, 33, 32]), heads(1, 2, 5, 3));
    check_rule(4, 0, &pack([64, 1, 65, 1, 31]), heads(2, 1, 3, 40));
}

/// Rows of a tensor.
fn rows(x: &Tensor, range: std::ops::Range<usize>) -> Tensor {
    x.narrow(0, range.start, range.len()).unwrap().contiguous().unwrap()
}

#[test]
fn a_pack_gives_each_sequence_what_it_gets_alone_to_the_last_bit() {
    let heads = heads(2, 2, 16, 40);
    let segments = pack([5, 37, 4, 9, 2]);
    let mut source = Source::new(8);
    let tokens = segments.tokens();
    let qkv = source.tensor(&[tokens, heads.row_width()]);
    let (decay, strength) = (source.tensor(&[tokens, 4]), source.tensor(&[tokens, 4]));
    let weight = source.tensor(&[heads.row_width(), 1, 4]);
    let whole = flat(&kernels::gated_delta_rule(&qkv, &decay, &strength, heads, &segments).unwrap());
    let convolved = flat(&kernels::short_convolution(&qkv, &weight, &segments).unwrap());
    for span in segments.spans() {
        let parts: Vec<_> = span.prefix.iter().cloned().chain(std::iter::once(span.start..span.end)).collect();
        let take = |x: &Tensor| {
            let parts: Vec<Tensor> = parts.iter().map(|part| rows(x, part.clone())).collect();
            Tensor::cat(&parts, 0).unwrap()
        };
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let alone = Segments::causal(length).unwrap();
        let own =
            |values: Vec<f32>| values[values.len() - (span.end - span.start) * (values.len() / length)..].to_vec();
        let rule = kernels::gated_delta_rule(&take(&qkv), &take(&decay), &take(&strength), heads, &alone).unwrap();
        let width = heads.value_width();
        assert_eq!(own(flat(&rule)), whole[span.start * width..span.end * width], "{span:?}");
        let short = kernels::short_convolution(&take(&qkv), &weight, &alone).unwrap();
        let width = heads.row_width();
        assert_eq!(own(flat(&short)), convolved[span.start * width..span.end * width], "{span:?}");
    }
}

#[test]
fn large_decays_and_gates_stay_finite() {
    let one = |value: f32| Tensor::from_vec(vec![value; 3], (3, 1), &Device::Cpu).unwrap();
    let zero = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let decay = kernels::log_decay(&one(1e4), &zero, &zero).unwrap();
    assert_close("decay", &flat(&decay), &[-1e4; 3], 1e-6);
    assert_eq!(flat(&kernels::log_decay(&one(-1e4), &zero, &zero).unwrap()), [0.0; 3]);
    for strength in [-1e4, 1e4] {
        let strength = kernels::sigmoid_gate(&one(strength), &one(1.0)).unwrap();
        let segments = Segments::causal(3).unwrap();
        // Keys of no length, and a state that is forgotten at once.
        let qkv = Tensor::zeros((3, 6), DType::F32, &Device::Cpu).unwrap();
        let y = kernels::gated_delta_rule(&qkv, &decay, &strength, heads(1, 1, 2, 2), &segments).unwrap();
        assert_eq!(flat(&y), [0.0; 6]);
    }
}

#[test]
fn unfit_arguments_are_refused() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let segments = Segments::causal(3).unwrap();
    let (qkv, gate) = (zeros(&[3, 2 * 2 + 4]), zeros(&[3, 2]));
    let rule = |heads, segments: &Segments| kernels::gated_delta_rule(&qkv, &gate, &gate, heads, segments);
    assert!(rule(heads(1, 2, 2, 2), &segments).is_ok());
    for (key_heads, value_heads) in [(0, 2), (2, 3)] {
        let error = rule(DeltaHeads { key_heads, value_heads, key_dim: 2, value_dim: 2 }, &segments).unwrap_err();
        assert!(matches!(error, KernelError::Option { option: "heads", .. }), "{error}");
    }
    let error = rule(heads(1, 2, 2, 3), &segments).unwrap_err();
    assert!(matches!(error, KernelError::Shape { argument: "qkv", .. }), "{error}");
    // A state exists after the last token of a span alone.
    let part = Segments::new(vec![Span::new(0..2), Span::with_prefix(2..3, 0..1)]).unwrap();
    let error = rule(heads(1, 2, 2, 2), &part).unwrap_err();
    assert!(error.to_string().contains("the whole of an earlier span"), "{error}");
    let error = kernels::short_convolution(&qkv, &zeros(&[8, 1, 4]), &part).unwrap_err();
    assert!(matches!(error, KernelError::Segments { span: 1, .. }), "{error}");
    let error = kernels::short_convolution(&qkv, &zeros(&[8, 4]), &segments).unwrap_err();
    assert!(matches!(error, KernelError::Rank { argument: "weight", .. }), "{error}");
    let error = kernels::short_convolution(&qkv, &zeros(&[7, 1, 4]), &segments).unwrap_err();
    assert!(matches!(error, KernelError::Shape { argument: "weight", .. }), "{error}");
    let error = kernels::emulate(|| rule(heads(1, 2, 2, 2), &segments)).unwrap_err();
    assert!(matches!(error, KernelError::Device { .. }), "{error}");
}
