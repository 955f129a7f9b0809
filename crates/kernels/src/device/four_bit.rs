//! Four-bit blocks, dequantised before a product.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, module, typed};
use crate::cpu::weight::{DeviceBlocks, FourBit, PackedWeight, Scales};
use crate::error::Result;
use candle_core::{DType, Device, Tensor};

const MODULE: Module = module!("four_bit");

/// Values that a thread writes.
const VALUES: usize = 8;

arguments! {
    struct Dequantise {
        codes: Address,
        scales: Address,
        nested: Address,
        nested_numbers: Address,
        out: Address,
        count: u64,
        numbers: [f32; 16],
        block: u32,
        nested_block: u32,
        offset: f32,
        rounding: u32,
    }
}

/// The weight in `dtype`.
pub(crate) fn dequantise(engine: &Engine, packed: &PackedWeight, dtype: DType) -> Result<Tensor> {
    let Some(blocks) = packed.four_bit() else {
        // Of these there is no kernel.
        let values = Tensor::from_vec(packed.dequantise(), packed.shape(), &Device::Cpu)?;
        return Ok(values.to_dtype(dtype)?.to_device(&engine.device())?);
    };
    let copy = packed.on_device(|| upload(engine, blocks))?;
    let copy = match engine.holds(&copy.codes) {
        true => copy,
        false => &upload(engine, blocks)?,
    };
    let (rows, columns) = packed.shape();
    let out = engine.allocate(dtype, &[rows, columns], Role::Constant)?;
    let (nested_block, offset) = match blocks.scales() {
        Scales::Single(_) => (1, 0.0),
        Scales::Nested(nested) => (nested.block as u32, nested.offset),
    };
    let count = rows * columns;
    let arguments = Dequantise {
        codes: reading(&copy.codes)?,
        scales: reading(&copy.scales)?,
        nested: Engine::reading_if(copy.nested.as_ref().map(|(codes, _)| codes))?,
        nested_numbers: Engine::reading_if(copy.nested.as_ref().map(|(_, numbers)| numbers))?,
        out: writing(&out)?,
        count: count as u64,
        numbers: blocks.kind().numbers(),
        block: blocks.block() as u32,
        nested_block,
        offset,
        rounding: match blocks.rounding() {
            DType::BF16 => 1,
            DType::F16 => 2,
            _ => 0,
        },
    };
    let grid = Grid::of_threads(count.div_ceil(VALUES), 256)?;
    // SAFETY: `Dequantise` is the kernel's struct; codes and scales are those of `count` values, `out` has as many of its
    // dtype.
    unsafe { engine.launch(MODULE, &typed("dequantise", dtype), grid, &arguments)? };
    Ok(out)
}

fn upload(engine: &Engine, blocks: &FourBit) -> Result<DeviceBlocks> {
    let floats = |values: &[f32]| Tensor::from_slice(values, values.len(), &engine.device());
    let (scales, nested) = match blocks.scales() {
        Scales::Single(scales) => (floats(scales)?, None),
        Scales::Nested(nested) => {
            (floats(&nested.scales)?, Some((engine.upload(&words(&nested.codes))?, floats(&nested.numbers)?)))
        }
    };
    Ok(DeviceBlocks { codes: engine.upload(&words(blocks.codes()))?, scales, nested })
}

/// Bytes as little-endian words, zeros after the last.
fn words(bytes: &[u8]) -> Vec<u32> {
    let word = |part: &[u8]| part.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    bytes.chunks(4).map(word).collect()
}
