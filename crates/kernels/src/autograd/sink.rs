//! Delivery of the gradients of a node's arguments, on the CPU.

use super::argument::{Argument, Route};
use super::candle::through_candle;
use super::gradients::{self, Gradients};
use super::pending::Pending;
use crate::cpu::simd::add_assign;
use crate::cpu::{Dense, GradBuffer, Slice};
use crate::error::Result;
use candle_core::{Device, Tensor};
use std::ops::Deref;
use std::sync::Arc;

/// The gradient of a result, row-major.
pub(crate) enum ResultGrad<'a> {
    /// From candle.
    Tensor(&'a Tensor, Slice<'a>),
    /// From a tape.
    Shared(&'a Arc<Vec<f32>>),
}

impl Deref for ResultGrad<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Tensor(_, values) => values,
            Self::Shared(values) => values,
        }
    }
}

/// Given a result's gradient, and the result if it was recorded with [`super::record_with_result`], delivers the
/// gradients of the arguments.
pub(crate) type Backward = Box<dyn Fn(&ResultGrad<'_>, &Tensor, &mut GradSink<'_>) -> Result<()> + Send + Sync>;

/// Accepts the gradients of one node's arguments.
pub(crate) enum GradSink<'a> {
    /// Of a node of candle's graph: returned to candle, except those of the active [`Gradients`], which are added in
    /// place.
    Graph { arguments: &'a [&'a Tensor], out: &'a mut [Option<Tensor>] },
    /// Of a node on a tape: added in place to [`Gradients`] or to a pending sum.
    Tape(TapeSink<'a>),
}

impl GradSink<'_> {
    /// True if argument `index` needs a gradient.
    pub(crate) fn wants(&self, index: usize) -> bool {
        match self {
            Self::Graph { arguments, .. } => arguments[index].track_op(),
            Self::Tape(tape) => tape.wants(index),
        }
    }

    /// The buffer for the gradient of argument `index`, to be handed to [`GradSink::close`]; `None` if none is needed.
    pub(crate) fn open(&mut self, index: usize) -> Option<GradBuffer> {
        if !self.wants(index) {
            return None;
        }
        Some(match self {
            Self::Graph { arguments, .. } => gradients::take_active(arguments[index])
                .unwrap_or_else(|| GradBuffer { values: vec![0.0; arguments[index].elem_count()], accumulate: false }),
            Self::Tape(tape) => tape.open(index),
        })
    }

    /// Accepts a written buffer of [`GradSink::open`].
    pub(crate) fn close(&mut self, index: usize, buffer: GradBuffer) -> Result<()> {
        match self {
            Self::Graph { arguments, out } => {
                if let Some(buffer) = gradients::put_active(arguments[index], buffer) {
                    let shape = arguments[index].shape();
                    out[index] = Some(Tensor::from_vec(buffer.values, shape, &Device::Cpu)?);
                }
                Ok(())
            }
            Self::Tape(tape) => tape.close(index, buffer),
        }
    }

    /// Has `write` produce the gradient of argument `index`, if it is needed.
    pub(crate) fn deliver(&mut self, index: usize, write: impl FnOnce(&mut GradBuffer)) -> Result<()> {
        match self.open(index) {
            None => Ok(()),
            Some(mut buffer) => {
                write(&mut buffer);
                self.close(index, buffer)
            }
        }
    }

    /// Uninitialized memory of `len` floats, for a gradient to [`GradSink::pass`].
    pub(crate) fn blank(&mut self, len: usize) -> Vec<f32> {
        match self {
            Self::Graph { .. } => vec![0.0; len],
            Self::Tape(tape) => tape.pending.blank(len),
        }
    }

    /// Delivers the gradient of the result unchanged to argument `index`, which has as many elements.
    pub(crate) fn pass(&mut self, index: usize, gradient: &ResultGrad<'_>) -> Result<()> {
        if !self.wants(index) {
            return Ok(());
        }
        match (self, gradient) {
            (Self::Graph { arguments, out }, ResultGrad::Tensor(tensor, _)) => {
                out[index] = Some(tensor.reshape(arguments[index].shape())?);
                Ok(())
            }
            (Self::Tape(tape), ResultGrad::Shared(values)) => tape.share(index, values),
            (sink, gradient) => sink.deliver(index, |buffer| {
                buffer.zero_unless_accumulating();
                add_assign(&mut buffer.values, gradient);
            }),
        }
    }
}

