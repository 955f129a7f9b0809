//! The way of gradients between the nodes of a tape, on a device.

use super::engine::{Engine, Role};
use super::{accumulate, add, convert};
use crate::error::{KernelError, Result};
use crate::gradients::Gradients;
use crate::tape::{Argument, Route};
use candle_core::{DType, Tensor, TensorId};
use std::collections::HashMap;
use std::sync::Arc;

/// A gradient that may have several readers; it is added to in place only where it has one.
pub(crate) type Sum = Arc<Tensor>;

/// The gradients of a node's results; `None` where nothing reached one.
pub(crate) type Incoming<'a> = &'a [Option<Sum>];

/// Puts the gradients of a node's arguments into the outlet.
pub(crate) type Backward = Box<dyn Fn(Incoming<'_>, &mut Outlet<'_>) -> Result<()> + Send + Sync>;

/// Gradients on their way.
#[derive(Debug, Default)]
pub(crate) struct Pending(pub(crate) HashMap<TensorId, Sum>);

impl Pending {
    /// Adds `gradient` to what is there.
    fn add(&mut self, engine: &Engine, id: TensorId, gradient: &Sum) -> Result<()> {
        let Some(sum) = self.0.get_mut(&id) else {
            self.0.insert(id, Arc::clone(gradient));
            return Ok(());
        };
        match Arc::get_mut(sum) {
            Some(sum) => accumulate(engine, sum, gradient),
            None => {
                let total = engine.allocate(sum.dtype(), sum.dims(), Role::Constant)?;
                add::sum_into(engine, sum, gradient, &total)?;
                *sum = Arc::new(total);
                Ok(())
            }
        }
    }
}

/// A gradient that a matrix product is to be added to.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) tensor: Tensor,
    /// Whether to add; otherwise the tensor holds anything.
    pub(crate) accumulate: bool,
}

/// Takes the gradients of one node's arguments.
pub(crate) struct Outlet<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) arguments: &'a [Argument],
    pub(crate) pending: &'a mut Pending,
    pub(crate) gradients: &'a mut Gradients,
}

impl Outlet<'_> {
    /// Whether argument `index` needs a gradient.
    pub(crate) fn wants(&self, index: usize) -> bool {
        !matches!(self.arguments[index].route, Route::None)
    }

    /// A tensor of the argument's elements to write the gradient into, for [`Outlet::close`]: float32 for a parameter,
    /// else of type `dtype`. `None` if none is needed.
    pub(crate) fn open(&mut self, index: usize, dtype: DType) -> Result<Option<Open>> {
        let Argument { len, route } = &self.arguments[index];
        let Route::Leaf(id) = route else {
            return match route {
                Route::None => Ok(None),
                _ => self.blank(*len, dtype).map(Some),
            };
        };
        if let Some(open) = self.gradients.take_on(self.engine, *id)? {
            return Ok(Some(open));
        }
        match self.pending.0.remove(id) {
            Some(sum) => {
                let tensor = match Arc::try_unwrap(sum) {
                    Ok(tensor) => tensor,
                    Err(shared) => self.engine.copy(&shared, Role::Constant)?,
                };
                Ok(Some(Open { tensor, accumulate: true }))
            }
            None => self.blank(*len, dtype).map(Some),
        }
    }

    fn blank(&self, len: usize, dtype: DType) -> Result<Open> {
        Ok(Open { tensor: self.engine.allocate(dtype, &[len], Role::Constant)?, accumulate: false })
    }

    /// Takes a written tensor back.
    pub(crate) fn close(&mut self, index: usize, tensor: Tensor) -> Result<()> {
        match &self.arguments[index].route {
            Route::None => Ok(()),
            Route::Leaf(id) => {
                if let Some(tensor) = self.gradients.put_on(self.engine, *id, tensor)? {
                    self.pending.add(self.engine, *id, &Arc::new(tensor))?;
                }
                Ok(())
            }
            Route::Graph(graph) => self.through_candle(&graph.clone(), &tensor),
        }
    }

    /// Takes a finished gradient of argument `index`, of the argument's type or float32.
    pub(crate) fn give(&mut self, index: usize, gradient: Tensor) -> Result<()> {
        self.pass(index, &Arc::new(gradient))
    }

    /// As [`Outlet::give`], for a gradient that others read too.
    pub(crate) fn pass(&mut self, index: usize, gradient: &Sum) -> Result<()> {
        match &self.arguments[index].route {
            Route::None => Ok(()),
            Route::Leaf(id) => self.add(*id, gradient),
            Route::Graph(graph) => self.through_candle(&graph.clone(), gradient),
        }
    }

    /// Adds to the gradient of a leaf.
    fn add(&mut self, id: TensorId, gradient: &Sum) -> Result<()> {
        let Some(Open { tensor, accumulate }) = self.gradients.take_on(self.engine, id)? else {
            return self.pending.add(self.engine, id, gradient);
        };
        convert(self.engine, gradient, &tensor, accumulate)?;
        self.gradients.put_on(self.engine, id, tensor)?;
        Ok(())
    }

    /// Goes back from `tensor` to the leaves of candle's graph.
    fn through_candle(&mut self, tensor: &Tensor, gradient: &Tensor) -> Result<()> {
        let weights = gradient.reshape(tensor.shape())?.to_dtype(tensor.dtype())?;
        let store = (tensor * weights)?.sum_all()?.backward()?;
        for &id in store.get_ids() {
            let Some(gradient) = store.get_id(id) else { continue };
            self.add(id, &Arc::new(gradient.detach().contiguous()?))?;
        }
        Ok(())
    }
}

/// The only gradient of a node with one result.
pub(crate) fn single<'a>(gradients: Incoming<'a>, op: &'static str) -> Result<&'a Sum> {
    match gradients {
        [Some(gradient)] => Ok(gradient),
        _ => Err(KernelError::Candle(candle_core::Error::Msg(format!("{op}: expected one gradient")).bt())),
    }
}
