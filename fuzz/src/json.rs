//! A mutator that keeps JSON whole: half of the time it replaces one value of the input's document, or of one of its lines.

use serde_json::Value;
use smpo_fixtures::{Dice, hostile_json};

/// A libFuzzer mutator.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice::new(seed.into());
    if dice.below(2) == 0
        && let Some(lie) = lying(&data[..size], &mut dice).filter(|lie| lie.len() <= max_size)
    {
        data[..lie.len()].copy_from_slice(&lie);
        return lie.len();
    }
    libfuzzer_sys::fuzzer_mutate(data, size, max_size)
}

/// The input with one document replaced; `None` where it holds none.
fn lying(input: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let start = input.iter().position(|byte| matches!(byte, b'{' | b'['))?;
    let (head, documents) = input.split_at(start);
    if let Ok(document) = serde_json::from_slice::<Value>(documents) {
        return Some([head, &hostile_json(&document, dice)].concat());
    }
    let lines: Vec<&[u8]> = documents.split_inclusive(|&byte| byte == b'\n').collect();
    let chosen = dice.below(lines.len());
    let document: Value = serde_json::from_slice(lines[chosen]).ok()?;
    let lie = [&hostile_json(&document, dice)[..], b"\n"].concat();
    Some([head, &lines[..chosen].concat(), &lie, &lines[chosen + 1..].concat()].concat())
}
