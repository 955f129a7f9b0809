//! Where the gradients of a node's arguments go.

use crate::error::Result;
use crate::gradients;
use crate::graph::Incoming;
use crate::tape::TapeOutlet;
use candle_core::{Device, Tensor};

/// A gradient that is being written.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// As long as the argument.
    pub(crate) values: Vec<f32>,
    /// Whether to add to `values`; otherwise they hold nothing of use and all must be written.
    pub(crate) accumulate: bool,
}

impl Buffer {
    /// Makes adding right in either case.
    pub(crate) fn zero_unless_accumulating(&mut self) {
        if !self.accumulate {
            self.values.fill(0.0);
        }
    }
}

/// Takes the gradients of one node's arguments.
pub(crate) enum Outlet<'a> {
    /// Returned to candle, except those of the active [`crate::Gradients`], which are added in
    /// place.
    Candle { arguments: &'a [&'a Tensor], out: &'a mut [Option<Tensor>] },
    /// Added in place, wherever they belong.
    Tape(TapeOutlet<'a>),
}

impl Outlet<'_> {
    /// Whether argument `index` needs a gradient.
    pub(crate) fn wants(&self, index: usize) -> bool {
        match self {
            Self::Candle { arguments, .. } => arguments[index].track_op(),
            Self::Tape(tape) => tape.wants(index),
        }
    }

    /// The buffer for the gradient of argument `index`, to be given back to [`Outlet::close`];
    /// `None` if none is needed.
    pub(crate) fn open(&mut self, index: usize) -> Option<Buffer> {
        if !self.wants(index) {
            return None;
        }
        Some(match self {
            Self::Candle { arguments, .. } => gradients::take_active(arguments[index])
                .unwrap_or_else(|| Buffer { values: vec![0.0; arguments[index].elem_count()], accumulate: false }),
            Self::Tape(tape) => tape.open(index),
        })
    }

    /// Takes a written buffer back.
    pub(crate) fn close(&mut self, index: usize, buffer: Buffer) -> Result<()> {
        match self {
            Self::Candle { arguments, out } => {
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
    pub(crate) fn deliver(&mut self, index: usize, write: impl FnOnce(&mut Buffer)) -> Result<()> {
        match self.open(index) {
            None => Ok(()),
            Some(mut buffer) => {
                write(&mut buffer);
                self.close(index, buffer)
            }
        }
    }

    /// Memory of `len` elements that hold anything, for a gradient to pass on.
    pub(crate) fn blank(&mut self, len: usize) -> Vec<f32> {
        match self {
            Self::Candle { .. } => vec![0.0; len],
            Self::Tape(tape) => tape.blank(len),
        }
    }

    /// Hands the gradient of the result on to argument `index`, which has the same elements.
    pub(crate) fn pass(&mut self, index: usize, gradient: &Incoming<'_>) -> Result<()> {
        if !self.wants(index) {
            return Ok(());
        }
        match (self, gradient) {
            (Self::Candle { arguments, out }, Incoming::Tensor(tensor, _)) => {
                out[index] = Some(tensor.reshape(arguments[index].shape())?);
                Ok(())
            }
            (Self::Tape(tape), Incoming::Shared(values)) => tape.share(index, values),
            (outlet, gradient) => outlet.deliver(index, |buffer| {
                buffer.zero_unless_accumulating();
                crate::simd::add_assign(&mut buffer.values, gradient);
            }),
        }
    }
}

/// The gradient of an argument from a kernel that writes and does not add.
pub(crate) struct Slopes {
    /// To be written, as long as the argument.
    pub(crate) fresh: Vec<f32>,
    sum: Option<Buffer>,
    wanted: bool,
}

impl Slopes {
    /// For an argument of `len` elements, wanted or not.
    pub(crate) fn new(buffer: Option<Buffer>, len: usize) -> Self {
        match buffer {
            None => Self { fresh: vec![0.0; len], sum: None, wanted: false },
            Some(buffer) if buffer.accumulate => Self { fresh: vec![0.0; len], sum: Some(buffer), wanted: true },
            Some(Buffer { values, .. }) => Self { fresh: values, sum: None, wanted: true },
        }
    }

    /// Adds what was written to what was there.
    pub(crate) fn close(self, index: usize, out: &mut Outlet<'_>) -> Result<()> {
        let Self { fresh, sum, wanted } = self;
        match sum {
            _ if !wanted => Ok(()),
            None => out.close(index, Buffer { values: fresh, accumulate: false }),
            Some(mut buffer) => {
                crate::simd::add_assign(&mut buffer.values, &fresh);
                out.close(index, buffer)
            }
        }
    }
}
