//! How a kernel enters candle's autograd.
//!
//! candle's custom operations compute inside a callback that returns one tensor and no state. The
//! kernels need more: typed errors, values kept for the backward pass, two results from one sweep.
//! So a kernel computes first, over plain slices, and then records a node that hands candle the
//! finished values and owns the closure for the backward pass.

use crate::error::Result;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Shape, Tensor};
use std::sync::Mutex;

/// What the backward pass of a node sees.
pub(crate) struct Backward<'a, const ARGUMENTS: usize> {
    pub(crate) arguments: [&'a Tensor; ARGUMENTS],
    pub(crate) result: &'a Tensor,
    pub(crate) gradient: &'a Tensor,
}

/// The gradients of a node's arguments; `None` where none is needed.
pub(crate) type Gradients<const ARGUMENTS: usize> = [Option<Tensor>; ARGUMENTS];

struct Node<F> {
    name: &'static str,
    output: Mutex<Option<(Vec<f32>, Shape)>>,
    backward: F,
}

impl<F> Node<F> {
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
}

impl<F> CustomOp1 for Node<F>
where
    F: Fn(Backward<'_, 1>) -> Result<Gradients<1>> + Send + Sync,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.output()
    }

    fn bwd(&self, a: &Tensor, result: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let [a] = (self.backward)(Backward { arguments: [a], result, gradient })?;
        Ok(a)
    }
}

impl<F> CustomOp2 for Node<F>
where
    F: Fn(Backward<'_, 2>) -> Result<Gradients<2>> + Send + Sync,
{
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
        let [a, b] = (self.backward)(Backward { arguments: [a, b], result, gradient })?;
        Ok((a, b))
    }
}

impl<F> CustomOp3 for Node<F>
where
    F: Fn(Backward<'_, 3>) -> Result<Gradients<3>> + Send + Sync,
{
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
        let [a, b, c] = (self.backward)(Backward { arguments: [a, b, c], result, gradient })?;
        Ok((a, b, c))
    }
}

/// A tensor outside any graph.
pub(crate) fn constant(values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

macro_rules! record {
    ($(#[$doc:meta])* $name:ident, $count:literal, $apply:ident, $first:ident $(, $other:ident)*) => {
        $(#[$doc])*
        pub(crate) fn $name<F>(
            name: &'static str,
            [$first $(, $other)*]: [&Tensor; $count],
            values: Vec<f32>,
            shape: &[usize],
            backward: F,
        ) -> Result<Tensor>
        where
            F: Fn(Backward<'_, $count>) -> Result<Gradients<$count>> + Send + Sync + 'static,
        {
            let tracked = $first.track_op() $(|| $other.track_op())*;
            if !tracked {
                return constant(values, shape);
            }
            let output = Mutex::new(Some((values, Shape::from(shape))));
            Ok($first.$apply($($other,)* Node { name, output, backward })?)
        }
    };
}

record!(
    /// Records a result of one argument.
    record1, 1, apply_op1, a
);
record!(
    /// Records a result of two arguments.
    record2, 2, apply_op2, a, b
);
record!(
    /// Records a result of three arguments.
    record3, 3, apply_op3, a, b, c
);
