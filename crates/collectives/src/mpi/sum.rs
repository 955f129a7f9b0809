//! Sums that run beside the rank's own work.
//!
//! A sum has two halves, as [`super::Mpi::sum`]: each rank receives all values of its share and adds them in the order of ranks,
//! then gives the sums to all. MPI moves messages on inside its calls alone, so a sum is to be asked for now and then.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::iter::repeat_n;
use std::mem;
use std::sync::Arc;

use mpi::datatype::Equivalence;
use mpi::ffi;
use mpi::raw::AsRaw;

use super::Library;
use super::rounds::counts_and_places;
use crate::{CollectiveError, Running, add_in_order};

pub(super) struct RunningSum {
    library: Arc<Library>,
    rank: usize,
    buffers: Buffers,
    /// True if all ranks get all sums.
    whole: bool,
    half: Half,
    request: ffi::MPI_Request,
}

/// Memory that MPI reads and writes while a sum runs: it stays where it is.
#[derive(Default)]
struct Buffers {
    values: Vec<f32>,
    bounds: Vec<usize>,
    counts: Vec<c_int>,
    places: Vec<c_int>,
    /// Values of the own share, of one rank after the other; the sums after the first half.
    received: Vec<f32>,
    own_counts: Vec<c_int>,
    own_places: Vec<c_int>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Scatter,
    Share,
    Done,
}

// SAFETY: a request belongs to no thread; every call goes through the library's mutex.
unsafe impl Send for RunningSum {}

impl fmt::Debug for RunningSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningSum").field("values", &self.buffers.values.len()).field("half", &self.half).finish()
    }
}

impl RunningSum {
    pub fn start(
        library: Arc<Library>,
        rank: usize,
        values: Vec<f32>,
        bounds: Vec<usize>,
        whole: bool,
    ) -> Result<Self, CollectiveError> {
        let world = bounds.len() - 1;
        let own = bounds[rank + 1] - bounds[rank];
        let (counts, places) = counts_and_places(bounds.windows(2).map(|ends| ends[1] - ends[0]));
        let (own_counts, own_places) = counts_and_places(repeat_n(own, world));
        let received = vec![0.0; own * world];
        let buffers = Buffers { values, bounds, counts, places, received, own_counts, own_places };
        // SAFETY: the constant is the library's.
        let request = unsafe { ffi::RSMPI_REQUEST_NULL };
        let mut sum = Self { library, rank, buffers, whole, half: Half::Scatter, request };
        let Buffers { values, counts, places, received, own_counts, own_places, .. } = &mut sum.buffers;
        let float = f32::equivalent_datatype();
        let code = {
            let communicators = sum.library.lock();
            // SAFETY: the buffers have so many values; they neither move nor go before the request is done.
            unsafe {
                ffi::MPI_Ialltoallv(
                    values.as_ptr().cast::<c_void>(),
                    counts.as_ptr(),
                    places.as_ptr(),
                    float.as_raw(),
                    received.as_mut_ptr().cast::<c_void>(),
                    own_counts.as_ptr(),
                    own_places.as_ptr(),
                    float.as_raw(),
                    communicators.scatter.as_raw(),
                    &raw mut sum.request,
                )
            }
        };
        check("MPI_Ialltoallv", code)?;
        Ok(sum)
    }

    /// Adds what the first half brought, and starts the second.
    fn share(&mut self) -> Result<(), CollectiveError> {
        let Buffers { values, bounds, counts, places, received, .. } = &mut self.buffers;
        let own = bounds[self.rank]..bounds[self.rank + 1];
        if !own.is_empty() {
            add_in_order(&mut values[own.clone()], received.chunks_exact(own.len()));
        }
        if !self.whole {
            self.half = Half::Done;
            return Ok(());
        }
        received.clear();
        received.extend_from_slice(&values[own]);
        let float = f32::equivalent_datatype();
        self.half = Half::Share;
        let code = {
            let communicators = self.library.lock();
            // SAFETY: as above.
            unsafe {
                ffi::MPI_Iallgatherv(
                    received.as_ptr().cast::<c_void>(),
                    received.len() as c_int,
                    float.as_raw(),
                    values.as_mut_ptr().cast::<c_void>(),
                    counts.as_ptr(),
                    places.as_ptr(),
                    float.as_raw(),
                    communicators.share.as_raw(),
                    &raw mut self.request,
                )
            }
        };
        check("MPI_Iallgatherv", code)
    }

    /// True once the half is done that runs; with `wait` it is.
    fn half_is_done(&mut self, wait: bool) -> Result<bool, CollectiveError> {
        let _communicators = self.library.lock();
        let mut done = 1;
        // SAFETY: the pointers are to values that outlive the calls.
        let code = unsafe {
            match wait {
                true => ffi::MPI_Wait(&raw mut self.request, ffi::RSMPI_STATUS_IGNORE),
                false => ffi::MPI_Test(&raw mut self.request, &raw mut done, ffi::RSMPI_STATUS_IGNORE),
            }
        };
        check(if wait { "MPI_Wait" } else { "MPI_Test" }, code)?;
        Ok(done != 0)
    }

    fn advance(&mut self, wait: bool) -> Result<bool, CollectiveError> {
        while self.half != Half::Done && self.half_is_done(wait)? {
            match self.half {
                Half::Scatter => self.share()?,
                Half::Share | Half::Done => self.half = Half::Done,
            }
        }
        Ok(self.half == Half::Done)
    }
}

impl Running for RunningSum {
    fn is_done(&mut self) -> Result<bool, CollectiveError> {
        self.advance(false)
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<f32>, CollectiveError> {
        self.advance(true)?;
        Ok(mem::take(&mut self.buffers.values))
    }
}

impl Drop for RunningSum {
    fn drop(&mut self) {
        if self.half != Half::Done {
            // MPI may still write there: a rank that ends with a sum under way ends the job.
            mem::forget(mem::take(&mut self.buffers));
        }
    }
}

fn check(operation: &'static str, code: c_int) -> Result<(), CollectiveError> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    Err(CollectiveError::Failed { operation, message: format!("error {code}") })
}