/// Gradients of one node's arguments on a tape.
pub(crate) struct TapeSink<'a> {
    pub(super) arguments: &'a [Argument],
    pub(super) pending: &'a mut Pending,
    pub(super) gradients: &'a mut Gradients,
}

impl TapeSink<'_> {
    pub(super) fn wants(&self, index: usize) -> bool {
        self.arguments[index].wants()
    }

    fn open(&mut self, index: usize) -> GradBuffer {
        let Argument { len, route } = &self.arguments[index];
        match route {
            Route::Leaf(id) => self.gradients.take(*id).unwrap_or_else(|| self.pending.take(*id, *len)),
            _ => GradBuffer { values: self.pending.blank(*len), accumulate: false },
        }
    }

    fn close(&mut self, index: usize, buffer: GradBuffer) -> Result<()> {
        let arguments = self.arguments;
        match &arguments[index].route {
            Route::None => Ok(()),
            Route::Leaf(id) => {
                if let Some(buffer) = self.gradients.put(*id, buffer) {
                    self.pending.add(*id, &Arc::new(buffer.values));
                }
                Ok(())
            }
            Route::Graph(tensor) => {
                let values = Arc::new(buffer.values);
                let done = self.through_candle(tensor, &values);
                self.pending.recycle(values);
                done
            }
        }
    }

    /// As [`TapeSink::close`], for values that others read too.
    pub(super) fn share(&mut self, index: usize, values: &Arc<Vec<f32>>) -> Result<()> {
        let arguments = self.arguments;
        match &arguments[index].route {
            Route::None => Ok(()),
            Route::Leaf(id) => {
                if !self.gradients.add(*id, values) {
                    self.pending.add(*id, values);
                }
                Ok(())
            }
            Route::Graph(tensor) => self.through_candle(tensor, values),
        }
    }

    fn through_candle(&mut self, tensor: &Tensor, values: &[f32]) -> Result<()> {
        let gradient = Tensor::from_slice(values, tensor.shape(), &Device::Cpu)?;
        for (id, gradient) in through_candle(tensor, gradient)? {
            let gradient = Dense::new("backward", "gradient", &gradient)?;
            let values = gradient.read();
            if !self.gradients.add(id, &values) {
                self.pending.add(id, &Arc::new(values.to_vec()));
            }
        }
        Ok(())
    }
}

/// The gradient of an argument from a kernel that overwrites and cannot add.
pub(crate) struct FreshGrad {
    /// To be written, as long as the argument.
    pub(crate) fresh: Vec<f32>,
    sum: Option<GradBuffer>,
    wanted: bool,
}

impl FreshGrad {
    /// For argument `index` of `len` elements, wanted or not.
    pub(crate) fn open(sink: &mut GradSink<'_>, index: usize, len: usize) -> Self {
        match sink.open(index) {
            None => Self { fresh: vec![0.0; len], sum: None, wanted: false },
            Some(buffer) if buffer.accumulate => Self { fresh: vec![0.0; len], sum: Some(buffer), wanted: true },
            Some(GradBuffer { values, .. }) => Self { fresh: values, sum: None, wanted: true },
        }
    }

    /// Adds the written gradient to the sum so far.
    pub(crate) fn close(self, index: usize, sink: &mut GradSink<'_>) -> Result<()> {
        let Self { fresh, sum, wanted } = self;
        match sum {
            _ if !wanted => Ok(()),
            None => sink.close(index, GradBuffer { values: fresh, accumulate: false }),
            Some(mut buffer) => {
                add_assign(&mut buffer.values, &fresh);
                sink.close(index, buffer)
            }
        }
    }
}
