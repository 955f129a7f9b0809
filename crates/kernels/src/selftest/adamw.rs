//! Steps of the optimizer on two devices.

use super::Check;
use super::compare::{bound, difference, worse};
use crate::device::on_host;
use crate::error::Result;
use crate::{AdamW, AdamWOptions, Parameter, Tape, weighted_sum};
use candle_core::{DType, Device, Tensor, Var};

const SIZES: [usize; 3] = [5, 300, 20_000];
const STEPS: usize = 4;

/// The parameters after some steps, clipped and decayed, and the last step's norm.
fn run(device: &Device, dtype: DType) -> Result<(Vec<Vec<f32>>, f64)> {
    let wave = |len: usize, phase: f32| (0..len).map(|i| (i as f32 * 0.37 + phase).sin()).collect::<Vec<f32>>();
    let mut parameters = vec![];
    for (index, len) in SIZES.into_iter().enumerate() {
        let start = Tensor::from_vec(wave(len, 0.1), len, &Device::Cpu)?.to_dtype(DType::BF16)?.to_dtype(dtype)?;
        let var = Var::from_tensor(&start.to_device(device)?)?;
        parameters.push(Parameter { name: format!("p{index}"), var, decay: index != 1, full_moments: false });
    }
    let options = AdamWOptions { weight_decay: 0.1, max_grad_norm: Some(1.0), ..AdamWOptions::default() };
    let vars: Vec<Var> = parameters.iter().map(|parameter| parameter.var.clone()).collect();
    let mut adamw = AdamW::new(parameters, options)?;
    let mut gradients = adamw.gradients()?;
    let mut norm = 0.0;
    for step in 0..STEPS {
        gradients.clear();
        for var in &vars {
            // Multiples of 1/64 are exact in every dtype.
            let gradient: Vec<f32> =
                wave(var.elem_count(), step as f32).iter().map(|x| (x * 64.0).round() / 64.0).collect();
            let weights = Tensor::from_vec(gradient, var.shape(), &Device::Cpu)?.to_device(device)?.to_dtype(dtype)?;
            let (tape, sum) = Tape::record(|| weighted_sum(var, &weights));
            tape.backward(&sum?, &Tensor::new(2f32, device)?, &mut gradients)?;
        }
        norm = adamw.step_scaled(&gradients, 0.01, 2.0)?.grad_norm;
    }
    let values = vars.iter().map(|var| Ok(var.to_dtype(DType::F32)?.to_vec1()?)).collect::<Result<Vec<_>>>()?;
    Ok((values, norm))
}

pub(super) fn compare(device: &Device, checks: &mut Vec<Check>) -> Result<()> {
    let (want, want_norm) = on_host(|| run(&Device::Cpu, DType::F32))?;
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let (got, norm) = run(device, dtype)?;
        let values = got.iter().zip(&want).map(|(got, want)| difference(got, want)).fold(0.0, worse);
        let largest = worse(values, (norm - want_norm).abs() / want_norm);
        let shape = format!("{SIZES:?}, {STEPS} steps");
        checks.push(Check::new("adamw".to_owned(), dtype, shape, largest, bound(dtype)));
    }
    Ok(())
}
