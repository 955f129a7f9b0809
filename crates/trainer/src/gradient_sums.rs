//! Gradients added over ranks, bucket by bucket, while the last backward pass of a step still runs: a bucket is on its way as
//! soon as that pass has finished its gradients, as it goes from the head down to the first block.
//!
//! Buckets and their order follow from the model and the number of ranks alone, so all ranks start the same sums in the same
//! order, whenever each comes to it. A rank that has no pack left starts them with what it has.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smpo_collectives::{CollectiveError, DeviceOperation, DeviceType, DeviceValues, Running};
use smpo_kernels::{Gradients, KernelError, Part};

use crate::error::TrainError;
use crate::ranks::Ranks;
use crate::zero::{Owners, bounds};

/// Values of a bucket: a share of all, so that there are several, within these bounds.
const SHARE: usize = 16;
const FEWEST: usize = 1 << 16;
const MOST: usize = 1 << 23;
/// Values of a bucket times ranks, where one rank may receive all of it from each.
const MOST_RECEIVED: usize = 1 << 25;
/// Buckets in host memory that are on their way at a time.
const UNDER_WAY: usize = 4;

/// Values that are summed together.
#[derive(Debug, Default)]
struct Bucket {
    /// By the rank that gets the sums; all under the first where each rank gets them.
    parts: Vec<Vec<Part>>,
    /// The mark at which a backward pass has finished all of them; `None` for its end.
    ready: Option<usize>,
}

/// The sums of a step, shared with the backward pass.
#[derive(Debug, Clone)]
pub(crate) struct GradientSums(Arc<Mutex<State>>);

struct State {
    ranks: Ranks,
    buckets: Vec<Bucket>,
    /// True if each rank gets its own sums alone.
    owned: bool,
    /// True once all ranks are known to have as many values: sums that do not block cannot tell.
    alike: bool,
    /// Number of the pack whose backward pass is this rank's last.
    last_pack: Option<usize>,
    /// The bucket that is started next.
    next: usize,
    under_way: VecDeque<(usize, Box<dyn Running>)>,
    on_device: bool,
    /// True for each parameter that has a gradient on this rank.
    present: Vec<bool>,
    /// The first error. The other ranks count on this one's part in all sums, so it waits.
    failed: Option<TrainError>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("buckets", &self.buckets.len()).field("next", &self.next).finish_non_exhaustive()
    }
}

/// Buckets of parameters of some sizes whose gradients are finished at some marks.
fn buckets(sizes: &[usize], marks: &[Option<usize>], owners: Option<&Owners>, world: usize) -> Vec<Bucket> {
    let whole = |(parameter, &len): (usize, &usize)| (0, Part { parameter, values: 0..len });
    let mut parts: Vec<(usize, Part)> = match owners {
        None => sizes.iter().enumerate().map(whole).collect(),
        Some(owners) => {
            (0..world).flat_map(|rank| owners.of(rank).iter().map(move |part| (rank, part.clone()))).collect()
        }
    };
    let late = |parameter: usize| marks[parameter].map_or(usize::MAX, |mark| usize::MAX - 1 - mark);
    parts.sort_by_key(|(_, part)| (late(part.parameter), part.parameter, part.values.start));
    let most = (sizes.iter().sum::<usize>() / SHARE).clamp(FEWEST, MOST);
    let most = if owners.is_some() { most.min(MOST_RECEIVED / world) } else { most }.next_multiple_of(Part::UNIT);
    let groups = if owners.is_some() { world } else { 1 };
    let mut all: Vec<Bucket> = Vec::new();
    let mut filled = most;
    for (owner, part) in parts {
        let (parameter, ready) = (part.parameter, marks[part.parameter]);
        let mut rest = part.values;
        while !rest.is_empty() {
            // What is finished at the end alone would hold up the others.
            if filled == most || all.last().is_some_and(|bucket| bucket.ready.is_some() != ready.is_some()) {
                all.push(Bucket { parts: vec![Vec::new(); groups], ready });
                filled = 0;
            }
            let values = rest.start..rest.end.min(rest.start + most - filled);
            (rest.start, filled) = (values.end, filled + values.len());
            if let Some(bucket) = all.last_mut() {
                bucket.ready = ready;
                bucket.parts[owner].push(Part { parameter, values });
            }
        }
    }
    all
}

