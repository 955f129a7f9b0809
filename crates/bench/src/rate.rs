//! FLOP/s of matrix products.

use std::time::Instant;

use candle_core::Tensor;
use smpo_devices::OpenDevice;
use smpo_kernels::linear;

use crate::error::BenchError;

/// Rows, inputs and outputs of the product that is timed: large enough to be compute-bound.
const PRODUCT: [usize; 3] = [1024, 2048, 2048];
/// Repetitions, of which the fastest counts: every disturbance slows one down.
const ROUNDS: usize = 8;

/// Best rate of a float32 product with this program's kernel, in FLOP/s.
///
/// # Errors
/// When a tensor cannot be created.
pub fn measured(device: &OpenDevice) -> Result<f64, BenchError> {
    let [rows, inputs, outputs] = PRODUCT;
    let filled = |count: usize| (0..count).map(|index| (index % 17) as f32 * 0.01).collect::<Vec<f32>>();
    let x = Tensor::from_vec(filled(rows * inputs), (rows, inputs), device.device())?;
    let weight = Tensor::from_vec(filled(outputs * inputs), (outputs, inputs), device.device())?;
    let operations = 2.0 * rows as f64 * inputs as f64 * outputs as f64;
    let mut best = 0f64;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        linear(&x, &weight, None)?;
        device.synchronize()?;
        best = best.max(operations / began.elapsed().as_secs_f64());
    }
    Ok(best)
}
