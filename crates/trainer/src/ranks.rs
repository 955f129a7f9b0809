//! The processes that share a run. Every rank calls the same methods in the same order.

use std::sync::Arc;

use smpo_collectives::{Collective, CollectiveError, DeviceOperation, DeviceValues, Running, Single};
use smpo_model::Peers;
use sysinfo::System;

use crate::error::TrainError;
use crate::memory_budget::MemoryBudget;
use crate::serving::Serving;

/// The ranks of a run, seen from one of them.
#[derive(Debug, Clone)]
pub struct Ranks {
    collective: Arc<dyn Collective>,
    /// The same, where models may be in parts on the ranks.
    serving: Option<Arc<Serving>>,
}

impl Default for Ranks {
    /// One process alone.
    fn default() -> Self {
        Self::new(Single)
    }
}

impl Ranks {
    /// Ranks that are joined by `collective`.
    pub fn new(collective: impl Collective + 'static) -> Self {
        Self { collective: Arc::new(collective), serving: None }
    }

    /// The same ranks, whose models may be in parts if there are several ranks and the stage of ZeRO is 3.
    pub(crate) fn at_stage(&self, zero_stage: u8) -> Self {
        if self.alone() || zero_stage < 3 {
            return self.clone();
        }
        let serving = Arc::new(Serving::new(Arc::clone(&self.collective)));
        Self { collective: Arc::clone(&serving) as Arc<dyn Collective>, serving: Some(serving) }
    }

