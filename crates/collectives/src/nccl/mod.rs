//! Ranks that are processes with a GPU each, by NCCL.
//!
//! A communicator never blocks: each operation is started, then asked for until it is done, has failed, or took too long. In
//! the last two cases the communicator is aborted, so that this rank ends and its launcher ends the others.

mod device;
mod library;
mod rendezvous;

use std::env;
use std::ffi::c_int;
use std::fmt;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Collective, CollectiveError, DeviceOperation, DeviceType, DeviceValues, Launched};
use device::Device;
use library::{Communicator, Config, Datatype, IN_PROGRESS, SUCCESS, SUM, Stream, UniqueId};

/// Seconds that an operation may take, the wait for the slowest rank included: as many as the first rank may need to save.
const TIMEOUT: u64 = 1800;
/// The variable of another number of seconds.
const TIMEOUT_VARIABLE: &str = "SMPO_NCCL_TIMEOUT";
/// Longest pause between two looks at an operation.
const PAUSE: Duration = Duration::from_millis(1);

/// A rank with a GPU. One operation runs at a time.
pub struct Nccl {
    rank: usize,
    world: usize,
    state: Mutex<State>,
}

struct State {
    nccl: library::Nccl,
    device: Device,
    /// `None` once it is aborted.
    communicator: Option<Communicator>,
    timeout: Duration,
}

// SAFETY: NCCL's communicators and CUDA's contexts belong to no thread; every call goes through the mutex.
unsafe impl Send for State {}

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nccl {{ rank: {}, world: {} }}", self.rank, self.world)
    }
}

impl Nccl {
    /// Meets the other ranks that a launcher started, each with the GPU of its number on its machine.
    ///
    /// # Errors
    /// When there is no NCCL, no such GPU, no address to meet at, or a rank that does not come.
    pub fn start(launched: &Launched) -> Result<Self, CollectiveError> {
        let timeout = timeout(env::var(TIMEOUT_VARIABLE).ok(), launched)?;
        let address = rendezvous::address(launched, |name| env::var(name).ok())?;
        let nccl = library::Nccl::load()?;
        let device = Device::open(launched.local_rank)?;
        // SAFETY: called before this program starts threads that read the environment.
        unsafe { env::set_var(rendezvous::VARIABLE, &address) };
        let mut state = State { nccl, device, communicator: None, timeout };
        state.join(launched).map_err(|error| match error {
            CollectiveError::Failed { operation, message } => CollectiveError::Start {
                library: "NCCL",
                message: format!("{operation}: {message}; the ranks meet at {address} (NCCL_DEBUG=INFO says more)"),
            },
            other => other,
        })?;
        Ok(Self { rank: launched.rank, world: launched.world, state: Mutex::new(state) })
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, CollectiveError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.device.enter()?;
        Ok(state)
    }

    /// A number of every rank.
    fn numbers(&self, state: &mut State, own: u64) -> Result<Vec<u64>, CollectiveError> {
        let buffer = state.device.reserve(8 * (self.world + 1))?;
        let last = 8 * self.world;
        state.device.upload(last, &own.to_ne_bytes())?;
        state.run("ncclAllGather", |nccl, communicator, stream| {
            // SAFETY: the memory has eight bytes for each rank, and the own ones after them.
            unsafe { (nccl.all_gather)(buffer + last as u64, buffer, 8, Datatype::Bytes, communicator, stream) }
        })?;
        let mut bytes = vec![0; last];
        state.device.download(0, &mut bytes)?;
        Ok(bytes
            .chunks_exact(8)
            .map(|b| u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect())
    }

    /// Refuses values that are not as many on every rank: NCCL would wait for ever, or write beyond them.
    fn check_lengths(&self, state: &mut State, own: usize) -> Result<(), CollectiveError> {
        let lengths = self.numbers(state, own as u64)?;
        match lengths.iter().enumerate().find(|(_, length)| **length != own as u64) {
            Some((rank, &other)) => Err(CollectiveError::Lengths { own, other: other as usize, rank }),
            None => Ok(()),
        }
    }
}

/// The time that an operation may take.
fn timeout(given: Option<String>, launched: &Launched) -> Result<Duration, CollectiveError> {
    let Some(given) = given else { return Ok(Duration::from_secs(TIMEOUT)) };
    match given.trim().parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(CollectiveError::Variable {
            name: TIMEOUT_VARIABLE.to_owned(),
            expected: "a number of seconds".to_owned(),
            got: given,
            launcher: launched.launcher.command(),
        }),
    }
}

