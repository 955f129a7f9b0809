//! Rows of a table by id, and sums of rows by id.

use super::parallel::{Shared, tasks};
use super::simd::add_assign;
use super::weight::Elements;

/// Columns of one task: wide enough to vectorise, few enough to spread a batch over threads.
const STRIPE: usize = 64;

/// Rows `ids` (N) of `table` (V, `width`), (N, `width`).
pub(crate) fn gather(table: Elements<'_>, ids: &[u32], width: usize) -> Vec<f32> {
    let mut values = vec![0.0; ids.len() * width];
    for (&id, row) in ids.iter().zip(values.chunks_exact_mut(width.max(1))) {
        table.read(id as usize * width, row);
    }
    values
}

/// `table[ids[n]] += rows[n]`; tasks own columns, so every element is summed in token order.
pub(crate) fn scatter_add(table: &mut [f32], ids: &[u32], rows: &[f32], width: usize) {
    let stripes = width.div_ceil(STRIPE);
    let shared = Shared::new(table);
    tasks(stripes, rows.len(), |stripe| {
        let start = stripe * STRIPE;
        let len = STRIPE.min(width - start);
        for (&id, row) in ids.iter().zip(rows.chunks_exact(width.max(1))) {
            // SAFETY: the columns of this stripe belong to this task alone.
            let target = unsafe { shared.slice(id as usize * width + start, len) };
            add_assign(target, &row[start..start + len]);
        }
    });
}
