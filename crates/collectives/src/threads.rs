//! Ranks that are threads of one process: the whole of a distributed step in a test, without a library.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Collective, CollectiveError, add_in_order};

/// A rank that is a thread. Dropping it ends the rank: the others' operations fail.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Bytes that each rank brought to the operation that gathers now.
    brought: Vec<Option<Vec<u8>>>,
    /// Ranks that have not yet taken the bytes of the operation that ends now.
    to_leave: usize,
    gone: Option<usize>,
}

impl Threads {
    /// The ranks of a world.
    pub fn world_of(ranks: usize) -> Vec<Self> {
        let state = Mutex::new(State { brought: vec![None; ranks], to_leave: 0, gone: None });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        (0..ranks).map(|rank| Self { rank, shared: Arc::clone(&shared) }).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `wait` holds.
    fn until(&self, wait: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, CollectiveError> {
        let waiting = |state: &mut State| state.gone.is_none() && wait(state);
        let state = self.shared.changed.wait_while(self.state(), waiting).unwrap_or_else(PoisonError::into_inner);
        match state.gone {
            Some(rank) if wait(&state) => Err(CollectiveError::Gone(rank)),
            _ => Ok(state),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.state().gone.get_or_insert(self.rank);
        self.shared.changed.notify_all();
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.state().brought.len()
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let all = self.gather(&bytes)?;
        if let Some((rank, other)) = all.iter().enumerate().find(|(_, other)| other.len() != bytes.len()) {
            return Err(CollectiveError::Lengths { own: values.len(), other: other.len() / 4, rank });
        }
        let floats = |bytes: &Vec<u8>| -> Vec<f32> {
            bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let parts: Vec<Vec<f32>> = all.iter().map(floats).collect();
        add_in_order(values, parts.iter().map(Vec::as_slice));
        Ok(())
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        // The operation before is over once every rank has left it.
        let mut state = self.until(|state| state.to_leave > 0)?;
        state.brought[self.rank] = Some(bytes.to_vec());
        if state.brought.iter().all(Option::is_some) {
            state.to_leave = state.brought.len();
            self.shared.changed.notify_all();
        }
        drop(state);
        let mut state = self.until(|state| state.to_leave == 0)?;
        let all = state.brought.iter().flatten().cloned().collect();
        state.to_leave -= 1;
        if state.to_leave == 0 {
            state.brought.fill(None);
            self.shared.changed.notify_all();
        }
        Ok(all)
    }

    fn broadcast(&self, bytes: &mut Vec<u8>, from: usize) -> Result<(), CollectiveError> {
        let own = if self.rank == from { &bytes[..] } else { &[] };
        let mut all = self.gather(own)?;
        *bytes = all.swap_remove(from);
        Ok(())
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        self.gather(&[]).map(drop)
    }
}
