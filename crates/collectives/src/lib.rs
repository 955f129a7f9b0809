//! Processes that share a run: the trait [`Collective`] and its bodies, and the launchers that start them.
//!
//! | body | between | needs |
//! |---|---|---|
//! | [`Single`] | one process | nothing |
//! | [`Threads`] | threads of one process, for tests | nothing |
//! | `Mpi` | processes on CPUs | feature `mpi` |
//!
//! A sum adds in the order of ranks on every rank, so that all have the same bits whatever the library does.

mod error;
mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
mod single;
mod threads;

use std::fmt::Debug;

pub use error::CollectiveError;
pub use launcher::{Launched, Launcher};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
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
