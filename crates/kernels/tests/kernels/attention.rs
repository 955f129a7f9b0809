//! Attention over packed segments.

use crate::comparison::{LAYOUTS, Source, assert_close, assert_same, flat};
use candle_core::Tensor;
use proptest::prelude::*;
use smpo_kernels::{self as kernels, AttentionOptions, Segments, Span, naive};

const TOLERANCE: f32 = 5e-5;

/// Spans of the given lengths; an odd `link` makes a span read the one `link / 2` before it.
pub fn spans(lengths: &[(usize, usize)]) -> Vec<Span> {
    let mut spans: Vec<Span> = vec![];
    let mut start = 0;
    for &(length, link) in lengths {
        let range = start..start + length;
        start = range.end;
        let prefix = (link % 2 == 1).then(|| spans.len().checked_sub(1 + link / 2)).flatten();
        spans.push(match prefix {
            Some(prefix) => Span::with_prefix(range, spans[prefix].start..spans[prefix].end),
            None => Span::new(range),
        });
    }
    spans
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn attention_is_its_twin(
        seed: u64,
        layout in 0..3usize,
        lengths in prop::collection::vec((1..70usize, 0..6usize), 1..5),
        kv_heads in 1..4usize,
        group in 1..4usize,
        width in 1..20usize,
        soft_cap in prop::option::of(0.5..4f64),
        window in prop::option::of(1..60usize),
    ) {
        let segments = Segments::new(spans(&lengths))?;
        let n = segments.tokens();
        let options = AttentionOptions { soft_cap, window, ..AttentionOptions::for_width(width) };
        let mut source = Source::new(seed);
        let inputs = [
            source.input(&[n, kv_heads * group, width], LAYOUTS[layout]),
            source.input(&[n, kv_heads, width], LAYOUTS[(layout + 1) % 3]),
            source.input(&[n, kv_heads, width], LAYOUTS[(layout + 2) % 3]),
        ];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::attention(&x[0], &x[1], &x[2], &segments, options)?]),
            |x| Ok(vec![naive::attention(&x[0], &x[1], &x[2], &segments, options)?]),
        );
    }
}

/// Long enough for several blocks of queries and keys, in every kind of span.
#[test]
fn long_spans_are_their_twin() {
    for (seed, window, soft_cap) in
        [(1, None, None), (2, Some(150), None), (3, None, Some(2.0)), (4, Some(200), Some(2.0))]
    {
        let segments = Segments::new(vec![
            Span::new(0..300),
            Span::with_prefix(300..470, 0..300),
            Span::with_prefix(470..480, 0..300),
            Span::new(480..500),
        ])
        .unwrap();
        let options = AttentionOptions { scale: 0.4, soft_cap, window };
        let mut source = Source::new(seed);
        let inputs = [
            source.input(&[500, 4, 8], LAYOUTS[0]),
            source.input(&[500, 2, 8], LAYOUTS[0]),
            source.input(&[500, 2, 8], LAYOUTS[0]),
        ];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::attention(&x[0], &x[1], &x[2], &segments, options)?]),
            |x| Ok(vec![naive::attention(&x[0], &x[1], &x[2], &segments, options)?]),
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn attention_with_sinks_is_its_twin(
        seed: u64,
        layout in 0..3usize,
        lengths in prop::collection::vec((1..70usize, 0..6usize), 1..5),
        kv_heads in 1..4usize,
        group in 1..4usize,
        width in 1..20usize,
        window in prop::option::of(1..60usize),
    ) {
        let segments = Segments::new(spans(&lengths))?;
        let n = segments.tokens();
        let options = AttentionOptions { window, ..AttentionOptions::for_width(width) };
        let mut source = Source::new(seed);
        let inputs = [
            source.input(&[n, kv_heads * group, width], LAYOUTS[layout]),
            source.input(&[n, kv_heads, width], LAYOUTS[(layout + 1) % 3]),
            source.input(&[n, kv_heads, width], LAYOUTS[(layout + 2) % 3]),
            source.input(&[kv_heads * group], LAYOUTS[layout]),
        ];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::attention_with_sinks(&x[0], &x[1], &x[2], &x[3], &segments, options)?]),
            |x| {
                let [q, k, v, sinks] = [0, 1, 2, 3].map(|index| x[index].contiguous());
                Ok(vec![naive::attention_with_sinks(&q?, &k?, &v?, &sinks?, &segments, options)?])
            },
        );
    }
}

