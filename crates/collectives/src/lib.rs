//! Processes that share a run: the trait [`Collective`] and its bodies, and the launchers that start them.
//!
//! | body | between | needs |
//! |---|---|---|
//! | [`Single`] | one process | nothing |
//! | [`Threads`] | threads of one process, for tests | nothing |
//! | `Mpi` | processes on CPUs | feature `mpi` |
//! | `Nccl` | processes with a GPU each | feature `nccl` |
//!
//! A sum has the same bits on every rank whatever the library does: it adds in the order of ranks. NCCL has an order of its own,
//! which is also that of all ranks.

mod device_values;
mod error;
mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
mod running;
mod single;
mod threads;

use std::fmt::Debug;

pub use device_values::{DeviceOperation, DeviceType, DeviceValues};
pub use error::CollectiveError;
pub use launcher::{Launched, Launcher};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
#[cfg(feature = "nccl")]
pub use nccl::Nccl;
pub use running::{Finished, Running};
pub use single::Single;
pub use threads::Threads;

/// Operations that all ranks of a run call in the same order.
pub trait Collective: Debug + Send + Sync {
    /// Own number, from 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn world(&self) -> usize;

    /// Replaces `values`, as many on every rank, by their sums over ranks.
    ///
    /// # Errors
    /// When another rank is gone, or gave another number of values.
    fn sum(&self, values: &mut [f32]) -> Result<(), CollectiveError>;

    /// Replaces the values of each rank, `bounds[rank]..bounds[rank + 1]`, by their sums over ranks. The others are undefined
    /// after it. `bounds`, the same on every rank, has one more than there are ranks and ends with the number of values.
    ///
    /// # Errors
    /// As for [`Collective::sum`].
    fn reduce_scatter(&self, values: &mut [f32], bounds: &[usize]) -> Result<(), CollectiveError> {
        debug_assert_eq!(bounds.len(), self.world() + 1);
        self.sum(values)
    }

    /// Starts [`Collective::sum`], or with `bounds` [`Collective::reduce_scatter`], of as many values on every rank. Sums that are
    /// started one after the other may run at the same time, and beside other operations. Without a way to do that, it is done
    /// on return.
    ///
    /// # Errors
    /// As for [`Collective::sum`].
    fn start_sum(&self, values: Vec<f32>, bounds: Option<&[usize]>) -> Result<Box<dyn Running>, CollectiveError> {
        sum_at_once(self, values, bounds)
    }

    /// Gives the values of each rank, `bounds[rank]..bounds[rank + 1]`, to all.
    ///
    /// # Errors
    /// As for [`Collective::sum`].
    fn all_gather(&self, values: &mut [f32], bounds: &[usize]) -> Result<(), CollectiveError> {
        let of = |rank: usize| bounds[rank]..bounds[rank + 1];
        let own: Vec<u8> = values[of(self.rank())].iter().flat_map(|value| value.to_ne_bytes()).collect();
        for (rank, bytes) in self.gather(&own)?.into_iter().enumerate() {
            let expected = of(rank).len();
            if bytes.len() != 4 * expected {
                return Err(CollectiveError::Lengths { own: expected, other: bytes.len() / 4, rank });
            }
            let numbers = bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
            values[of(rank)].iter_mut().zip(numbers).for_each(|(value, number)| *value = number);
        }
        Ok(())
    }

    /// The bytes of every rank, by rank.
    ///
    /// # Errors
    /// When another rank is gone.
    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError>;

    /// Replaces `bytes`, of any length, by those of rank `from`.
    ///
    /// # Errors
    /// When another rank is gone.
    fn broadcast(&self, bytes: &mut Vec<u8>, from: usize) -> Result<(), CollectiveError>;

    /// Waits until every rank is here.
    ///
    /// # Errors
    /// When another rank is gone.
    fn barrier(&self) -> Result<(), CollectiveError>;

    /// Works on values in the memory of GPUs, as many of one type on every rank, once all that was started there before is done.
    /// False without a way between GPUs; nothing has happened then, on any rank.
    ///
    /// # Safety
    /// The values are in the memory of this rank's GPU, and nothing else uses them meanwhile.
    ///
    /// # Errors
    /// When another rank is gone.
    unsafe fn on_device(&self, operation: DeviceOperation, values: &[DeviceValues]) -> Result<bool, CollectiveError> {
        let _ = (operation, values);
        Ok(false)
    }

    /// Starts [`Collective::on_device`] behind what was started on the GPU so far; what is started there later does not wait for
    /// it. [`Collective::finish_on_device`] ends it. Without a way to do that, it is done on return.
    ///
    /// # Safety
    /// As for [`Collective::on_device`], until [`Collective::finish_on_device`] returns.
    ///
    /// # Errors
    /// When another rank is gone.
    unsafe fn start_on_device(
        &self,
        operation: DeviceOperation,
        values: &[DeviceValues],
    ) -> Result<bool, CollectiveError> {
        // SAFETY: the caller's promise.
        unsafe { self.on_device(operation, values) }
    }

    /// Waits until everything is done that [`Collective::start_on_device`] has started.
    ///
    /// # Errors
    /// When another rank is gone.
    fn finish_on_device(&self) -> Result<(), CollectiveError> {
        Ok(())
    }
}

/// [`Collective::start_sum`], done on return.
fn sum_at_once(
    ranks: &(impl Collective + ?Sized),
    mut values: Vec<f32>,
    bounds: Option<&[usize]>,
) -> Result<Box<dyn Running>, CollectiveError> {
    match bounds {
        Some(bounds) => ranks.reduce_scatter(&mut values, bounds)?,
        None => ranks.sum(&mut values)?,
    }
    Ok(Box::new(Finished(values)))
}

/// Sums `parts`, one for each rank and of one length, into `sums`, in the order of ranks.
fn add_in_order<'a>(sums: &mut [f32], mut parts: impl Iterator<Item = &'a [f32]>) {
    if let Some(first) = parts.next() {
        sums.copy_from_slice(first);
    }
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
}
