//! Bit-equal from run to run and for any number of threads.

use crate::comparison::{Source, flat};
use candle_core::Tensor;
use rayon::ThreadPoolBuilder;
use smpo_kernels::{
    self as kernels, AdamW, AdamWOptions, AttentionOptions, HeadOptions, Parameter, Segments, Span, Tape,
};

/// Bits of results and gradients of every kernel, at sizes that are cut into several pieces.
fn everything(threads: usize, taped: bool) -> Vec<Vec<u32>> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut source = Source::new(42);
        let mut seen = vec![];
        let mut see = |tensor: &Tensor| seen.push(flat(tensor).iter().map(|x| x.to_bits()).collect());
        let (n, h, v) = (600, 64, 2500);
        let table = source.var(&[v, h]);
        let ids = source.ids(n, v);
        let scale = source.var(&[h]);
        let gate = source.var(&[200, h]);
        let up = source.var(&[200, h]);
        let down = source.var(&[h, 200]);
        let bias = source.var(&[h]);
        let (cos, sin) = (source.tensor(&[n, 8]), source.tensor(&[n, 8]));
        let segments = Segments::new(vec![
            Span::new(0..200),
            Span::with_prefix(200..300, 0..200),
            Span::with_prefix(300..410, 0..200),
            Span::new(410..600),
        ])
        .unwrap();
        let weights = source.tensor(&[n]);
        let targets = source.ids(n, v);
        let forward = || {
            let x = kernels::embedding(&table, &ids).unwrap();
            let y = kernels::rms_norm(&x, &scale, 1e-6).unwrap();
            let q = kernels::rotary(&y.reshape((n, 4, 16)).unwrap(), &cos, &sin).unwrap();
            let k = q.narrow(1, 0, 2).unwrap();
            let mixed = kernels::attention(&q, &k, &k, &segments, AttentionOptions::for_width(16)).unwrap();
            let mixed = mixed.reshape((n, h)).unwrap();
            let step = kernels::add_rms_norm(&mixed, &x, &scale, 1e-6).unwrap();
            let inner = kernels::swiglu(
                &kernels::linear(&step.normed, &gate, None).unwrap(),
                &kernels::linear(&step.normed, &up, None).unwrap(),
            )
            .unwrap();
            let out = kernels::linear(&inner, &down, Some(&bias)).unwrap();
            let last = kernels::add_rms_norm(&out, &step.sum, &scale, 1e-6).unwrap();
            let head = kernels::selected_log_probs(&last.normed, &table, &targets, HeadOptions::default()).unwrap();
            [x, y, q, mixed, inner, out, last.normed, head]
        };
        let (tape, results) = match taped {
            true => Tape::record(forward),
            false => (Tape::default(), forward()),
        };
        for tensor in &results {
            see(tensor);
        }
        let head = &results[7];
        let vars = [&table, &scale, &gate, &up, &down, &bias];
        let parameters = vars
            .iter()
            .enumerate()
            .map(|(index, &var)| Parameter { name: index.to_string(), var: var.clone(), decay: true })
            .collect();
        let options = AdamWOptions { max_grad_norm: Some(1.0), ..AdamWOptions::default() };
        let mut adamw = AdamW::new(parameters, options).unwrap();
        let mut gradients = adamw.gradients().unwrap();
        if taped {
            tape.backward(head, &weights, &mut gradients).unwrap();
        } else {
            gradients.backward(&kernels::weighted_sum(head, &weights).unwrap()).unwrap();
        }
        for var in vars {
            see(&gradients.tensor(var).unwrap().unwrap());
        }
        adamw.step(&gradients, 1e-3).unwrap();
        for var in vars {
            see(var);
        }
        seen
    })
}

#[test]
fn threads_do_not_change_a_bit() {
    for taped in [false, true] {
        let one = everything(1, taped);
        assert!(one == everything(1, taped), "two runs differ");
        for threads in [2, 3, 8] {
            let many = everything(threads, taped);
            let differing: Vec<usize> = (0..one.len()).filter(|&index| one[index] != many[index]).collect();
            assert!(differing.is_empty(), "{threads} threads change results {differing:?}");
        }
    }
}