/// Sinks far below every score change nothing, sinks far above take all the weight.
#[test]
fn extreme_sinks_leave_everything_or_nothing() {
    let mut source = Source::new(10);
    let [q, k, v] = [4, 2, 2].map(|heads| source.tensor(&[30, heads, 8]));
    let (segments, options) = (Segments::causal(30).unwrap(), AttentionOptions::for_width(8));
    let with = |sink: f32| {
        let sinks = Tensor::full(sink, 4, q.device()).unwrap();
        flat(&kernels::attention_with_sinks(&q, &k, &v, &sinks, &segments, options).unwrap())
    };
    assert_close("none", &with(-1e30), &flat(&kernels::attention(&q, &k, &v, &segments, options).unwrap()), 1e-6);
    assert!(with(1e4).iter().all(|value| *value == 0.0));
    let sinks = source.tensor(&[3]);
    let error = kernels::attention_with_sinks(&q, &k, &v, &sinks, &segments, options).unwrap_err().to_string();
    assert!(error.contains("`sinks` of shape [4]"), "{error}");
    let sinks = source.tensor(&[4]);
    let error = kernels::emulate(|| kernels::attention_with_sinks(&q, &k, &v, &sinks, &segments, options));
    assert!(error.unwrap_err().to_string().contains("sinks"));
}

/// Sequences packed together give what each gives alone.
#[test]
fn packed_is_separate() {
    let mut source = Source::new(7);
    let lengths = [5usize, 90, 1, 33];
    let n: usize = lengths.iter().sum();
    let [q, k, v] = [4, 2, 2].map(|heads| source.tensor(&[n, heads, 12]));
    let options = AttentionOptions::for_width(12);
    let links: Vec<_> = lengths.iter().map(|&length| (length, 0)).collect();
    let packed = kernels::attention(&q, &k, &v, &Segments::new(spans(&links)).unwrap(), options).unwrap();
    let mut start = 0;
    for length in lengths {
        let part = |x: &Tensor| x.narrow(0, start, length).unwrap();
        let segments = Segments::causal(length).unwrap();
        let alone = kernels::attention(&part(&q), &part(&k), &part(&v), &segments, options).unwrap();
        assert_close("packed", &flat(&part(&packed)), &flat(&alone), 1e-6);
        start += length;
    }
}

/// A prompt laid out once for two completions gives what two full sequences give.
#[test]
fn shared_prompt_is_two_sequences() {
    let mut source = Source::new(8);
    let (prompt, chosen, rejected) = (40, 25, 31);
    let n = prompt + chosen + rejected;
    let [q, k, v] = [4, 2, 2].map(|heads| source.tensor(&[n, heads, 12]));
    for window in [None, Some(30)] {
        let options = AttentionOptions { window, ..AttentionOptions::for_width(12) };
        let shared = Segments::new(vec![
            Span::new(0..prompt),
            Span::with_prefix(prompt..prompt + chosen, 0..prompt),
            Span::with_prefix(prompt + chosen..n, 0..prompt),
        ])
        .unwrap();
        let together = kernels::attention(&q, &k, &v, &shared, options).unwrap();
        for (start, length) in [(prompt, chosen), (prompt + chosen, rejected)] {
            let whole = |x: &Tensor| {
                let parts = [x.narrow(0, 0, prompt).unwrap(), x.narrow(0, start, length).unwrap()];
                Tensor::cat(&parts, 0).unwrap()
            };
            let segments = Segments::causal(prompt + length).unwrap();
            let alone = kernels::attention(&whole(&q), &whole(&k), &whole(&v), &segments, options).unwrap();
            let got = together.narrow(0, start, length).unwrap();
            let want = alone.narrow(0, prompt, length).unwrap();
            assert_close("shared", &flat(&got), &flat(&want), 1e-6);
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let mut source = Source::new(9);
    let q = (source.tensor(&[40, 1, 8]) * 1e3).unwrap();
    let options = AttentionOptions::for_width(8);
    let y = kernels::attention(&q, &q, &q, &Segments::causal(40).unwrap(), options).unwrap();
    assert!(flat(&y).iter().all(|value| value.is_finite()));
}