    /// The ranks as keepers of models in parts; `None` where models are whole.
    pub(crate) fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.serving.clone().map(|serving| serving as Arc<dyn Peers>)
    }

    /// Number of ranks.
    pub fn world(&self) -> usize {
        self.collective.world()
    }

    /// Own number, from 0.
    pub fn rank(&self) -> usize {
        self.collective.rank()
    }

    /// True for the rank that writes files and reports.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// True for a run of one process.
    pub(crate) fn alone(&self) -> bool {
        self.world() == 1
    }

    /// The rank of each item: the largest first, each to the rank with the least (Graham's longest-processing-time rule).
    pub(crate) fn deal(&self, sizes: &[usize]) -> Vec<usize> {
        let mut loads = vec![0usize; self.world()];
        let mut owners = vec![0; sizes.len()];
        let mut largest_first: Vec<usize> = (0..sizes.len()).collect();
        largest_first.sort_by_key(|&item| std::cmp::Reverse(sizes[item]));
        for item in largest_first {
            let least = (0..loads.len()).min_by_key(|&rank| loads[rank]).unwrap_or(0);
            loads[least] += sizes[item];
            owners[item] = least;
        }
        owners
    }

    /// Numbers of every rank, by rank.
    ///
    /// # Errors
    /// The own error; else [`TrainError::OtherRank`] where another rank brings one.
    pub(crate) fn exchange(&self, own: Result<Vec<f64>, TrainError>) -> Result<Vec<Vec<f64>>, TrainError> {
        if self.alone() {
            return own.map(|numbers| vec![numbers]);
        }
        let brought = match &own {
            Ok(numbers) => [0].into_iter().chain(numbers.iter().flat_map(|number| number.to_le_bytes())).collect(),
            Err(error) => [&[1], error.to_string().as_bytes()].concat(),
        };
        let all = self.collective.gather(&brought)?;
        own?;
        let numbers = |(rank, bytes): (usize, Vec<u8>)| match bytes.split_first() {
            Some((0, bytes)) => {
                let number = |bytes: &[u8]| bytes.try_into().map_or(f64::NAN, f64::from_le_bytes);
                Ok(bytes.chunks_exact(8).map(number).collect())
            }
            failed => {
                let message = failed.map_or("", |(_, text)| std::str::from_utf8(text).unwrap_or_default()).to_owned();
                Err(TrainError::OtherRank { rank, message })
            }
        };
        all.into_iter().enumerate().map(numbers).collect()
    }

    /// The room that every rank has: all of them cut the same packs. Ranks of one machine share its memory, which all of them
    /// have looked at before any took some.
    ///
    /// # Errors
    /// When another rank is gone.
    pub(crate) fn smallest(&self, own: MemoryBudget) -> Result<MemoryBudget, TrainError> {
        let machine = System::host_name().unwrap_or_default();
        let machines = self.gather(machine.as_bytes())?;
        let own = own.beside(machines.iter().filter(|other| **other == machine.as_bytes()).count());
        let free = self.exchange(Ok(vec![own.free() as f64]))?.into_iter().flatten().fold(f64::INFINITY, f64::min);
        Ok(if self.alone() { own } else { own.with_free(free as u64).shared_by(self.world()) })
    }

    /// Lists of token ids that were dealt one by one, rank after rank, in their order again.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    pub(crate) fn merge_lists(&self, own: Result<Vec<Vec<u32>>, TrainError>) -> Result<Vec<Vec<u32>>, TrainError> {
        if self.alone() {
            return own;
        }
        let with_length = |list: Vec<u32>| [list.len() as f64].into_iter().chain(list.into_iter().map(f64::from));
        let own = own.map(|lists| lists.into_iter().flat_map(|list| with_length(list).collect::<Vec<_>>()).collect());
        let mut by_rank: Vec<_> = self.exchange(own)?.into_iter().map(Vec::into_iter).collect();
        let mut all = Vec::new();
        for rank in (0..by_rank.len()).cycle() {
            let numbers = &mut by_rank[rank];
            let Some(length) = numbers.next() else { break };
            all.push(numbers.take(length as usize).map(|id| id as u32).collect());
        }
        Ok(all)
    }

    /// Passes an outcome on where every rank succeeded.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    pub(crate) fn agree<T>(&self, own: Result<T, TrainError>) -> Result<T, TrainError> {
        let mut value = None;
        self.exchange(own.map(|own| {
            value = Some(own);
            Vec::new()
        }))?;
        value.ok_or(TrainError::Collective(CollectiveError::Gone(self.rank())))
    }

    /// True if some rank says so.
    ///
    /// # Errors
    /// When another rank is gone.
    pub(crate) fn any(&self, own: bool) -> Result<bool, TrainError> {
        if self.alone() {
            return Ok(own);
        }
        Ok(self.collective.gather(&[u8::from(own)])?.concat().contains(&1))
    }

    /// Runs `work` on the first rank while the others wait; `None` on those.
    ///
    /// # Errors
    /// That of `work`, on every rank.
    pub(crate) fn lead<T>(&self, work: impl FnOnce() -> Result<T, TrainError>) -> Result<Option<T>, TrainError> {
        self.agree(if self.leads() { work().map(Some) } else { Ok(None) })
    }

    /// Runs `work` on the first rank, then on the others: they find in caches what the first has computed.
    ///
    /// # Errors
    /// Those of `work`, on every rank.
    pub(crate) fn in_turn<T>(&self, work: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
        let (of_first, work) = if self.leads() { (Some(work()), None) } else { (None, Some(work)) };
        let of_first = self.agree(of_first.transpose())?;
        let of_others = self.agree(work.map(|work| work()).transpose())?;
        of_first.or(of_others).ok_or(TrainError::Collective(CollectiveError::Gone(self.rank())))
    }

    /// Adds numbers over all ranks, as many on each, in the order of ranks.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    pub(crate) fn total(&self, own: Result<Vec<f64>, TrainError>) -> Result<Vec<f64>, TrainError> {
        let all = self.exchange(own)?;
        let sums = all.into_iter().reduce(|mut sums, numbers| {
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
            sums
        });
        Ok(sums.unwrap_or_default())
    }

    /// The bytes of every rank, by rank.
    ///
    /// # Errors
    /// When another rank is gone.
    pub(crate) fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TrainError> {
        Ok(self.collective.gather(bytes)?)
    }

    /// Replaces `bytes` by those of the first rank.
    ///
    /// # Errors
    /// When another rank is gone.
    pub(crate) fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<(), TrainError> {
        Ok(self.collective.broadcast(bytes, 0)?)
    }

    /// As [`Collective::start_sum`].
    ///
    /// # Errors
    /// When another rank is gone.
    pub(crate) fn start_sum(&self, values: Vec<f32>, bounds: Option<&[usize]>) -> Result<Box<dyn Running>, TrainError> {
        Ok(self.collective.start_sum(values, bounds)?)
    }

    /// As [`Collective::all_gather`].
    ///
    /// # Errors
    /// When another rank is gone.
    pub(crate) fn all_gather(&self, values: &mut [f32], bounds: &[usize]) -> Result<(), TrainError> {
        Ok(self.collective.all_gather(values, bounds)?)
    }

    /// As [`Collective::on_device`].
    ///
    /// # Safety
    /// As for [`Collective::on_device`].
    ///
    /// # Errors
    /// When another rank is gone.
    pub(crate) unsafe fn on_device(
        &self,
        operation: DeviceOperation,
        values: &[DeviceValues],
    ) -> Result<bool, TrainError> {
        // SAFETY: the caller's promise.
        Ok(unsafe { self.collective.on_device(operation, values) }?)
    }

    /// As [`Collective::start_on_device`].
    ///
    /// # Safety
    /// As for [`Collective::start_on_device`].
    ///
    /// # Errors
    /// When another rank is gone.
    pub(crate) unsafe fn start_on_device(
        &self,
        operation: DeviceOperation,
        values: &[DeviceValues],
    ) -> Result<bool, TrainError> {
        // SAFETY: the caller's promise.
        Ok(unsafe { self.collective.start_on_device(operation, values) }?)
    }

    /// As [`Collective::finish_on_device`].
    ///
    /// # Errors
    /// When another rank is gone.
    pub(crate) fn finish_on_device(&self) -> Result<(), TrainError> {
        Ok(self.collective.finish_on_device()?)
    }
}
