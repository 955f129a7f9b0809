//! Rows of a table by id, and their gradients summed by id.

use super::address::{Address, reading, writing};
use super::engine::Engine;
use super::launch::{Grid, Module, arguments, blocks, module, typed};
use crate::error::Result;
use candle_core::Tensor;

const MODULE: Module = module!("rows");

arguments! {
    struct Gather {
        table: Address,
        ids: Address,
        out: Address,
        rows: u64,
        width: u32,
        wide: u32,
    }
}

arguments! {
    struct SumById {
        rows: Address,
        order: Address,
        starts: Address,
        ids: Address,
        table: Address,
        count: u32,
        width: u32,
        unused: [u32; 2],
    }
}

/// `out` (n, W) = rows `ids` (n) of `table` (…, W).
pub(crate) fn gather(engine: &Engine, table: &Tensor, ids: &Tensor, out: &Tensor) -> Result<()> {
    let (rows, width) = out.dims2()?;
    let (table_at, out_at) = (reading(table)?, writing(out)?);
    let arguments = Gather {
        table: table_at,
        ids: reading(ids)?,
        out: out_at,
        rows: rows as u64,
        width: width as u32,
        wide: Engine::wide(out.dtype(), width, &[table_at, out_at]),
    };
    let grid = Grid::of_elements(rows, 8, 256)?;
    // SAFETY: `Gather` is the kernel's struct; callers have checked that every id is a row of the table.
    unsafe { engine.launch(MODULE, &typed("gather_rows", out.dtype()), grid, &arguments) }
}

/// Row indices sorted by id.
pub(crate) struct ById {
    order: Vec<u32>,
    starts: Vec<u32>,
    ids: Vec<u32>,
}

impl ById {
    /// `ids` of the rows, in order.
    pub(crate) fn new(ids: &[u32]) -> Self {
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        // Stable: rows of one id stay in order.
        order.sort_by_key(|&row| ids[row as usize]);
        let mut sorted = Self { order, starts: vec![], ids: vec![] };
        for (at, &row) in sorted.order.iter().enumerate() {
            let id = ids[row as usize];
            if sorted.ids.last() != Some(&id) {
                sorted.ids.push(id);
                sorted.starts.push(at as u32);
            }
        }
        sorted.starts.push(ids.len() as u32);
        sorted
    }

    /// Adds each of `rows` to the row of its id in `table`.
    pub(crate) fn add(&self, engine: &Engine, rows: &Tensor, table: &Tensor, width: usize) -> Result<()> {
        let lists = [engine.upload(&self.order)?, engine.upload(&self.starts)?, engine.upload(&self.ids)?];
        let arguments = SumById {
            rows: reading(rows)?,
            order: reading(&lists[0])?,
            starts: reading(&lists[1])?,
            ids: reading(&lists[2])?,
            table: writing(table)?,
            count: self.ids.len() as u32,
            width: width as u32,
            unused: [0; 2],
        };
        let kernel = format!("{}_{}", typed("sum_by_id", rows.dtype()), table.dtype().as_str());
        let grid = Grid { blocks: [blocks(self.ids.len())?, 1, 1], threads: 128, shared: 0 };
        // SAFETY: `SumById` is the kernel's struct; the order names rows of `rows`, the ids rows of the table.
        unsafe { engine.launch(MODULE, &kernel, grid, &arguments) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_id_stay_in_order() {
        let by_id = ById::new(&[5, 2, 5, 9, 2, 5]);
        assert_eq!(by_id.ids, [2, 5, 9]);
        assert_eq!(by_id.starts, [0, 2, 5, 6]);
        assert_eq!(by_id.order, [1, 4, 0, 2, 5, 3]);
    }
}
