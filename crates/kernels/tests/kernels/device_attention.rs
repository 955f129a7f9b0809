//! Attention on a device: properties beyond agreement with the CPU, which the self-test compares.

use crate::attention::spans;
use crate::comparison::{Input, LAYOUTS, Source, assert_close, flat};
use candle_core::{DType, Device, Tensor, Var};
use half::bf16;
use proptest::prelude::*;
use smpo_kernels::{AttentionOptions, Gradients, Segments, Span, Tape, attention, emulate};

fn segments() -> Segments {
    Segments::new(vec![
        Span::new(0..20),
        Span::with_prefix(20..55, 0..20),
        Span::with_prefix(55..60, 0..20),
        Span::new(60..130),
    ])
    .unwrap()
}

/// The result and the gradients of q, k and v, as bits.
fn run(inputs: &[Tensor; 3], options: AttentionOptions) -> Vec<Vec<bf16>> {
    emulate(|| {
        let vars = inputs.each_ref().map(|x| Var::from_tensor(x).unwrap());
        let (tape, out) = Tape::record(|| attention(&vars[0], &vars[1], &vars[2], &segments(), options));
        let out = out.unwrap();
        let mut others = tape.backward(&out, &out.detach(), &mut Gradients::default()).unwrap();
        let grads = vars.each_ref().map(|var| others.remove(var).unwrap().unwrap());
        let host = |x: &Tensor| x.flatten_all().unwrap().to_vec1().unwrap();
        [&out].into_iter().chain(&grads).map(host).collect()
    })
}

/// The result, and the gradients of q, k and v for `weights` as the result's gradient.
fn with_grads(inputs: &[Input; 3], weights: &Tensor, segments: &Segments, options: AttentionOptions) -> Vec<Vec<f32>> {
    let [q, k, v] = inputs.each_ref().map(Input::view);
    let (tape, out) = Tape::record(|| attention(&q, &k, &v, segments, options));
    let out = out.unwrap();
    let mut others = tape.backward(&out, weights, &mut Gradients::default()).unwrap();
    let grads = inputs.each_ref().map(|input| flat(&others.remove(&input.var).unwrap().unwrap()));
    [flat(&out)].into_iter().chain(grads).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_spans_heads_and_options_agree_with_the_cpu(
        seed: u64,
        layout in 0..3usize,
        lengths in prop::collection::vec((1..150usize, 0..6usize), 1..5),
        kv_heads in 1..3usize,
        group in prop::sample::select(vec![1, 2, 6]),
        eighths in 1..33usize,
        soft_cap in prop::option::of(0.5..4f64),
        window in prop::option::of(1..120usize),
    ) {
        let segments = Segments::new(spans(&lengths))?;
        let (n, width) = (segments.tokens(), 8 * eighths);
        let options = AttentionOptions { soft_cap, window, ..AttentionOptions::for_width(width) };
        let mut source = Source::new(seed);
        let shapes = [[n, kv_heads * group, width], [n, kv_heads, width], [n, kv_heads, width]];
        let inputs = [0, 1, 2].map(|index| source.input(&shapes[index], LAYOUTS[(layout + index) % 3]));
        let weights = source.tensor(&shapes[0]);
        let want = with_grads(&inputs, &weights, &segments, options);
        let got = emulate(|| with_grads(&inputs, &weights, &segments, options));
        for ((what, got), want) in ["result", "dq", "dk", "dv"].iter().zip(&got).zip(&want) {
            assert_close(what, got, want, 1e-5);
        }
    }
}

fn inputs() -> [Tensor; 3] {
    let mut source = Source::new(4);
    [[130, 4, 64], [130, 2, 64], [130, 2, 64]].map(|shape| source.tensor(&shape).to_dtype(DType::BF16).unwrap())
}

#[test]
fn results_are_equal_bit_by_bit_for_any_number_of_threads() {
    let (inputs, options) = (inputs(), AttentionOptions::for_width(64));
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let once = pool(1).install(|| run(&inputs, options));
    assert_eq!(once, pool(2).install(|| run(&inputs, options)));
    assert!(once.iter().all(|values| values.iter().all(|value| value.is_finite())));
}