impl State {
    /// Makes the communicator.
    fn join(&mut self, launched: &Launched) -> Result<(), CollectiveError> {
        let mut id = UniqueId([0; 128]);
        // SAFETY: the pointer is to an id that outlives the call.
        let code = unsafe { (self.nccl.unique_id)(&raw mut id) };
        self.accept("ncclGetUniqueId", code)?;
        let (mut communicator, mut config) = (ptr::null_mut(), Config::NON_BLOCKING);
        let (world, rank) = (launched.world as c_int, launched.rank as c_int);
        // SAFETY: as above; the GPU's context is current.
        let code = unsafe { (self.nccl.init)(&raw mut communicator, world, id, rank, &raw mut config) };
        self.communicator = (!communicator.is_null()).then_some(communicator);
        self.accept("ncclCommInitRankConfig", code)?;
        self.wait("ncclCommInitRankConfig", false)
    }

    /// Starts an operation on the stream; the communicator takes it before this returns.
    fn start(
        &mut self,
        name: &'static str,
        start: impl FnOnce(&library::Nccl, Communicator, Stream) -> c_int,
    ) -> Result<(), CollectiveError> {
        let communicator = self.communicator.ok_or_else(|| aborted(name))?;
        let code = start(&self.nccl, communicator, self.device.stream);
        self.accept(name, code)?;
        self.wait(name, false)
    }

    /// Starts an operation on the stream, and waits until it is done.
    fn run(
        &mut self,
        name: &'static str,
        start: impl FnOnce(&library::Nccl, Communicator, Stream) -> c_int,
    ) -> Result<(), CollectiveError> {
        self.start(name, start)?;
        self.wait(name, true)
    }

    /// As [`State::run`] of several operations that belong together.
    fn run_group(
        &mut self,
        name: &'static str,
        start: impl FnOnce(&library::Nccl, Communicator, Stream) -> c_int,
    ) -> Result<(), CollectiveError> {
        self.start_group(name, start)?;
        self.wait(name, true)
    }

    /// As [`State::start`] of several operations that belong together.
    fn start_group(
        &mut self,
        name: &'static str,
        start: impl FnOnce(&library::Nccl, Communicator, Stream) -> c_int,
    ) -> Result<(), CollectiveError> {
        self.start(name, |nccl, communicator, stream| {
            // SAFETY: a group is a matter of this thread; it ends whatever was started in it.
            let began = unsafe { (nccl.group_start)() };
            if began != SUCCESS {
                return began;
            }
            let started = start(nccl, communicator, stream);
            // SAFETY: as above.
            let ended = unsafe { (nccl.group_end)() };
            if is_fine(started) { ended } else { started }
        })
    }

    /// Aborts where a call was refused.
    fn accept(&mut self, name: &'static str, code: c_int) -> Result<(), CollectiveError> {
        if is_fine(code) { Ok(()) } else { Err(self.abort(name, self.nccl.words(code))) }
    }

    /// Waits until the communicator has taken what was started, and, with `stream`, until it is done.
    fn wait(&mut self, name: &'static str, stream: bool) -> Result<(), CollectiveError> {
        let communicator = self.communicator.ok_or_else(|| aborted(name))?;
        let began = Instant::now();
        let mut pause = Duration::from_micros(10);
        loop {
            let mut code = SUCCESS;
            // SAFETY: the communicator is not aborted; the pointer is to a number that outlives the call.
            let asked = unsafe { (self.nccl.async_error)(communicator, &raw mut code) };
            let code = if asked == SUCCESS { code } else { asked };
            if !is_fine(code) {
                return Err(self.abort(name, self.nccl.words(code)));
            }
            let done = code == SUCCESS && (!stream || self.device.is_done().map_err(|error| self.give_up(error))?);
            if done {
                return Ok(());
            }
            if began.elapsed() >= self.timeout {
                let message = format!(
                    "another rank did not take part within {} s ({TIMEOUT_VARIABLE} sets another limit)",
                    self.timeout.as_secs()
                );
                return Err(self.abort(name, message));
            }
            thread::sleep(pause);
            pause = (2 * pause).min(PAUSE);
        }
    }

