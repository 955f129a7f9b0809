//! Sums of gradients that the backward pass has not used yet.

use crate::cpu::GradBuffer;
use crate::cpu::simd::add_assign;
use crate::device::{Engine, Role, accumulate, sum_into};
use crate::error::Result;
use candle_core::{Tensor, TensorId};
use std::collections::HashMap;
use std::sync::Arc;

/// A gradient on a device that may have several readers; it is added to in place only where it has one.
pub(super) type DeviceSum = Arc<Tensor>;

/// Sums so far of results and variables by their ids, and memory for reuse.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) host: HashMap<TensorId, Arc<Vec<f32>>>,
    pub(super) device: HashMap<TensorId, DeviceSum>,
    spare: Vec<Vec<f32>>,
}

/// Floats kept for reuse: enough for the small gradients whose memory is not worth allocating each time, and little
/// beside the large ones.
const MAX_SPARE: usize = 1 << 24;

impl Pending {
    /// Uninitialized memory of `len` floats.
    pub(super) fn blank(&mut self, len: usize) -> Vec<f32> {
        let fit = self.spare.iter().position(|spare| spare.len() == len);
        match fit {
            Some(index) => self.spare.swap_remove(index),
            None => vec![0.0; len],
        }
    }

    /// Keeps the memory of `values` for reuse, if it has no other reader.
    pub(super) fn recycle(&mut self, values: Arc<Vec<f32>>) {
        if let Ok(values) = Arc::try_unwrap(values) {
            self.spare.push(values);
            while self.spare.iter().map(Vec::len).sum::<usize>() > MAX_SPARE {
                self.spare.remove(0);
            }
        }
    }

    /// Takes out the sum of `id`, or memory for one of `len` floats.
    pub(super) fn take(&mut self, id: TensorId, len: usize) -> GradBuffer {
        match self.host.remove(&id) {
            Some(values) => GradBuffer { values: Arc::unwrap_or_clone(values), accumulate: true },
            None => GradBuffer { values: self.blank(len), accumulate: false },
        }
    }

    /// Adds `values` to the sum of `id`; one variable may be several arguments of a node.
    pub(super) fn add(&mut self, id: TensorId, values: &Arc<Vec<f32>>) {
        match self.host.get_mut(&id) {
            Some(sum) => add_assign(Arc::<Vec<f32>>::make_mut(sum), values),
            None => {
                self.host.insert(id, Arc::clone(values));
            }
        }
    }

    /// As [`Pending::add`], on a device.
    pub(super) fn add_on(&mut self, engine: &Engine, id: TensorId, gradient: &DeviceSum) -> Result<()> {
        let Some(sum) = self.device.get_mut(&id) else {
            self.device.insert(id, Arc::clone(gradient));
            return Ok(());
        };
        match Arc::get_mut(sum) {
            Some(sum) => accumulate(engine, sum, gradient),
            None => {
                let total = engine.allocate(sum.dtype(), sum.dims(), Role::Constant)?;
                sum_into(engine, sum, gradient, &total)?;
                *sum = Arc::new(total);
                Ok(())
            }
        }
    }
}
