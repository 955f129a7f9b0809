//! Memory of a sequence's tokens in a gated delta net: the last inputs of the convolution, and a state for each value head.

use candle_core::Tensor;

use crate::cpu::Dense;
use crate::cpu::delta::{Columns, DeltaInputs, Gates, LANES, Lanes, UnitKeys, ValuePlace, log_decay, run};
use crate::cpu::gated::Gated;
use crate::cpu::parallel::{Shared, tasks};
use crate::cpu::short_convolution::{by_taps, multiply_add, silu};
use crate::error::Result;
use crate::options::DeltaHeads;

/// Parameters of a gated delta net between its projections.
#[derive(Debug, Clone)]
pub struct DeltaWeights {
    heads: DeltaHeads,
    /// Taps of the convolution, the oldest token's first, (W, row width).
    taps: Vec<f32>,
    rates: Vec<f32>,
    biases: Vec<f32>,
}

/// Memory of one sequence in one block.
#[derive(Debug, Clone, Default)]
pub struct DeltaState {
    /// The last inputs of the convolution, zeros before the first, (W − 1, row width).
    window: Vec<f32>,
    /// (value heads, blocks of columns, K).
    states: Vec<Lanes>,
}

impl DeltaWeights {
    /// From the convolution's weight (row width, 1, W), and the decay's rates and biases (value heads).
    ///
    /// # Errors
    ///
    /// [`crate::KernelError::Type`], [`crate::KernelError::Device`] for unfit tensors.
    pub fn new(heads: DeltaHeads, convolution: &Tensor, rate: &Tensor, bias: &Tensor) -> Result<Self> {
        let read = |argument: &'static str, tensor: &Tensor| -> Result<Vec<f32>> {
            Ok(Dense::new("delta", argument, tensor)?.read().to_vec())
        };
        Ok(Self {
            heads,
            taps: by_taps(&read("convolution", convolution)?, heads.row_width()),
            rates: read("rate", rate)?,
            biases: read("bias", bias)?,
        })
    }

    /// The heads.
    pub fn heads(&self) -> DeltaHeads {
        self.heads
    }

    /// The memory of no token.
    pub fn start(&self) -> DeltaState {
        let blocks = self.heads.value_dim.div_ceil(LANES);
        DeltaState {
            window: vec![0.0; self.taps.len().saturating_sub(self.heads.row_width())],
            states: vec![[0.0; LANES]; self.heads.value_heads * blocks * self.heads.key_dim],
        }
    }

    /// Bytes of the memory of a sequence.
    pub fn state_bytes(&self) -> usize {
        let DeltaHeads { value_heads, key_dim, value_dim, .. } = self.heads;
        let states = value_heads * value_dim.next_multiple_of(LANES) * key_dim;
        (states + self.taps.len().saturating_sub(self.heads.row_width())) * size_of::<f32>()
    }

    /// Takes in tokens: `qkv` (T, row width), which is overwritten, and steps and strengths (T, value heads), all as they
    /// leave their projections; to `out` (T, value heads, V). Tokens one by one give the same bits.
    ///
    /// # Panics
    ///
    /// If lengths differ, or the memory is another net's.
    pub fn advance(&self, state: &mut DeltaState, qkv: &mut [f32], gates: [&[f32]; 2], out: &mut [f32]) {
        let heads = self.heads;
        let DeltaHeads { key_heads, value_heads, key_dim, value_dim } = heads;
        let [steps, strengths] = gates;
        let tokens = steps.len() / value_heads.max(1);
        assert_eq!((qkv.len(), out.len()), (tokens * heads.row_width(), tokens * heads.value_width()));
        self.convolve(&mut state.window, qkv);
        let of_head = steps.iter().enumerate().map(|(index, x)| (*x, index % value_heads));
        let decay: Vec<f32> = of_head.map(|(x, head)| log_decay(x, self.rates[head], self.biases[head])).collect();
        let mut strength = vec![0.0; strengths.len()];
        Gated::Sigmoid.forward_piece(strengths, &vec![1.0; strengths.len()], &mut strength);
        let inputs = DeltaInputs { qkv, decay: &decay, strength: &strength };
        let blocks = value_dim.div_ceil(LANES);
        assert_eq!(state.states.len(), value_heads * blocks * key_dim);
        let (states, out) = (Shared::new(&mut state.states), Shared::new(out));
        tasks(key_heads, 3 * tokens * value_heads * key_dim * value_dim, |key_head| {
            let keys = UnitKeys::new(heads, inputs.qkv, 0..tokens, key_head);
            let mut outputs = vec![[0.0; LANES]; tokens];
            for head in key_head * heads.group()..(key_head + 1) * heads.group() {
                let gates = Gates::new(heads, inputs, 0..tokens, head);
                for block in 0..blocks {
                    let place = ValuePlace { heads, tokens: 0..tokens, head, first: block * LANES };
                    let columns = Columns { keys: &keys, gates: &gates, values: &place.gather_qkv(inputs.qkv) };
                    // SAFETY: the states and outputs of this key head's value heads belong to this task alone.
                    let state = unsafe { states.slice((head * blocks + block) * key_dim, key_dim) };
                    run(state, columns.part(0..tokens), &mut outputs);
                    for (token, lanes) in outputs.iter().enumerate() {
                        // SAFETY: as above.
                        let out = unsafe { out.slice(token * heads.value_width() + place.offset(), place.count()) };
                        out.copy_from_slice(&lanes[..out.len()]);
                    }
                }
            }
        });
    }

    /// The convolution of rows in place, and the window after them.
    fn convolve(&self, window: &mut Vec<f32>, rows: &mut [f32]) {
        let width = self.heads.row_width();
        let kept = window.len();
        window.extend_from_slice(rows);
        for (token, row) in rows.chunks_exact_mut(width).enumerate() {
            row.fill(0.0);
            let inputs = window[token * width..].chunks_exact(width);
            self.taps.chunks_exact(width).zip(inputs).for_each(|(taps, input)| multiply_add(row, taps, input));
            silu(row);
        }
        window.drain(..window.len() - kept);
    }
}
