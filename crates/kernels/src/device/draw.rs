//! The draw of a token for each row of logits.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, blocks, module};
use crate::error::{KernelError, Result};
use crate::options::TokenDraw;
use candle_core::{DType, Tensor};

const OP: &str = "draw";
const MODULE: Module = module!("draw");
const THREADS: u32 = 256;
/// `DrawPart` and the results of a row in draw.cu.
const PART_FIELDS: usize = 6;
const FIELDS: usize = 6;
/// Most parts of a row, and least tokens of a part.
const PARTS: usize = 16;
const PART: usize = 2048;

arguments! {
    struct Draw {
        logits: Address,
        settings: Address,
        terminators: Address,
        parts: Address,
        bars: Address,
        drawn: Address,
        vocabulary: u32,
        count: u32,
        each: u32,
        cap: f32,
    }
}

/// The settings of a row, `DrawWord` in draw.cu, and its terminators at the end of their list.
fn push_settings(draw: &TokenDraw<'_>, settings: &mut Vec<u32>, terminators: &mut Vec<u32>) {
    let words = |value: u64| [value as u32, (value >> 32) as u32];
    let greedy = draw.temperature == 0.0;
    let inverse = if greedy { 1.0 } else { 1.0 / draw.temperature };
    settings.extend(draw.key);
    settings.extend(words(draw.step));
    for number in [inverse, draw.top_p.unwrap_or(1.0), draw.min_p.unwrap_or(0.0)] {
        settings.extend(words(number.to_bits()));
    }
    settings.extend([draw.top_k.unwrap_or(0), u32::from(greedy)]);
    settings.extend([terminators.len() as u32, draw.terminators.len() as u32]);
    terminators.extend_from_slice(draw.terminators);
}

/// One token for each row of `logits` (B, V), float32, not capped yet: six numbers a row, those of draw.cu.
pub(crate) fn draw(
    engine: &Engine,
    logits: &Tensor,
    soft_cap: Option<f64>,
    draws: &[TokenDraw<'_>],
) -> Result<Vec<[f64; FIELDS]>> {
    let (rows, vocabulary) = logits.dims2()?;
    if rows == 0 || vocabulary == 0 {
        return Ok(vec![]);
    }
    let y = match u16::try_from(rows) {
        Ok(rows) => u32::from(rows),
        Err(_) => {
            let expected = "fewer than 65536 on a device";
            return Err(KernelError::Option { op: OP, option: "rows", expected, got: rows.to_string() });
        }
    };
    let (mut settings, mut terminators) = (vec![], vec![]);
    draws.iter().for_each(|draw| push_settings(draw, &mut settings, &mut terminators));
    let (settings, terminators) = (engine.upload(&settings)?, engine.upload(&terminators)?);
    // By the vocabulary alone: results do not depend on the other rows.
    let each = vocabulary.div_ceil(PARTS).max(PART).next_multiple_of(8);
    let count = vocabulary.div_ceil(each);
    let numbers = |shape: &[usize]| engine.allocate(DType::F64, shape, Role::Constant);
    let (parts, bars) = (numbers(&[rows, count, PART_FIELDS])?, numbers(&[rows])?);
    let drawn = numbers(&[rows, FIELDS])?;
    let arguments = Draw {
        logits: reading(logits)?,
        settings: reading(&settings)?,
        terminators: if terminators.elem_count() == 0 { Address::NONE } else { reading(&terminators)? },
        parts: writing(&parts)?,
        bars: writing(&bars)?,
        drawn: writing(&drawn)?,
        vocabulary: vocabulary as u32,
        count: count as u32,
        each: each as u32,
        cap: soft_cap.unwrap_or(0.0) as f32,
    };
    let of_parts = Grid { blocks: [blocks(count)?, y, 1], threads: THREADS, shared: 0 };
    let of_rows = Grid { blocks: [y, 1, 1], ..of_parts };
    let kernels = [
        ("draw_survey", of_parts),
        ("draw_bar", of_rows),
        ("draw_race", of_parts),
        ("draw_finish", Grid { threads: 32, ..of_rows }),
    ];
    for (kernel, grid) in kernels {
        // SAFETY: `Draw` is the kernels' struct; the logits are (rows, vocabulary) in float32, there are settings for each
        // row, whose terminators lie in their list, and memory for each part and row.
        unsafe { engine.launch(MODULE, kernel, grid, &arguments)? };
    }
    let values: Vec<f64> = drawn.flatten_all()?.to_vec1()?;
    let (rows, _) = values.as_chunks::<FIELDS>();
    Ok(rows.to_vec())
}
