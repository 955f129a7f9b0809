//! Bit-equal from run to run and for any number of threads.

use crate::comparison::{Source, flat};
use candle_core::{Tensor, Var};
use rayon::ThreadPoolBuilder;
use smpo_kernels::{
    self as kernels, AdamW, AdamWOptions, AttentionOptions, HeadOptions, Parameter, Segments, Span, Tape,
};

/// A decoder layer and head with inputs, at sizes that are cut into several pieces.
struct Layer {
    table: Var,
    scale: Var,
    gate: Var,
    up: Var,
    down: Var,
    bias: Var,
    ids: Vec<u32>,
    targets: Vec<u32>,
    angles: [Tensor; 2],
    segments: Segments,
    weights: Tensor,
}

impl Layer {
    fn new(source: &mut Source) -> Self {
        let (n, h, v) = (600, 64, 2500);
        let segments = Segments::new(vec![
            Span::new(0..200),
            Span::with_prefix(200..300, 0..200),
            Span::with_prefix(300..410, 0..200),
            Span::new(410..600),
        ]);
        Self {
            table: source.var(&[v, h]),
            scale: source.var(&[h]),
            gate: source.var(&[200, h]),
            up: source.var(&[200, h]),
            down: source.var(&[h, 200]),
            bias: source.var(&[h]),
            ids: source.ids(n, v),
            targets: source.ids(n, v),
            angles: [source.tensor(&[n, 8]), source.tensor(&[n, 8])],
            segments: segments.unwrap(),
            weights: source.tensor(&[n]),
        }
    }

    fn vars(&self) -> [&Var; 6] {
        [&self.table, &self.scale, &self.gate, &self.up, &self.down, &self.bias]
    }

    /// Results of every operation; the head's are the last.
    fn forward(&self) -> kernels::Result<[Tensor; 8]> {
        let (n, h) = (self.ids.len(), 64);
        let [cos, sin] = &self.angles;
        let x = kernels::embedding(&self.table, &self.ids)?;
        let y = kernels::rms_norm(&x, &self.scale, 1e-6)?;
        let q = kernels::rotary(&y.reshape((n, 4, 16))?, cos, sin, kernels::RotaryPairs::Halves)?;
        let k = q.narrow(1, 0, 2)?;
        let mixed = kernels::attention(&q, &k, &k, &self.segments, AttentionOptions::for_width(16))?;
        let mixed = mixed.reshape((n, h))?;
        let step = kernels::add_rms_norm(&mixed, &x, &self.scale, 1e-6)?;
        let [gate, up] = [&self.gate, &self.up].map(|weight| kernels::linear(&step.normed, weight, None));
        let inner = kernels::swiglu(&gate?, &up?)?;
        let out = kernels::linear(&inner, &self.down, Some(&self.bias))?;
        let last = kernels::add_rms_norm(&out, &step.sum, &self.scale, 1e-6)?;
        let head = kernels::selected_log_probs(&last.normed, &self.table, &self.targets, HeadOptions::default())?;
        Ok([x, y, q, mixed, inner, out, last.normed, head])
    }
}

/// Bits of the results of every operation, of the gradients and of the parameters after one step.
fn everything(threads: usize, taped: bool) -> Vec<Vec<u32>> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let layer = Layer::new(&mut Source::new(42));
        let mut seen = vec![];
        let mut see = |tensor: &Tensor| seen.push(flat(tensor).iter().map(|x| x.to_bits()).collect());
        let (tape, results) = match taped {
            true => Tape::record(|| layer.forward()),
            false => (Tape::default(), layer.forward()),
        };
        let results = results.unwrap();
        results.iter().for_each(&mut see);
        let parameters = layer
            .vars()
            .iter()
            .enumerate()
            .map(|(index, &var)| Parameter {
                name: index.to_string(),
                var: var.clone(),
                decay: true,
                full_moments: false,
            })
            .collect();
        let options = AdamWOptions { max_grad_norm: Some(1.0), ..AdamWOptions::default() };
        let mut adamw = AdamW::new(parameters, options).unwrap();
        let mut gradients = adamw.gradients().unwrap();
        let head = &results[7];
        if taped {
            tape.backward(head, &layer.weights, &mut gradients).unwrap();
        } else {
            gradients.backward(&kernels::weighted_sum(head, &layer.weights).unwrap()).unwrap();
        }
        layer.vars().iter().for_each(|var| see(&gradients.tensor(var).unwrap().unwrap()));
        adamw.step(&gradients, 1e-3).unwrap();
        layer.vars().iter().for_each(|var| see(var));
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
