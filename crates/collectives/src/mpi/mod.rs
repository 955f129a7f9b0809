//! Ranks that are processes, by MPI.

mod rounds;
mod sum;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::{Threading, Universe};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

use crate::{Collective, CollectiveError, Launched, Running, add_in_order, sum_at_once};
use rounds::{counts_and_places, rounds};
use sum::RunningSum;

/// Values that all ranks together send at a time: MPI counts in 32 bits, and these are in memory a second time.
const PART: usize = 1 << 24;
/// Bytes of a message: MPI counts in 32 bits.
const MESSAGE: usize = 1 << 30;

/// A rank of MPI's world. One call runs at a time; sums that were started go on beside it.
pub struct Mpi {
    rank: usize,
    world: usize,
    library: Arc<Library>,
}

/// MPI in this process.
struct Library {
    communicators: Mutex<Communicators>,
    /// Ends MPI when it is dropped, after the communicators.
    _universe: Universe,
}

struct Communicators {
    world: SimpleCommunicator,
    /// Of the two halves of sums that run beside other operations: in each, all ranks start the same in one order, whenever one
    /// of them comes to the second half of a sum.
    scatter: SimpleCommunicator,
    share: SimpleCommunicator,
}

// SAFETY: `Universe` only ends MPI when it is dropped; every call goes through the mutex, which MPI_THREAD_SERIALIZED asks for.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    fn lock(&self) -> MutexGuard<'_, Communicators> {
        self.communicators.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi {{ rank: {}, world: {} }}", self.rank, self.world)
    }
}

