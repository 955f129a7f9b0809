//! ZeRO stage 1 (Rajbhandari et al. 2020, arXiv 1910.02054): each rank keeps the moments, and the float32 copies of 16-bit
//! weights, of some parameters alone. Gradients are summed where their parameter's moments are, and the new weights go from
//! there to all.

use std::ops::Range;

use candle_core::DType;
use smpo_collectives::{DeviceOperation, DeviceType, DeviceValues};
use smpo_kernels::{AdamW, Part};

use crate::error::TrainError;
use crate::ranks::Ranks;

/// Values that go between ranks at a time: 64 MiB.
const BUCKET: usize = 1 << 24;

/// The parts of the parameters that each rank keeps moments of.
#[derive(Debug)]
pub(crate) struct Owners(Vec<Vec<Part>>);

/// Parts that go between ranks together, by owner.
type Round = Vec<Vec<Part>>;

impl Owners {
    /// Deals parameters of some sizes: whole, but for one that is larger than a rank's share, as an embedding may be. That is
    /// cut for all ranks.
    pub fn deal(sizes: &[usize], ranks: &Ranks) -> Self {
        let world = ranks.world();
        let share = sizes.iter().sum::<usize>().div_ceil(world);
        let mut parts = Vec::new();
        for (parameter, &len) in sizes.iter().enumerate() {
            let each = if len > share { len.div_ceil(world).next_multiple_of(Part::UNIT) } else { len.max(1) };
            let cut = |start: usize| Part { parameter, values: start..(start + each).min(len) };
            parts.extend((0..len).step_by(each).map(cut));
        }
        let owners = ranks.deal(&parts.iter().map(|part| part.values.len()).collect::<Vec<_>>());
        let mut of_ranks = vec![Vec::new(); world];
        for (part, owner) in parts.into_iter().zip(owners) {
            of_ranks[owner].push(part);
        }
        Self(of_ranks)
    }

    /// These and parts of other parameters: for each parameter the range of each rank, or no range where it is not one of them.
    pub fn with<'a>(&self, parameters: impl Iterator<Item = &'a [Range<usize>]>) -> Self {
        let mut of_ranks = self.0.clone();
        for (parameter, ranges) in parameters.enumerate() {
            for (parts, values) in of_ranks.iter_mut().zip(ranges).filter(|(_, values)| !values.is_empty()) {
                parts.push(Part { parameter, values: values.clone() });
            }
        }
        of_ranks.iter_mut().for_each(|parts| parts.sort_by_key(|part| (part.parameter, part.values.start)));
        Self(of_ranks)
    }

    /// The parts of a rank, in the order of parameters.
    pub fn of(&self, rank: usize) -> &[Part] {
        &self.0[rank]
    }

    /// Number of ranks.
    pub fn world(&self) -> usize {
        self.0.len()
    }

    /// All parts in pieces, so that every round has as much of each owner.
    fn rounds(&self) -> Vec<Round> {
        let most = (BUCKET / self.world()).next_multiple_of(Part::UNIT);
        let mut rounds: Vec<Round> = Vec::new();
        for (owner, parts) in self.0.iter().enumerate() {
            let (mut round, mut filled) = (0, 0);
            for part in parts {
                let mut rest = part.values.clone();
                while !rest.is_empty() {
                    if filled == most {
                        (round, filled) = (round + 1, 0);
                    }
                    let values = rest.start..rest.end.min(rest.start + most - filled);
                    (rest.start, filled) = (values.end, filled + values.len());
                    if rounds.len() == round {
                        rounds.push(vec![Vec::new(); self.world()]);
                    }
                    rounds[round][owner].push(Part { parameter: part.parameter, values });
                }
            }
        }
        rounds
    }

    /// The values of all parts that are on a GPU, in one order on all ranks.
    fn on_device(
        &self,
        mut find: impl FnMut(&Part) -> Result<Option<(u64, DeviceType)>, TrainError>,
    ) -> Result<Vec<DeviceValues>, TrainError> {
        let mut all = Vec::new();
        for (owner, parts) in self.0.iter().enumerate() {
            for part in parts {
                let len = part.values.len();
                all.extend(find(part)?.map(|(address, dtype)| DeviceValues { address, len, dtype, owner }));
            }
        }
        Ok(all)
    }

    /// Gives the weights of each part from its owner to all.
    ///
    /// # Errors
    /// When another rank is gone, or a copy from or to a device fails.
    pub fn spread(&self, optimizer: &AdamW, ranks: &Ranks) -> Result<(), TrainError> {
        let dtypes: Vec<_> = optimizer.parameters().map(|parameter| device_type(parameter.var.dtype())).collect();
        let there = self.on_device(|part| Ok(optimizer.address_of(part).zip(dtypes[part.parameter])))?;
        // SAFETY: the weights are theirs, and nothing works on them meanwhile.
        if !there.is_empty() && unsafe { ranks.on_device(DeviceOperation::Spread, &there) }? {
            return Ok(());
        }
        let mut values = Vec::new();
        for round in self.rounds() {
            values.clear();
            for (owner, parts) in round.iter().enumerate() {
                for part in parts {
                    match owner == ranks.rank() {
                        true => optimizer.read_part(part, &mut values)?,
                        false => values.resize(values.len() + part.values.len(), 0.0),
                    }
                }
            }
            ranks.all_gather(&mut values, &bounds(&round))?;
            let mut rest = &values[..];
            for (owner, parts) in round.iter().enumerate() {
                for part in parts {
                    let (new, after) = rest.split_at(part.values.len());
                    if owner != ranks.rank() {
                        optimizer.write_part(part, new)?;
                    }
                    rest = after;
                }
            }
        }
        Ok(())
    }
}

