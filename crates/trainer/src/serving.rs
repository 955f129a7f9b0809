//! Weights in parts on ranks (ZeRO stage 3, Rajbhandari et al. 2020, arXiv 1910.02054): a rank that wants a block gets the
//! others' parts of it, wherever they are in their work.
//!
//! Every rank that waits for the others serves them meanwhile. Each operation of all ranks begins with rounds in which each rank
//! says which block it wants gathered, or the gradient of which block summed, or that it wants nothing; what is wanted is done
//! by all. The operation goes on once no rank wants anything. A rank thus makes as many passes through its model as it has
//! work for, and the rounds, and with them every bit, follow from the ranks' work alone.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use smpo_collectives::{Collective, CollectiveError, DeviceOperation, DeviceValues, Running};
use smpo_model::{OwnParts, PeerError, Peers};

/// The operation, a model and its block.
type Wanted = [usize; 3];

const GATHER: usize = 0;
const REDUCE: usize = 1;

/// A collective whose operations begin with rounds of gathers.
#[derive(Debug)]
pub(crate) struct Serving {
    inner: Arc<dyn Collective>,
    /// This rank's parts of models, in the order in which all ranks load them.
    models: Mutex<Vec<Weak<OwnParts>>>,
}

/// The bytes of a block that each rank keeps.
type BlockBytes = Vec<Vec<u8>>;

impl Serving {
    pub fn new(inner: Arc<dyn Collective>) -> Self {
        Self { inner, models: Mutex::default() }
    }

    /// Does what ranks want now, for this rank `own` with the gradient of a whole block where it reduces one; returns the bytes
    /// of the block that it gathers, and true if any rank wanted something.
    fn round(&self, own: Option<Wanted>, mut gradient: Vec<f32>) -> Result<(BlockBytes, bool), CollectiveError> {
        let request: Vec<u8> = own.into_iter().flatten().flat_map(usize::to_le_bytes).collect();
        let mut wanted: Vec<Wanted> = self.inner.gather(&request)?.iter().filter_map(|bytes| read(bytes)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let (mut got, any) = (Vec::new(), !wanted.is_empty());
        for one in wanted {
            let [operation, model, block] = one;
            let parts = self.parts(model)?;
            let is_own = own == Some(one);
            if operation == GATHER {
                let bytes = parts.bytes(block).map_err(|error| failed(error.to_string()))?;
                let all = self.inner.gather(&bytes)?;
                got = if is_own { all } else { got };
            } else {
                let bounds = parts.bounds(block);
                let mut whole = if is_own { std::mem::take(&mut gradient) } else { Vec::new() };
                whole.resize(bounds.last().copied().unwrap_or(0), 0.0);
                self.inner.reduce_scatter(&mut whole, bounds)?;
                parts.add_gradient(block, &whole);
            }
        }
        Ok((got, any))
    }

    /// Gives the others what they want until all are here.
    fn settle(&self) -> Result<&dyn Collective, CollectiveError> {
        while self.round(None, Vec::new())?.1 {}
        Ok(&*self.inner)
    }

    /// This rank's part of a model.
    fn parts(&self, model: usize) -> Result<Arc<OwnParts>, CollectiveError> {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let own = models.get(model).and_then(Weak::upgrade);
        own.ok_or_else(|| failed(format!("expected model {model} on every rank, got none here")))
    }
}

fn failed(message: String) -> CollectiveError {
    CollectiveError::Failed { operation: "parts of a block", message }
}

/// The values that [`Serving::round`] wrote.
fn read(bytes: &[u8]) -> Option<Wanted> {
    let mut numbers = bytes.chunks_exact(8).map(|bytes| bytes.try_into().map_or(usize::MAX, usize::from_le_bytes));
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

impl Peers for Serving {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn world(&self) -> usize {
        self.inner.world()
    }

    fn add(&self, own: &Arc<OwnParts>) -> usize {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.push(Arc::downgrade(own));
        models.len() - 1
    }

    fn gather(&self, model: usize, block: usize) -> Result<BlockBytes, PeerError> {
        Ok(self.round(Some([GATHER, model, block]), Vec::new())?.0)
    }

    fn reduce(&self, model: usize, block: usize, gradient: Vec<f32>) -> Result<(), PeerError> {
        self.round(Some([REDUCE, model, block]), gradient)?;
        Ok(())
    }
}

impl Collective for Serving {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn world(&self) -> usize {
        self.inner.world()
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.settle()?.sum(values)
    }

    fn reduce_scatter(&self, values: &mut [f32], bounds: &[usize]) -> Result<(), CollectiveError> {
        self.settle()?.reduce_scatter(values, bounds)
    }

    fn start_sum(&self, values: Vec<f32>, bounds: Option<&[usize]>) -> Result<Box<dyn Running>, CollectiveError> {
        self.settle()?.start_sum(values, bounds)
    }

    fn all_gather(&self, values: &mut [f32], bounds: &[usize]) -> Result<(), CollectiveError> {
        self.settle()?.all_gather(values, bounds)
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.settle()?.gather(bytes)
    }

    fn broadcast(&self, bytes: &mut Vec<u8>, from: usize) -> Result<(), CollectiveError> {
        self.settle()?.broadcast(bytes, from)
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        self.settle()?.barrier()
    }

    unsafe fn on_device(&self, operation: DeviceOperation, values: &[DeviceValues]) -> Result<bool, CollectiveError> {
        // SAFETY: the caller's promise.
        unsafe { self.settle()?.on_device(operation, values) }
    }

    unsafe fn start_on_device(
        &self,
        operation: DeviceOperation,
        values: &[DeviceValues],
    ) -> Result<bool, CollectiveError> {
        // SAFETY: the caller's promise.
        unsafe { self.settle()?.start_on_device(operation, values) }
    }

    fn finish_on_device(&self) -> Result<(), CollectiveError> {
        self.inner.finish_on_device()
    }
}