    fn abort(&mut self, operation: &'static str, message: String) -> CollectiveError {
        self.give_up(CollectiveError::Failed { operation, message })
    }

    /// Aborts the communicator: nothing of it is waited for.
    fn give_up(&mut self, error: CollectiveError) -> CollectiveError {
        if let Some(communicator) = self.communicator.take() {
            // SAFETY: it is used no more.
            unsafe { (self.nccl.abort)(communicator) };
        }
        error
    }
}

fn is_fine(code: c_int) -> bool {
    code == SUCCESS || code == IN_PROGRESS
}

fn aborted(operation: &'static str) -> CollectiveError {
    CollectiveError::Failed { operation, message: "an earlier operation has failed".to_owned() }
}

impl Drop for State {
    fn drop(&mut self) {
        let Some(communicator) = self.communicator else { return };
        if self.device.enter().is_err() {
            return;
        }
        // SAFETY: the communicator is used no more after these calls.
        let code = unsafe { (self.nccl.finalize)(communicator) };
        if is_fine(code) && self.wait("ncclCommFinalize", false).is_ok() {
            self.communicator = None;
            // SAFETY: as above.
            unsafe { (self.nccl.destroy)(communicator) };
        } else {
            self.abort("ncclCommFinalize", String::new());
        }
    }
}

fn bytes_of(values: &[f32]) -> &[u8] {
    // SAFETY: every bit pattern of a number is four bytes.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn bytes_of_mut(values: &mut [f32]) -> &mut [u8] {
    // SAFETY: as above, and every four bytes are a number.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

impl Collective for Nccl {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        let state = &mut *self.state()?;
        self.check_lengths(state, values.len())?;
        let buffer = state.device.reserve(size_of_val(values))?;
        state.device.upload(0, bytes_of(values))?;
        let count = values.len();
        state.run("ncclAllReduce", |nccl, communicator, stream| {
            // SAFETY: the memory has as many values.
            unsafe { (nccl.all_reduce)(buffer, buffer, count, Datatype::Float32, SUM, communicator, stream) }
        })?;
        state.device.download(0, bytes_of_mut(values))
    }

    fn reduce_scatter(&self, values: &mut [f32], bounds: &[usize]) -> Result<(), CollectiveError> {
        let state = &mut *self.state()?;
        self.check_lengths(state, values.len())?;
        let buffer = state.device.reserve(size_of_val(values))?;
        state.device.upload(0, bytes_of(values))?;
        state.run_group("ncclReduce", |nccl, communicator, stream| {
            each(bounds, |root, start, count| {
                let at = buffer + 4 * start as u64;
                // SAFETY: the memory has all values, these among them.
                unsafe { (nccl.reduce)(at, at, count, Datatype::Float32, SUM, root, communicator, stream) }
            })
        })?;
        let own = bounds[self.rank]..bounds[self.rank + 1];
        state.device.download(4 * own.start, bytes_of_mut(&mut values[own]))
    }

    fn all_gather(&self, values: &mut [f32], bounds: &[usize]) -> Result<(), CollectiveError> {
        let state = &mut *self.state()?;
        self.check_lengths(state, values.len())?;
        let buffer = state.device.reserve(size_of_val(values))?;
        let own = bounds[self.rank]..bounds[self.rank + 1];
        state.device.upload(4 * own.start, bytes_of(&values[own]))?;
        state.run_group("ncclBroadcast", |nccl, communicator, stream| {
            each(bounds, |root, start, count| {
                let at = buffer + 4 * start as u64;
                // SAFETY: the memory has all values, these among them.
                unsafe { (nccl.broadcast)(at, at, count, Datatype::Float32, root, communicator, stream) }
            })
        })?;
        state.device.download(0, bytes_of_mut(values))
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let state = &mut *self.state()?;
        let lengths = self.numbers(state, bytes.len() as u64)?;
        let mut bounds = vec![0];
        for length in lengths {
            bounds.push(bounds.last().copied().unwrap_or(0) + length as usize);
        }
        let buffer = state.device.reserve(bounds[self.world])?;
        state.device.upload(bounds[self.rank], bytes)?;
        state.run_group("ncclBroadcast", |nccl, communicator, stream| {
            each(&bounds, |root, start, count| {
                let at = buffer + start as u64;
                // SAFETY: the memory has the bytes of all ranks, these among them.
                unsafe { (nccl.broadcast)(at, at, count, Datatype::Bytes, root, communicator, stream) }
            })
        })?;
        let of_rank = |ends: &[usize]| {
            let mut own = vec![0; ends[1] - ends[0]];
            state.device.download(ends[0], &mut own)?;
            Ok(own)
        };
        bounds.windows(2).map(of_rank).collect()
    }

    fn broadcast(&self, bytes: &mut Vec<u8>, from: usize) -> Result<(), CollectiveError> {
        let own = if self.rank == from { &bytes[..] } else { &[] };
        *bytes = self.gather(own)?.swap_remove(from);
        Ok(())
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        self.numbers(&mut *self.state()?, 0).map(drop)
    }

    unsafe fn on_device(&self, operation: DeviceOperation, values: &[DeviceValues]) -> Result<bool, CollectiveError> {
        // SAFETY: the caller's promise.
        unsafe { self.start_on_device(operation, values) }?;
        self.finish_on_device()?;
        Ok(true)
    }

    unsafe fn start_on_device(
        &self,
        operation: DeviceOperation,
        values: &[DeviceValues],
    ) -> Result<bool, CollectiveError> {
        let state = &mut *self.state()?;
        state.device.follow()?;
        let name = match operation {
            DeviceOperation::Sum => "ncclAllReduce",
            DeviceOperation::SumOnOwner => "ncclReduce",
            DeviceOperation::Spread => "ncclBroadcast",
        };
        state.start_group(name, |nccl, communicator, stream| {
            for &values in values {
                // SAFETY: the caller's promise.
                let code = unsafe { start(nccl, operation, values, communicator, stream) };
                if !is_fine(code) {
                    return code;
                }
            }
            SUCCESS
        })?;
        Ok(true)
    }

    fn finish_on_device(&self) -> Result<(), CollectiveError> {
        self.state()?.wait("NCCL", true)
    }
}

