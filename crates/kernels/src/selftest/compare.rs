//! One operation on two devices.

use super::Check;
use super::cases::Case;
use crate::autograd::{Gradients, Tape};
use crate::device::on_host;
use crate::error::{KernelError, Result};
use candle_core::{DType, Device, Tensor, Var};

/// Results and gradients of one run, in float32 on the host.
struct Outcome {
    results: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
}

/// Adds a check of the values and one of the gradients.
pub(super) fn compare(case: &Case, device: &Device, dtype: DType, checks: &mut Vec<Check>) -> Result<()> {
    // Both start from values that the 16-bit dtype represents.
    let inputs =
        case.inputs.iter().map(|x| Ok(x.to_dtype(dtype)?.to_dtype(DType::F32)?)).collect::<Result<Vec<_>>>()?;
    let want = on_host(|| run(case, &inputs, &Device::Cpu, DType::F32))?;
    let got = run(case, &inputs, device, dtype)?;
    let bound = bound(dtype);
    let mut check = |name: String, got: &[Vec<f32>], want: &[Vec<f32>]| {
        let largest = got.iter().zip(want).map(|(got, want)| difference(got, want)).fold(0.0, worse);
        checks.push(Check::new(name, dtype, case.shape.clone(), largest, bound));
    };
    check(case.name.to_owned(), &got.results, &want.results);
    check(format!("{}, backward", case.name), &got.gradients, &want.gradients);
    Ok(())
}

/// Maximum error that rounding to `dtype`, also of intermediate results, and another order of sums explain.
pub(super) fn bound(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 2f64.powi(-7),
        DType::F16 => 2f64.powi(-10),
        _ => 1e-5,
    }
}

/// The larger of two errors; NaN is the largest.
pub(super) fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The largest difference, relative to the largest element expected.
pub(super) fn difference(got: &[f32], want: &[f32]) -> f64 {
    if got.len() != want.len() {
        return f64::NAN;
    }
    let size = want.iter().fold(1e-3f64, |size, &x| size.max(f64::from(x).abs()));
    let differences = got.iter().zip(want).map(|(&got, &want)| (f64::from(got) - f64::from(want)).abs() / size);
    differences.fold(0.0, worse)
}

fn run(case: &Case, inputs: &[Tensor], device: &Device, dtype: DType) -> Result<Outcome> {
    let place = |(index, x): (usize, &Tensor)| -> Result<Var> {
        let dtype = if case.constants.contains(&index) { DType::F32 } else { dtype };
        Ok(Var::from_tensor(&x.to_device(device)?.to_dtype(dtype)?)?)
    };
    let vars = inputs.iter().enumerate().map(place).collect::<Result<Vec<_>>>()?;
    let arguments: Vec<Tensor> = vars
        .iter()
        .enumerate()
        .map(
            |(index, var)| {
                if case.constants.contains(&index) { var.as_detached_tensor() } else { var.as_tensor().clone() }
            },
        )
        .collect();
    let names: Vec<String> = case.parameters.iter().map(|index| index.to_string()).collect();
    let parameters = names.iter().zip(&case.parameters).map(|(name, &index)| (&name[..], &vars[index]));
    let mut gradients = Gradients::new(parameters)?;
    // The weighting of the results whose gradient is taken; the plain operations of candle run on the tape too.
    let (tape, recorded) = Tape::record(|| -> Result<(Tensor, Vec<Tensor>)> {
        let results = (case.run)(&arguments)?;
        let mut root: Option<Tensor> = None;
        for (result, weights) in results.iter().zip(&case.weights) {
            let weights = weights.to_device(device)?.to_dtype(result.dtype())?.to_dtype(DType::F32)?;
            // Of a scalar candle would send its extents, no bytes, to the device.
            let part = (result.to_dtype(DType::F32)? * weights.reshape(result.shape())?)?.flatten_all()?.sum_all()?;
            root = Some(match root {
                Some(root) => (root + part)?,
                None => part,
            });
        }
        let root = root.ok_or_else(|| KernelError::Candle(candle_core::Error::Msg("no result".into())))?;
        Ok((root, results))
    });
    let (root, results) = recorded?;
    let host = |tensor: &Tensor| -> Result<Vec<f32>> { Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?) };
    let results = results.iter().map(host).collect::<Result<Vec<_>>>()?;
    let one = Tensor::new(1f32, device)?;
    let mut others = tape.backward(&root, &one, &mut gradients)?;
    let mut grads = vec![];
    for (index, var) in vars.iter().enumerate().filter(|(index, _)| !case.constants.contains(index)) {
        let grad = match case.parameters.contains(&index) {
            true => gradients.tensor(var)?,
            false => others.remove(var)?,
        };
        grads.push(match grad {
            Some(grad) => host(&grad)?,
            None => vec![],
        });
    }
    Ok(Outcome { results, gradients: grads })
}
