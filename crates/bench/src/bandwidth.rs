//! Memory bandwidth.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use candle_core::{DType, Tensor};
use smpo_devices::{Kind, OpenDevice};

use crate::error::BenchError;

/// Bytes that are read: more than any cache holds.
const BYTES: usize = 1 << 29;
/// Repetitions, of which the fastest counts: every disturbance slows one down.
const ROUNDS: usize = 5;

/// Best bandwidth in bytes/s: on a GPU of a copy, read and written bytes together; on the CPU of reading by as many threads as there
/// are cores. `None` for the emulator.
///
/// # Errors
/// When memory is exhausted.
pub fn measured(device: &OpenDevice) -> Result<Option<f64>, BenchError> {
    let elements = BYTES / size_of::<f32>();
    let source = match device.kind() {
        Kind::Emulated => return Ok(None),
        Kind::Cpu | Kind::Cuda(_) => Tensor::ones(elements, DType::F32, device.device())?,
    };
    let on_gpu = matches!(device.kind(), Kind::Cuda(_));
    let values = if on_gpu { Vec::new() } else { source.to_vec1::<f32>()? };
    let bytes = if on_gpu { 2 * BYTES } else { BYTES };
    let mut best = 0f64;
    for _ in 0..ROUNDS {
        device.synchronize()?;
        let began = Instant::now();
        if on_gpu {
            source.copy()?;
        } else {
            read(&values);
        }
        device.synchronize()?;
        best = best.max(bytes as f64 / began.elapsed().as_secs_f64());
    }
    Ok(Some(best))
}

fn read(values: &[f32]) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for part in values.chunks(values.len().div_ceil(threads)) {
            scope.spawn(|| {
                let mut sums = [0f32; 64];
                for chunk in part.chunks_exact(64) {
                    sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
                }
                black_box(sums);
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use smpo_devices::Choice;

    use super::*;

    #[test]
    fn the_cpu_reads_some_gigabytes_a_second() {
        let rate = measured(&Choice::Cpu.open().unwrap()).unwrap().unwrap();
        assert!((1e8..1e13).contains(&rate), "{rate}");
    }
}
