//! Weights of blocks that lie in parts in several processes (ZeRO stage 3, arXiv 1910.02054): each keeps a part of every
//! block, and has a whole block in memory only while it uses it. The block that was gathered last stays until another is.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Debug;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use smpo_kernels::{Gradients, Part, drop_values, replace_values};

use crate::error::{ModelError, Result};
use crate::layout::{Slot, block_of};

/// Error of the way between processes.
pub type PeerError = Box<dyn Error + Send + Sync>;

/// The processes that have the parts.
pub trait Peers: Debug + Send + Sync {
    /// Own number, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn world(&self) -> usize;

    /// Takes in what this process keeps of a model; the number that the model has in all of them, which load the same models
    /// in the same order.
    fn add(&self, own: &Arc<OwnParts>) -> usize;

    /// The bytes of a block that each process keeps, as [`OwnParts::bytes`] gives them, in the order of processes.
    ///
    /// # Errors
    /// When another process is gone.
    fn gather(&self, model: usize, block: usize) -> std::result::Result<Vec<Vec<u8>>, PeerError>;

    /// Adds the gradient of a whole block to that of all processes: each adds the sum over processes of its own part by
    /// [`OwnParts::add_gradient`].
    ///
    /// # Errors
    /// When another process is gone.
    fn reduce(&self, model: usize, block: usize, gradient: Vec<f32>) -> std::result::Result<(), PeerError>;
}

/// Parts of a model's blocks that one process keeps.
#[derive(Debug)]
pub struct OwnParts {
    rank: usize,
    blocks: Vec<OwnBlock>,
}

/// The stretch of a block's values that one process keeps.
#[derive(Debug)]
struct OwnBlock {
    /// By tensor, flat.
    values: Vec<Tensor>,
    /// Bounds of the stretch of each process.
    bounds: Vec<usize>,
    /// The gradient of the own stretch since it was taken; empty without.
    gradient: Mutex<Vec<f32>>,
}

impl OwnParts {
    /// The bytes of the parts of a block, one after the other.
    ///
    /// # Errors
    /// When a copy from a device fails.
    pub fn bytes(&self, block: usize) -> Result<Vec<u8>> {
        let size = |part: &Tensor| part.elem_count() * part.dtype().size_in_bytes();
        let values = &self.blocks[block].values;
        let mut bytes = Vec::with_capacity(values.iter().map(size).sum());
        for part in values {
            let part = part.to_device(&Device::Cpu)?;
            match part.dtype() {
                DType::BF16 => {
                    bytes.extend_from_slice(bytemuck::cast_slice(part.to_vec1::<bf16>()?.reinterpret_cast()))
                }
                DType::F16 => bytes.extend_from_slice(bytemuck::cast_slice(part.to_vec1::<f16>()?.reinterpret_cast())),
                _ => bytes.extend_from_slice(bytemuck::cast_slice(&part.to_vec1::<f32>()?)),
            }
        }
        Ok(bytes)
    }

    /// Bounds of the stretch of a block's values that each process keeps.
    pub fn bounds(&self, block: usize) -> &[usize] {
        &self.blocks[block].bounds
    }

    /// Adds to the gradient of the own stretch of a block, given that of the whole block.
    pub fn add_gradient(&self, block: usize, whole: &[f32]) {
        let OwnBlock { bounds, gradient, .. } = &self.blocks[block];
        let (own, mut sum) = (&whole[bounds[self.rank]..bounds[self.rank + 1]], lock(gradient));
        if sum.is_empty() {
            sum.extend_from_slice(own);
        } else {
            sum.iter_mut().zip(own).for_each(|(sum, value)| *sum += value);
        }
    }
}

/// A tensor of a block, whose values come and go, and the part of them that this process keeps, flat.
#[derive(Debug)]
pub(crate) struct Piece {
    pub name: String,
    pub tensor: Tensor,
    pub own: Tensor,
}

/// The blocks of a model that lie in parts.
#[derive(Debug)]
pub(crate) struct Shards {
    number: usize,
    own: Arc<OwnParts>,
    blocks: Vec<Vec<Tensor>>,
    /// The block of each tensor, and of the module that has it, by name.
    names: HashMap<String, usize>,
    peers: Arc<dyn Peers>,
    /// The block that is in memory.
    present: Mutex<Option<usize>>,
}

