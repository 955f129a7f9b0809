//! The dynamic 8-bit data type (Dettmers, arXiv 1511.04561; Dettmers et al., arXiv 2110.02861): as many bits of an
//! exponent to base ten as leading zeros, the rest a fraction.

use std::sync::LazyLock;

/// Numbers of a map.
const CODES: usize = 256;

/// Steps of the grid that [`DynamicMap::nearest_on_grid`] rounds to.
const GRID: f32 = 65535.0;

/// The 256 numbers of the type in ascending order, and the search for the nearest.
#[derive(Debug)]
pub(crate) struct DynamicMap {
    values: [f32; CODES],
    /// Between each number and the next; +∞ after the last.
    midpoints: [f32; CODES],
    /// A number at or below the nearest to each value, by the value's upper 16 bits.
    starts: Vec<u8>,
}

static SIGNED: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(numbers(true)));
static UNSIGNED: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(numbers(false)));

impl DynamicMap {
    /// Numbers from −1 to 1.
    pub(crate) fn signed() -> &'static Self {
        &SIGNED
    }

    /// Numbers from 0 to 1.
    pub(crate) fn unsigned() -> &'static Self {
        &UNSIGNED
    }

    fn new(values: [f32; CODES]) -> Self {
        let mut midpoints = [f32::INFINITY; CODES];
        for (midpoint, pair) in midpoints.iter_mut().zip(values.windows(2)) {
            *midpoint = 0.5 * (pair[0] + pair[1]);
        }
        let search = |value: f32| midpoints.partition_point(|midpoint| *midpoint < value) as u8;
        let starts = (0..=u16::MAX)
            .map(|upper| {
                // The smallest value of the bucket: of negative ones the one with all lower bits set.
                let lower = if upper >> 15 == 1 { 0xffff } else { 0 };
                let value = f32::from_bits(u32::from(upper) << 16 | lower);
                if value.is_nan() { 0 } else { search(value) }
            })
            .collect();
        Self { values, midpoints, starts }
    }

    pub(crate) fn values(&self) -> &[f32; CODES] {
        &self.values
    }

    /// Index of the nearest number; of the lower one half way between two.
    #[inline]
    pub(crate) fn nearest(&self, value: f32) -> u8 {
        let mut code = self.starts[(value.to_bits() >> 16) as usize];
        while self.midpoints[code as usize] < value {
            code += 1;
        }
        code
    }

    /// Index of the number nearest to `value` rounded to a grid of 65,536 points from −1 to 1, as bitsandbytes' CPU build
    /// looks it up.
    pub(crate) fn nearest_on_grid(&self, value: f32) -> u8 {
        let half = (value.clamp(-1.0, 1.0) + 1.0) * 0.5;
        let index = half.mul_add(GRID, 0.5) as u16;
        self.nearest(-1.0 + (2.0 * f32::from(index)) / GRID)
    }
}

/// The numbers in ascending order: for each exponent the means of neighbours among equal steps from 0.1 to 1, as float32
/// arithmetic gives them; then 0 and 1.
fn numbers(signed: bool) -> [f32; CODES] {
    let mut numbers = vec![0.0, 1.0];
    for exponent in 0..7 {
        let items = 1usize << (exponent + usize::from(!signed));
        let power = 10f64.powi(exponent as i32 - 6) as f32;
        for index in 0..items {
            let mean = (step(index, items) + step(index + 1, items)) / 2.0;
            numbers.push(power * mean);
            if signed {
                numbers.push(-power * mean);
            }
        }
    }
    numbers.sort_by(f32::total_cmp);
    let mut all = [0.0; CODES];
    all.copy_from_slice(&numbers);
    all
}

/// Point `index` of `count` + 1 from 0.1 to 1, counted from the nearer end and rounded once.
fn step(index: usize, count: usize) -> f32 {
    let width = (1.0f32 - 0.1) / count as f32;
    if index < count.div_ceil(2) {
        width.mul_add(index as f32, 0.1)
    } else {
        width.mul_add(-((count - index) as f32), 1.0)
    }
}