#[test]
fn the_address_of_a_tensor_does_not_matter() {
    let (inputs, options) = (inputs(), AttentionOptions::for_width(64));
    // The same elements behind one more: rows then start between multiples of 16 bytes.
    let moved = inputs.each_ref().map(|x| {
        let one = Tensor::zeros(1, DType::BF16, &Device::Cpu).unwrap();
        let behind = Tensor::cat(&[&one, &x.flatten_all().unwrap()], 0).unwrap();
        behind.narrow(0, 1, x.elem_count()).unwrap().reshape(x.dims()).unwrap()
    });
    let forward = |[q, k, v]: &[Tensor; 3]| {
        let out = emulate(|| attention(q, k, v, &segments(), options)).unwrap();
        out.flatten_all().unwrap().to_vec1::<bf16>().unwrap()
    };
    assert_eq!(forward(&inputs), forward(&moved));
}

#[test]
fn one_completion_is_the_same_alone_and_beside_another() {
    let ([q, k, v], options) = (inputs(), AttentionOptions::for_width(64));
    let rows = |x: &Tensor| {
        let parts = [x.narrow(0, 0, 20).unwrap(), x.narrow(0, 55, 5).unwrap()];
        Tensor::cat(&parts, 0).unwrap()
    };
    let alone = Segments::new(vec![Span::new(0..20), Span::with_prefix(20..25, 0..20)]).unwrap();
    let beside = emulate(|| attention(&q, &k, &v, &segments(), options)).unwrap();
    let got = emulate(|| attention(&rows(&q), &rows(&k), &rows(&v), &alone, options)).unwrap();
    let host = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<bf16>().unwrap();
    assert_eq!(host(&rows(&beside)), host(&got));
}

#[test]
fn a_query_that_sees_its_own_key_alone_gets_its_value() {
    let options = AttentionOptions { window: Some(1), ..AttentionOptions::for_width(64) };
    let inputs = inputs();
    let [out, dq, dk, dv] = <[Vec<bf16>; 4]>::try_from(run(&inputs, options)).unwrap();
    let values = inputs[2].flatten_all().unwrap().to_vec1::<bf16>().unwrap();
    // Two query heads read each key head, and the gradient of a result is the result.
    for (token, values) in values.chunks(128).enumerate() {
        for (head, values) in values.chunks(64).enumerate() {
            let at = token * 256 + head * 128;
            assert_eq!(out[at..at + 64], *values);
            assert_eq!(out[at + 64..at + 128], *values);
            let at = token * 128 + head * 64;
            for (grad, value) in dv[at..at + 64].iter().zip(values) {
                assert_eq!(grad.to_f32(), 2.0 * value.to_f32());
            }
        }
    }
    assert!(dq.iter().chain(&dk).all(|grad| grad.to_f32().abs() < 1e-4));
}

/// As many key heads as leave several query heads to a block, whose blocks' sums are then added.
#[test]
fn heads_that_share_keys_in_one_block_and_in_several_agree_with_the_cpu() {
    // Two tiles of 256 key heads are 512 blocks: twice as many, of two heads each, are enough.
    let (n, kv_heads, group, width) = (66, 256, 4, 8);
    let segments = Segments::new(vec![Span::new(0..3), Span::with_prefix(3..n, 0..3)]).unwrap();
    let options = AttentionOptions::for_width(width);
    let mut source = Source::new(8);
    let shapes = [[n, kv_heads * group, width], [n, kv_heads, width], [n, kv_heads, width]];
    let inputs = shapes.map(|shape| source.input(&shape, LAYOUTS[0]));
    let weights = source.tensor(&shapes[0]);
    let want = with_grads(&inputs, &weights, &segments, options);
    let got = emulate(|| with_grads(&inputs, &weights, &segments, options));
    for ((what, got), want) in ["result", "dq", "dk", "dv"].iter().zip(&got).zip(&want) {
        assert_close(what, got, want, 1e-5);
    }
}

#[test]
fn no_tokens_give_no_result() {
    let x = Tensor::zeros((0, 2, 64), DType::BF16, &Device::Cpu).unwrap();
    let segments = Segments::new(vec![]).unwrap();
    let out = emulate(|| attention(&x, &x, &x, &segments, AttentionOptions::for_width(64))).unwrap();
    assert_eq!(out.dims(), [0, 2, 64]);
}

#[test]
fn widths_without_a_kernel_are_refused() {
    for width in [12, 260, 512] {
        let x = Tensor::zeros((3, 1, width), DType::F16, &Device::Cpu).unwrap();
        let segments = Segments::causal(3).unwrap();
        let error = emulate(|| attention(&x, &x, &x, &segments, AttentionOptions::for_width(width))).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("attention: expected option `head_dim` a multiple of 8 up to 256 on a device, got {width}")
        );
    }
}