/// The type of values that go from GPU to GPU; `None` for one that no weight has.
fn device_type(dtype: DType) -> Option<DeviceType> {
    match dtype {
        DType::F32 => Some(DeviceType::Float32),
        DType::F16 => Some(DeviceType::Float16),
        DType::BF16 => Some(DeviceType::Bfloat16),
        _ => None,
    }
}

/// Bounds of the values of each owner.
pub(crate) fn bounds(round: &[Vec<Part>]) -> Vec<usize> {
    let mut bounds = vec![0];
    for parts in round {
        let own: usize = parts.iter().map(|part| part.values.len()).sum();
        bounds.push(bounds.last().copied().unwrap_or(0) + own);
    }
    bounds
}

#[cfg(test)]
mod tests {
    use smpo_collectives::Threads;

    use super::*;

    fn dealt(sizes: &[usize], world: usize) -> Owners {
        let first = Threads::world_of(world).swap_remove(0);
        Owners::deal(sizes, &Ranks::new(first))
    }

    #[test]
    fn every_value_has_one_owner_and_shares_are_alike() {
        // An embedding, matrices, norms and an empty tensor.
        let sizes = [40_000, 4096, 64, 64, 4096, 8000, 64, 0, 300];
        for world in [1, 2, 3, 4, 7] {
            let owners = dealt(&sizes, world);
            let mut seen: Vec<Vec<u32>> = sizes.iter().map(|&len| vec![0; len]).collect();
            for part in (0..world).flat_map(|rank| owners.of(rank)) {
                assert!(part.values.start.is_multiple_of(Part::UNIT));
                seen[part.parameter][part.values.clone()].iter_mut().for_each(|count| *count += 1);
            }
            assert!(seen.iter().flatten().all(|count| *count == 1), "{world}");
            let loads: Vec<usize> =
                (0..world).map(|rank| owners.of(rank).iter().map(|part| part.values.len()).sum()).collect();
            let share = sizes.iter().sum::<usize>() / world;
            assert!(loads.iter().all(|load| *load < share + 8000), "{world}: {loads:?}");
        }
    }

    #[test]
    fn rounds_have_all_values_and_are_bounded() {
        let sizes = [3 * BUCKET, 5000, BUCKET + 1, 77];
        for world in [2, 3, 8] {
            let owners = dealt(&sizes, world);
            let mut values = [0usize; 4];
            for round in owners.rounds() {
                let bounds = bounds(&round);
                assert!(bounds.windows(2).all(|ends| ends[1] - ends[0] <= BUCKET / world + Part::UNIT));
                assert!(bounds[world] > 0);
                round.iter().flatten().for_each(|part| values[part.parameter] += part.values.len());
            }
            assert_eq!(values, sizes);
        }
    }
}