impl GradientSums {
    /// Sums of gradients of some sizes, which a backward pass finishes at some marks: on every rank, or on their owners.
    pub fn new(sizes: &[usize], marks: &[Option<usize>], owners: Option<&Owners>, ranks: &Ranks) -> Self {
        let buckets = buckets(sizes, marks, owners, ranks.world());
        Self(Arc::new(Mutex::new(State {
            ranks: ranks.clone(),
            buckets,
            owned: owners.is_some(),
            alike: false,
            last_pack: None,
            next: 0,
            under_way: VecDeque::new(),
            on_device: false,
            present: vec![false; sizes.len()],
            failed: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a step in which the backward pass of pack `last`, if any, is this rank's last and no exchange comes after it.
    ///
    /// # Errors
    /// When another rank is gone, or trains another number of values.
    pub fn begin(&self, last: Option<usize>) -> Result<(), TrainError> {
        let state = &mut *self.state();
        state.compare_ranks()?;
        (state.last_pack, state.next, state.on_device, state.failed) = (last, 0, false, None);
        state.under_way.clear();
        state.present.fill(false);
        Ok(())
    }

    /// Has the backward pass of pack `number` start the sums, if it is the last.
    pub fn watch(&self, number: usize, gradients: &mut Gradients) {
        if self.state().last_pack == Some(number) {
            let sums = self.clone();
            gradients.watch(Some(Box::new(move |mark, gradients| sums.state().reach(mark, gradients))));
        }
    }

    /// Starts all sums that are left.
    pub fn start_rest(&self, gradients: &mut Gradients) {
        gradients.watch(None);
        let state = &mut *self.state();
        while state.next < state.buckets.len() {
            state.start_next(gradients);
        }
    }

    /// Waits for all sums. A parameter without a gradient on any rank has none after it either.
    ///
    /// # Errors
    /// When another rank is gone or failed, or a copy from or to a device fails.
    pub fn finish(&self, gradients: &mut Gradients) -> Result<(), TrainError> {
        let state = &mut *self.state();
        while !state.under_way.is_empty() {
            let collected = state.collect_first(gradients);
            state.note(collected);
        }
        if state.on_device {
            let finished = state.ranks.finish_on_device();
            state.note(finished);
        }
        let present = state.present.iter().map(|present| f64::from(u8::from(*present))).collect();
        let all = state.ranks.exchange(state.failed.take().map_or(Ok(present), Err))?;
        for parameter in 0..state.present.len() {
            if !all.iter().any(|rank| rank.get(parameter).is_some_and(|present| *present > 0.0)) {
                gradients.forget(parameter);
            }
        }
        Ok(())
    }
}

impl State {
    /// Refuses ranks that train other numbers of values, once in a run.
    fn compare_ranks(&mut self) -> Result<(), TrainError> {
        if self.alike {
            return Ok(());
        }
        let parts = self.buckets.iter().flat_map(|bucket| bucket.parts.iter().flatten());
        let own: usize = parts.map(|part| part.values.len()).sum();
        let all = self.ranks.exchange(Ok(vec![own as f64]))?;
        let other = all.iter().map(|rank| rank.first().map_or(0, |values| *values as usize));
        if let Some((rank, other)) = other.enumerate().find(|(_, other)| *other != own) {
            return Err(CollectiveError::Lengths { own, other, rank }.into());
        }
        self.alike = true;
        Ok(())
    }

    fn note(&mut self, outcome: Result<(), TrainError>) {
        if let Err(error) = outcome {
            self.failed.get_or_insert(error);
        }
    }

    /// Starts what a backward pass has finished at a mark, and moves on what is under way.
    fn reach(&mut self, mark: usize, gradients: &mut Gradients) {
        while self.buckets.get(self.next).is_some_and(|bucket| bucket.ready.is_some_and(|ready| ready >= mark)) {
            self.start_next(gradients);
        }
        let outcome = self.collect_done(gradients);
        self.note(outcome);
    }

    fn start_next(&mut self, gradients: &mut Gradients) {
        let number = self.next;
        self.next += 1;
        for part in self.buckets[number].parts.iter().flatten().filter(|part| part.values.start == 0) {
            self.present[part.parameter] = gradients.is_present(part.parameter);
        }
        let outcome = self.start(number, gradients);
        self.note(outcome);
    }

    fn start(&mut self, number: usize, gradients: &mut Gradients) -> Result<(), TrainError> {
        let parts = &self.buckets[number].parts;
        let mut there = Vec::new();
        for (owner, part) in parts.iter().enumerate().flat_map(|(owner, parts)| parts.iter().map(move |p| (owner, p))) {
            let (address, len) = (gradients.address_of(part.parameter, &part.values)?, part.values.len());
            there.extend(address.map(|address| DeviceValues { address, len, dtype: DeviceType::Float32, owner }));
        }
        let operation = if self.owned { DeviceOperation::SumOnOwner } else { DeviceOperation::Sum };
        // SAFETY: the gradients are finished: nothing works on them before `finish`.
        if !there.is_empty() && unsafe { self.ranks.start_on_device(operation, &there) }? {
            self.on_device = true;
            return Ok(());
        }
        let mut values = Vec::with_capacity(parts.iter().flatten().map(|part| part.values.len()).sum());
        let read = |part: &Part| gradients.read_part(part.parameter, part.values.clone(), &mut values);
        let read: Result<(), KernelError> = parts.iter().flatten().try_for_each(read);
        // The others wait for as many values.
        values.resize(values.capacity(), 0.0);
        let bounds = self.owned.then(|| bounds(parts));
        let running = self.ranks.start_sum(values, bounds.as_deref())?;
        self.under_way.push_back((number, running));
        if self.under_way.len() > UNDER_WAY {
            self.collect_first(gradients)?;
        }
        Ok(read?)
    }

    /// Takes the sums that are done, from the first on.
    fn collect_done(&mut self, gradients: &mut Gradients) -> Result<(), TrainError> {
        while let Some((_, running)) = self.under_way.front_mut() {
            if !running.is_done()? {
                break;
            }
            self.collect_first(gradients)?;
        }
        Ok(())
    }

    /// Waits for the first sum that is under way.
    fn collect_first(&mut self, gradients: &mut Gradients) -> Result<(), TrainError> {
        let Some((bucket, running)) = self.under_way.pop_front() else { return Ok(()) };
        let values = running.finish()?;
        self.write(bucket, &values, gradients)
    }

    /// Puts sums in the place of this rank's gradients.
    fn write(&self, bucket: usize, values: &[f32], gradients: &mut Gradients) -> Result<(), TrainError> {
        let parts = &self.buckets[bucket].parts;
        let own = if self.owned { self.ranks.rank() } else { 0 };
        let mut rest = &values[bounds(parts)[own]..];
        for part in &parts[own] {
            let (sums, after) = rest.split_at(part.values.len());
            gradients.write_part(part.parameter, part.values.start, sums)?;
            rest = after;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use smpo_collectives::Threads;

    use super::*;

    #[test]
    fn buckets_have_every_value_once_in_the_order_of_a_backward_pass() {
        // An embedding, two blocks with a norm each, the last norm.
        let sizes = [3_000_000, 200_000, 64, 200_000, 64, 0, 64];
        let marks = [None, Some(0), Some(0), Some(1), Some(1), Some(1), Some(2)];
        for world in [2, 3, 8] {
            let ranks = Ranks::new(Threads::world_of(world).swap_remove(0));
            let owners = Owners::deal(&sizes, &ranks);
            for owners in [None, Some(&owners)] {
                let all = buckets(&sizes, &marks, owners, world);
                let mut seen: Vec<Vec<u8>> = sizes.iter().map(|&len| vec![0; len]).collect();
                for part in all.iter().flat_map(|bucket| bucket.parts.iter().flatten()) {
                    seen[part.parameter][part.values.clone()].iter_mut().for_each(|count| *count += 1);
                }
                assert!(seen.iter().flatten().all(|count| *count == 1), "{world}");
                let ready: Vec<Option<usize>> = all.iter().map(|bucket| bucket.ready).collect();
                let first_late = ready.iter().position(Option::is_none).unwrap();
                assert!(
                    ready[..first_late].is_sorted_by(|a, b| a >= b) && ready[first_late..].iter().all(Option::is_none)
                );
                assert!(first_late >= 2, "{ready:?}");
                for bucket in &all {
                    let late = bucket.parts.iter().flatten().map(|part| marks[part.parameter]);
                    assert_eq!(late.min(), Some(bucket.ready));
                }
            }
        }
    }
}
