//! Recording of results, on a tape or in candle's graph.
//!
//! candle's custom operations compute inside a callback that returns one tensor and no state. The
//! kernels need more: typed errors, values kept for the backward pass, two results from one sweep.
//! So a kernel computes first, over plain slices, and is recorded afterwards with its finished
//! values and a closure: on the running [`crate::Tape`] if there is one, else as a node of candle's
//! graph.

use super::sink::{Backward, GradSink, ResultGrad};
use super::tape;
use crate::cpu::Dense;
use crate::error::Result;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Shape, Tensor};
use std::sync::Mutex;

/// A node of candle's graph.
struct Node {
    name: &'static str,
    output: Mutex<Option<(Vec<f32>, Shape)>>,
    backward: Backward,
}

impl Node {
    fn output(&self) -> candle_core::Result<(CpuStorage, Shape)> {
        let output = match self.output.lock() {
            Ok(mut output) => output.take(),
            Err(poisoned) => poisoned.into_inner().take(),
        };
        match output {
            Some((values, shape)) => Ok((CpuStorage::F32(values), shape)),
            None => candle_core::bail!("{}: a recorded node ran twice", self.name),
        }
    }

    fn gradients<const ARGUMENTS: usize>(
        &self,
        arguments: [&Tensor; ARGUMENTS],
        result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; ARGUMENTS]> {
        let dense = Dense::new(self.name, "gradient", gradient)?;
        let mut out = std::array::from_fn(|_| None);
        let mut sink = GradSink::Graph { arguments: &arguments, out: &mut out };
        (self.backward)(&ResultGrad::Tensor(gradient, dense.read()), result, &mut sink)?;
        Ok(out)
    }
}

impl CustomOp1 for Node {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.output()
    }

    fn bwd(&self, a: &Tensor, result: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let [a] = self.gradients([a], result, gradient)?;
        Ok(a)
    }
}

impl CustomOp2 for Node {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.output()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.gradients([a, b], result, gradient)?;
        Ok((a, b))
    }
}

impl CustomOp3 for Node {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.output()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [a, b, c] = self.gradients([a, b, c], result, gradient)?;
        Ok((a, b, c))
    }
}

/// A tensor outside any graph.
fn constant(values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Records a result whose backward pass does not read the result itself. Arguments come in any
/// number on a tape, one to three in candle's graph.
pub(crate) fn record(
    name: &'static str,
    arguments: &[&Tensor],
    values: Vec<f32>,
    shape: &[usize],
    backward: impl Fn(&ResultGrad<'_>, &Tensor, &mut GradSink<'_>) -> Result<()> + Send + Sync + 'static,
) -> Result<Tensor> {
    record_any(name, arguments, values, shape, false, Box::new(backward))
}

/// As [`record`], for a backward pass that reads the result.
pub(crate) fn record_with_result(
    name: &'static str,
    arguments: &[&Tensor],
    values: Vec<f32>,
    shape: &[usize],
    backward: impl Fn(&ResultGrad<'_>, &Tensor, &mut GradSink<'_>) -> Result<()> + Send + Sync + 'static,
) -> Result<Tensor> {
    record_any(name, arguments, values, shape, true, Box::new(backward))
}

fn record_any(
    name: &'static str,
    arguments: &[&Tensor],
    values: Vec<f32>,
    shape: &[usize],
    keeps_result: bool,
    backward: Backward,
) -> Result<Tensor> {
    if !arguments.iter().any(|argument| argument.track_op()) {
        return constant(values, shape);
    }
    if tape::is_recording() {
        return tape::push(arguments, values, shape, keeps_result, backward);
    }
    let output = Mutex::new(Some((values, Shape::from(shape))));
    let node = Node { name, output, backward };
    Ok(match arguments {
        [a] => a.apply_op1(node)?,
        [a, b] => a.apply_op2(b, node)?,
        [a, b, c] => a.apply_op3(b, c, node)?,
        _ => {
            let message = format!("{name}: candle records one to three arguments");
            return Err(candle_core::Error::Msg(message).into());
        }
    })
}