impl Shards {
    /// Blocks, each with its tensors in the layout's order.
    pub fn new(blocks: Vec<Vec<Piece>>, peers: Arc<dyn Peers>) -> Arc<Self> {
        let (mut names, mut own, mut tensors) = (HashMap::new(), Vec::new(), Vec::new());
        for (index, block) in blocks.into_iter().enumerate() {
            for name in block.iter().map(|piece| &piece.name) {
                names.extend(name.rsplit_once('.').map(|(module, _)| (module.to_owned(), index)));
                names.insert(name.clone(), index);
            }
            let (whole, values): (Vec<_>, Vec<_>) = block.into_iter().map(|piece| (piece.tensor, piece.own)).unzip();
            let lens: Vec<usize> = whole.iter().map(Tensor::elem_count).collect();
            own.push(OwnBlock { values, bounds: bounds(&lens, peers.world()), gradient: Mutex::default() });
            tensors.push(whole);
        }
        let own = Arc::new(OwnParts { rank: peers.rank(), blocks: own });
        let number = peers.add(&own);
        Arc::new(Self { number, own, blocks: tensors, names, peers, present: Mutex::new(None) })
    }

    /// The block of a tensor or module, if it has one.
    pub fn block_of(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// Gathers a block, unless it is in memory; the one before is no longer.
    pub fn fetch(&self, block: usize) -> Result<()> {
        if *lock(&self.present) == Some(block) {
            return Ok(());
        }
        self.forget()?;
        let parts = self.peers.gather(self.number, block).map_err(ModelError::Peers)?;
        let chained = |all: Box<dyn Read>, part| -> Box<dyn Read> { Box::new(all.chain(Cursor::new(part))) };
        let mut bytes = parts.into_iter().fold(Box::new(io::empty()) as Box<dyn Read>, chained);
        for tensor in &self.blocks[block] {
            replace_values(tensor, &read(&mut bytes, tensor).map_err(|error| ModelError::Peers(error.into()))??)?;
        }
        *lock(&self.present) = Some(block);
        Ok(())
    }

    /// Takes the block that is in memory out of it, as when its parts have new values.
    pub fn forget(&self) -> Result<()> {
        let before = lock(&self.present).take();
        Ok(before.map_or(Ok(()), |before| self.blocks[before].iter().try_for_each(drop_values))?)
    }

    /// True if the tensors of a block are trained.
    fn trains(&self, block: usize) -> bool {
        self.blocks[block].iter().any(Tensor::is_variable)
    }

    /// Adds the gradient of a block to that of all processes, where it is trained.
    pub fn reduce(&self, block: usize, gradients: &mut Gradients) -> Result<()> {
        if !self.trains(block) {
            return Ok(());
        }
        let mut values = Vec::with_capacity(self.own.bounds(block).last().copied().unwrap_or(0));
        for tensor in &self.blocks[block] {
            gradients.take_values(tensor, &mut values)?;
        }
        self.peers.reduce(self.number, block, values).map_err(ModelError::Peers)
    }

    /// Moves the gradients of all own parts to `gradients`.
    pub fn take_gradients(&self, gradients: &mut Gradients) {
        for (tensors, own) in self.blocks.iter().zip(&self.own.blocks) {
            let mut values = std::mem::take(&mut *lock(&own.gradient)).into_iter();
            if values.len() > 0 {
                for (tensor, part) in tensors.iter().zip(&own.values) {
                    gradients.set_part(tensor, values.by_ref().take(part.elem_count()).collect());
                }
            }
        }
    }

    /// The range of a tensor's values that each process keeps, and those of this one, flat, where it is trained in parts.
    pub fn trained_part(&self, tensor: &Tensor) -> Option<(Vec<Range<usize>>, Tensor)> {
        let within = |block: &Vec<Tensor>| block.iter().position(|other| other.id() == tensor.id());
        let (block, place) = self.blocks.iter().enumerate().find_map(|(at, block)| Some((at, within(block)?)))?;
        let first = self.blocks[block][..place].iter().map(Tensor::elem_count).sum();
        let stretches = self.own.bounds(block).windows(2);
        let ranges = stretches.map(|ends| part_of(ends[0]..ends[1], first, tensor.elem_count())).collect();
        Some((ranges, self.own.blocks[block].values[place].clone()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next values, as many as a tensor has, of its type and on its device.
fn read(bytes: &mut dyn Read, like: &Tensor) -> io::Result<Result<Tensor>> {
    let count = like.elem_count();
    let values = match like.dtype() {
        DType::BF16 => {
            let mut values = vec![bf16::ZERO; count];
            bytes.read_exact(bytemuck::cast_slice_mut(values.reinterpret_cast_mut()))?;
            Tensor::from_vec(values, count, &Device::Cpu)
        }
        DType::F16 => {
            let mut values = vec![f16::ZERO; count];
            bytes.read_exact(bytemuck::cast_slice_mut(values.reinterpret_cast_mut()))?;
            Tensor::from_vec(values, count, &Device::Cpu)
        }
        _ => {
            let mut values = vec![0f32; count];
            bytes.read_exact(bytemuck::cast_slice_mut(&mut values))?;
            Tensor::from_vec(values, count, &Device::Cpu)
        }
    };
    Ok(values.and_then(|values| values.to_device(like.device())).map_err(ModelError::from))
}

/// Bounds of the stretches of one length, but for roundings, that the values of tensors, laid in a row, are cut into.
fn bounds(lens: &[usize], stretches: usize) -> Vec<usize> {
    let all: usize = lens.iter().sum();
    let bound = |number: usize| {
        let (place, mut first) = (all * number / stretches, 0);
        for len in lens {
            if place < first + len {
                return first + (place - first) / Part::UNIT * Part::UNIT;
            }
            first += len;
        }
        all
    };
    (0..=stretches).map(bound).collect()
}

/// The values of a tensor within a stretch, where it has `len` of them from `first` on.
fn part_of(stretch: Range<usize>, first: usize, len: usize) -> Range<usize> {
    let within = |place: usize| place.saturating_sub(first).min(len);
    within(stretch.start)..within(stretch.end)
}

/// The block of each tensor of a block, and the part of it that process `rank` of `world` keeps, by name.
pub(crate) fn cut(slots: &[Slot], rank: usize, world: usize) -> HashMap<&str, (usize, Range<usize>)> {
    let mut parts = HashMap::new();
    let in_blocks: Vec<(usize, &Slot)> = slots.iter().filter_map(|slot| Some((block_of(&slot.name)?, slot))).collect();
    for block in in_blocks.chunk_by(|(a, _), (b, _)| a == b) {
        let lens: Vec<usize> = block.iter().map(|(_, slot)| slot.shape.iter().product()).collect();
        let bounds = bounds(&lens, world);
        let mut first = 0;
        for ((index, slot), len) in block.iter().zip(lens) {
            parts.insert(&*slot.name, (*index, part_of(bounds[rank]..bounds[rank + 1], first, len)));
            first += len;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::families::Family;
    use crate::layout::layout;

    #[test]
    fn every_value_of_a_block_has_one_keeper_and_the_rest_has_none() {
        for case in Family::ALL.iter().map(|family| family.module()) {
            let config = Config::from_dir(smpo_fixtures::golden("model", case)).unwrap();
            let slots = layout(config.spec());
            for world in [1, 2, 3, 7] {
                let of_ranks: Vec<_> = (0..world).map(|rank| cut(&slots, rank, world)).collect();
                for slot in &slots {
                    let parts = of_ranks.iter().filter_map(|parts| parts.get(&*slot.name));
                    let mut end = 0;
                    for (block, part) in parts {
                        assert_eq!(Some(*block), block_of(&slot.name));
                        assert!(part.start == end && end.is_multiple_of(Part::UNIT) || part.is_empty(), "{case}");
                        end = end.max(part.end);
                    }
                    let in_block = slot.name.starts_with("model.layers.");
                    assert_eq!(end, if in_block { slot.shape.iter().product() } else { 0 }, "{case}: {}", slot.name);
                }
            }
        }
    }
}