/// Starts an operation on values in the memory of the GPU.
///
/// # Safety
/// As for [`Collective::start_on_device`].
unsafe fn start(
    nccl: &library::Nccl,
    operation: DeviceOperation,
    values: DeviceValues,
    communicator: Communicator,
    stream: Stream,
) -> c_int {
    let DeviceValues { address, len, dtype, owner } = values;
    let (dtype, root) = (Datatype::from(dtype), owner as c_int);
    // SAFETY: the caller's promise.
    unsafe {
        match operation {
            DeviceOperation::Sum => (nccl.all_reduce)(address, address, len, dtype, SUM, communicator, stream),
            DeviceOperation::SumOnOwner => (nccl.reduce)(address, address, len, dtype, SUM, root, communicator, stream),
            DeviceOperation::Spread => (nccl.broadcast)(address, address, len, dtype, root, communicator, stream),
        }
    }
}

/// Calls `start` with each rank's number, first place and number of values, where it has some, until one fails.
fn each(bounds: &[usize], start: impl Fn(c_int, usize, usize) -> c_int) -> c_int {
    for (rank, ends) in bounds.windows(2).enumerate() {
        let code = if ends[1] > ends[0] { start(rank as c_int, ends[0], ends[1] - ends[0]) } else { SUCCESS };
        if !is_fine(code) {
            return code;
        }
    }
    SUCCESS
}

impl From<DeviceType> for Datatype {
    fn from(dtype: DeviceType) -> Self {
        match dtype {
            DeviceType::Float32 => Self::Float32,
            DeviceType::Float16 => Self::Float16,
            DeviceType::Bfloat16 => Self::Bfloat16,
        }
    }
}