impl Mpi {
    /// Starts MPI in a process that a launcher started.
    ///
    /// # Errors
    /// When the library does not start, lets one thread alone call it, or has other ranks than the launcher says.
    pub fn start(launched: &Launched) -> Result<Self, CollectiveError> {
        let refuse = |message: String| CollectiveError::Start { library: "MPI", message };
        let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Serialized) else {
            return Err(refuse("it was started before in this process".to_owned()));
        };
        if threading < Threading::Serialized {
            return Err(refuse(format!("expected a library for programs of several threads, got {threading:?}")));
        }
        let communicator = universe.world();
        let (rank, world) = (communicator.rank() as usize, communicator.size() as usize);
        if (rank, world) != (launched.rank, launched.world) {
            let Launched { launcher, rank: expected, world: of, .. } = launched;
            let command = launcher.command();
            return Err(refuse(format!(
                "expected rank {expected} of {of} as {command} says, got rank {rank} of {world}; start the ranks with the \
                 mpirun of the MPI library that this program was built with"
            )));
        }
        let (scatter, share) = (communicator.duplicate(), communicator.duplicate());
        let communicators = Mutex::new(Communicators { world: communicator, scatter, share });
        Ok(Self { rank, world, library: Arc::new(Library { communicators, _universe: universe }) })
    }

    /// Sums one part: every rank sums its share of it, and gives the sums to the others.
    fn sum_part(&self, values: &mut [f32]) {
        let bounds = self.shares(values.len());
        self.scatter_sums(values, &bounds);
        self.share(values, &bounds);
    }

    /// Bounds of a share for each rank.
    fn shares(&self, len: usize) -> Vec<usize> {
        (0..=self.world).map(|rank| len * rank / self.world).collect()
    }

    /// Sums each rank's values on that rank, in the order of ranks.
    fn scatter_sums(&self, values: &mut [f32], bounds: &[usize]) {
        for round in rounds(bounds, PART / self.world) {
            let pieces: Vec<f32> = round.iter().flat_map(|range| &values[range.clone()]).copied().collect();
            let own = round[self.rank].clone();
            let mut parts = vec![0.0f32; own.len() * self.world];
            {
                let (counts, places) = counts_and_places(round.iter().map(Range::len));
                let (own_counts, own_places) = counts_and_places(std::iter::repeat_n(own.len(), self.world));
                let to_each = Partition::new(&pieces[..], &counts[..], &places[..]);
                let mut of_each = PartitionMut::new(&mut parts[..], &own_counts[..], &own_places[..]);
                self.library.lock().world.all_to_all_varcount_into(&to_each, &mut of_each);
            }
            if !own.is_empty() {
                add_in_order(&mut values[own.clone()], parts.chunks_exact(own.len()));
            }
        }
    }

    /// Gives each rank's values to all.
    fn share(&self, values: &mut [f32], bounds: &[usize]) {
        for round in rounds(bounds, PART / self.world) {
            let (counts, places) = counts_and_places(round.iter().map(Range::len));
            let mut pieces = vec![0.0f32; round.iter().map(Range::len).sum()];
            let own = &values[round[self.rank].clone()];
            let mut of_each = PartitionMut::new(&mut pieces[..], &counts[..], &places[..]);
            self.library.lock().world.all_gather_varcount_into(own, &mut of_each);
            let mut rest = &pieces[..];
            for range in round {
                let (piece, others) = rest.split_at(range.len());
                values[range].copy_from_slice(piece);
                rest = others;
            }
        }
    }

    /// Refuses values that are not as many on every rank.
    fn check_lengths(&self, own: usize) -> Result<(), CollectiveError> {
        let lengths = self.lengths(own);
        match lengths.iter().enumerate().find(|(_, length)| **length != own) {
            Some((rank, &other)) => Err(CollectiveError::Lengths { own, other, rank }),
            None => Ok(()),
        }
    }

    fn lengths(&self, own: usize) -> Vec<usize> {
        let mut lengths = vec![0u64; self.world];
        self.library.lock().world.all_gather_into(&(own as u64), &mut lengths[..]);
        lengths.into_iter().map(|length| length as usize).collect()
    }
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.check_lengths(values.len())?;
        values.chunks_mut(PART).for_each(|part| self.sum_part(part));
        Ok(())
    }

    fn reduce_scatter(&self, values: &mut [f32], bounds: &[usize]) -> Result<(), CollectiveError> {
        self.check_lengths(values.len())?;
        self.scatter_sums(values, bounds);
        Ok(())
    }

    fn start_sum(&self, values: Vec<f32>, bounds: Option<&[usize]>) -> Result<Box<dyn Running>, CollectiveError> {
        let most = bounds.into_iter().flat_map(|bounds| bounds.windows(2)).map(|ends| ends[1] - ends[0]).max();
        // What one rank receives; MPI counts in 32 bits.
        if most.map_or(values.len(), |most| most * self.world) > MESSAGE {
            return sum_at_once(self, values, bounds);
        }
        let whole = bounds.is_none();
        let bounds = bounds.map_or_else(|| self.shares(values.len()), <[usize]>::to_vec);
        Ok(Box::new(RunningSum::start(Arc::clone(&self.library), self.rank, values, bounds, whole)?))
    }

    fn all_gather(&self, values: &mut [f32], bounds: &[usize]) -> Result<(), CollectiveError> {
        self.check_lengths(values.len())?;
        self.share(values, bounds);
        Ok(())
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let lengths = self.lengths(bytes.len());
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut all: Vec<Vec<u8>> = lengths.iter().map(|&length| Vec::with_capacity(length)).collect();
        let most = (MESSAGE / self.world).max(1);
        for start in (0..longest).step_by(most) {
            let piece = |length: usize| length.clamp(start, start + most) - start;
            let (counts, places) = counts_and_places(lengths.iter().map(|&length| piece(length)));
            let mut received = vec![0u8; counts.iter().map(|&count| count as usize).sum()];
            let own = start.min(bytes.len())..bytes.len().min(start + most);
            let mut pieces = PartitionMut::new(&mut received[..], &counts[..], &places[..]);
            self.library.lock().world.all_gather_varcount_into(&bytes[own], &mut pieces);
            for ((part, &place), &count) in all.iter_mut().zip(&places).zip(&counts) {
                part.extend_from_slice(&received[place as usize..(place + count) as usize]);
            }
        }
        Ok(all)
    }

    fn broadcast(&self, bytes: &mut Vec<u8>, from: usize) -> Result<(), CollectiveError> {
        let length = self.lengths(bytes.len())[from];
        bytes.resize(length, 0);
        let library = self.library.lock();
        let root = library.world.process_at_rank(from as i32);
        bytes.chunks_mut(MESSAGE).for_each(|part| root.broadcast_into(part));
        Ok(())
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        self.library.lock().world.barrier();
        Ok(())
    }
}
