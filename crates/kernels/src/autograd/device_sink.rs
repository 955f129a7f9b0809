//! Delivery of the gradients of a node's arguments, on a device.

use super::argument::{Argument, Route};
use super::candle::through_candle;
use super::pending::DeviceSum;
use super::sink::TapeSink;
use crate::device::{DeviceGrad, Engine, Role, convert};
use crate::error::{KernelError, Result};
use candle_core::{DType, Tensor, TensorId};
use std::sync::Arc;

/// The gradients of a node's results; `None` where nothing reached one.
pub(crate) type ResultGrads<'a> = &'a [Option<DeviceSum>];

/// Given the gradients of the results, delivers those of the arguments.
pub(crate) type DeviceBackward = Box<dyn Fn(ResultGrads<'_>, &mut DeviceSink<'_>) -> Result<()> + Send + Sync>;

/// Accepts the gradients of one node's arguments: added in place to [`super::Gradients`] or to a pending sum.
pub(crate) struct DeviceSink<'a> {
    pub(super) engine: &'a Engine,
    pub(super) tape: TapeSink<'a>,
}

impl DeviceSink<'_> {
    /// True if argument `index` needs a gradient.
    pub(crate) fn wants(&self, index: usize) -> bool {
        self.tape.wants(index)
    }

    /// A tensor of the argument's length to write the gradient into, for [`DeviceSink::close`]: float32 for a parameter,
    /// else of `dtype`. `None` if none is needed.
    pub(crate) fn open(&mut self, index: usize, dtype: DType) -> Result<Option<DeviceGrad>> {
        let Argument { len, route } = &self.tape.arguments[index];
        let Route::Leaf(id) = route else {
            return match route {
                Route::None => Ok(None),
                _ => self.blank(*len, dtype).map(Some),
            };
        };
        if let Some(grad) = self.tape.gradients.take_on(self.engine, *id)? {
            return Ok(Some(grad));
        }
        match self.tape.pending.device.remove(id) {
            Some(sum) => {
                let tensor = match Arc::try_unwrap(sum) {
                    Ok(tensor) => tensor,
                    Err(shared) => self.engine.copy(&shared, Role::Constant)?,
                };
                Ok(Some(DeviceGrad { tensor, accumulate: true }))
            }
            None => self.blank(*len, dtype).map(Some),
        }
    }

    fn blank(&self, len: usize, dtype: DType) -> Result<DeviceGrad> {
        Ok(DeviceGrad { tensor: self.engine.allocate(dtype, &[len], Role::Constant)?, accumulate: false })
    }

    /// Accepts a written tensor of [`DeviceSink::open`].
    pub(crate) fn close(&mut self, index: usize, tensor: Tensor) -> Result<()> {
        let arguments = self.tape.arguments;
        match &arguments[index].route {
            Route::None => Ok(()),
            Route::Leaf(id) => {
                if let Some(tensor) = self.tape.gradients.put_on(self.engine, *id, tensor)? {
                    self.tape.pending.add_on(self.engine, *id, &Arc::new(tensor))?;
                }
                Ok(())
            }
            Route::Graph(graph) => self.through_candle(graph, &tensor),
        }
    }

    /// Has `write` produce the gradient of argument `index` in [`DeviceSink::open`]'s tensor, if it is needed.
    pub(crate) fn deliver(
        &mut self,
        index: usize,
        dtype: DType,
        write: impl FnOnce(&DeviceGrad) -> Result<()>,
    ) -> Result<()> {
        let Some(grad) = self.open(index, dtype)? else { return Ok(()) };
        write(&grad)?;
        self.close(index, grad.tensor)
    }

    /// Delivers a finished gradient to argument `index`, of the argument's dtype or float32.
    pub(crate) fn give(&mut self, index: usize, gradient: Tensor) -> Result<()> {
        self.pass(index, &Arc::new(gradient))
    }

    /// As [`DeviceSink::give`], for a gradient that others read too.
    pub(crate) fn pass(&mut self, index: usize, gradient: &DeviceSum) -> Result<()> {
        let arguments = self.tape.arguments;
        match &arguments[index].route {
            Route::None => Ok(()),
            Route::Leaf(id) => self.add(*id, gradient),
            Route::Graph(graph) => self.through_candle(graph, gradient),
        }
    }

    /// Adds to the gradient of a leaf.
    fn add(&mut self, id: TensorId, gradient: &DeviceSum) -> Result<()> {
        let Some(DeviceGrad { tensor, accumulate }) = self.tape.gradients.take_on(self.engine, id)? else {
            return self.tape.pending.add_on(self.engine, id, gradient);
        };
        convert(self.engine, gradient, &tensor, accumulate)?;
        self.tape.gradients.put_on(self.engine, id, tensor)?;
        Ok(())
    }

    fn through_candle(&mut self, tensor: &Tensor, gradient: &Tensor) -> Result<()> {
        let gradient = gradient.reshape(tensor.shape())?.to_dtype(tensor.dtype())?;
        for (id, gradient) in through_candle(tensor, gradient)? {
            self.add(id, &Arc::new(gradient.detach().contiguous()?))?;
        }
        Ok(())
    }
}

/// The only gradient of a node with one result.
pub(crate) fn single<'a>(gradients: ResultGrads<'a>, op: &'static str) -> Result<&'a DeviceSum> {
    match gradients {
        [Some(gradient)] => Ok(gradient),
        _ => Err(KernelError::Candle(candle_core::Error::Msg(format!("{op}: expected one gradient")).bt())),
    }
}
