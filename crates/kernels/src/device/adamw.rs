//! AdamW's state and update on a device: float32 moments, and a float32 master copy of 16-bit parameters.

use super::address::{Address, reading, writing};
use super::cast_into;
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, module, typed};
use crate::error::Result;
use crate::options::UpdateFactors;
use candle_core::{DType, Tensor};

const MODULE: Module = module!("adamw");
/// Values that one block squares and adds.
const PIECE: usize = 16384;
/// Values that one block updates.
const UPDATED: usize = 2048;

arguments! {
    struct SquareSums {
        gradients: Address,
        parts: Address,
        count: u32,
        unused: u32,
    }
}

arguments! {
    struct AddParts {
        parts: Address,
        starts: Address,
        sums: Address,
    }
}

arguments! {
    struct AdamW {
        parameters: Address,
        count: u32,
        clip: f32,
        beta1: f32,
        one_minus_beta1: f32,
        beta2: f32,
        one_minus_beta2: f32,
        second_correction: f32,
        eps: f32,
        rate: f32,
        unused: u32,
    }
}

/// The state of one parameter.
#[derive(Debug)]
pub(crate) struct DeviceState {
    engine: Engine,
    pub(crate) first: Tensor,
    pub(crate) second: Tensor,
    /// The parameter before rounding to its dtype; `None` for one that is float32.
    pub(crate) master: Option<Tensor>,
}

impl DeviceState {
    /// Zero moments; the master copy starts as the parameter.
    pub(crate) fn new(engine: Engine, parameter: &Tensor) -> Result<Self> {
        let len = [parameter.elem_count()];
        let master = match parameter.dtype() {
            DType::F32 => None,
            _ => {
                let master = engine.allocate(DType::F32, &len, Role::Constant)?;
                cast_into(&engine, &parameter.detach(), &master)?;
                Some(master)
            }
        };
        let (first, second) = (engine.zeros(DType::F32, &len)?, engine.zeros(DType::F32, &len)?);
        Ok(Self { engine, first, second, master })
    }

    /// Replaces everything by saved values; without a saved master copy it starts as the parameter.
    pub(crate) fn restore(
        &mut self,
        parameter: &Tensor,
        first: Vec<f32>,
        second: Vec<f32>,
        master: Option<Vec<f32>>,
    ) -> Result<()> {
        let upload = |values: Vec<f32>| -> Result<Tensor> {
            let len = values.len();
            Ok(Tensor::from_vec(values, len, &self.engine.device())?)
        };
        let (first, second) = (upload(first)?, upload(second)?);
        if let Some(own) = &self.master {
            match master {
                Some(values) => cast_into(&self.engine, &upload(values)?, own)?,
                None => cast_into(&self.engine, &parameter.detach(), own)?,
            }
        }
        (self.first, self.second) = (first, second);
        Ok(())
    }
}

/// One parameter's step.
pub(crate) struct Update<'a> {
    pub(crate) state: &'a DeviceState,
    pub(crate) parameter: Tensor,
    pub(crate) gradient: Tensor,
    pub(crate) factors: UpdateFactors,
}

/// One step of every parameter: a launch for each dtype, however many parameters there are. Their factors differ in
/// `keep` alone.
pub(crate) fn update(updates: &[Update<'_>]) -> Result<()> {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let own: Vec<&Update<'_>> = updates.iter().filter(|update| update.parameter.dtype() == dtype).collect();
        if let Some(first) = own.first() {
            update_of_dtype(&first.state.engine, &own, first.factors, dtype)?;
        }
    }
    Ok(())
}

fn update_of_dtype(engine: &Engine, updates: &[&Update<'_>], factors: UpdateFactors, dtype: DType) -> Result<()> {
    let mut table = Table::default();
    for Update { state, parameter, gradient, factors } in updates {
        let master = state.master.as_ref().map_or(Ok(Address::NONE), writing)?;
        let addresses =
            [reading(gradient)?, writing(&state.first)?, writing(&state.second)?, master, writing(parameter)?];
        table.push(&addresses, parameter.elem_count(), UPDATED, factors.keep.to_bits());
    }
    let parameters = table.upload(engine)?;
    let arguments = AdamW {
        parameters: reading(&parameters)?,
        count: table.rows,
        clip: factors.clip,
        beta1: factors.beta1,
        one_minus_beta1: factors.one_minus_beta1,
        beta2: factors.beta2,
        one_minus_beta2: factors.one_minus_beta2,
        second_correction: factors.second_correction,
        eps: factors.eps,
        rate: factors.rate,
        unused: 0,
    };
    // SAFETY: `AdamW` is the kernel's struct, the table's rows are its `AdamWParameter`; all tensors of a row have its
    // number of elements, the parameter of the kernel's dtype, the others float32.
    unsafe { engine.launch(MODULE, &typed("adamw", dtype), table.grid()?, &arguments) }
}

/// Σ x² of each of `gradients`, added on their device, in one copy to the host.
pub(crate) fn sums_of_squares(engine: &Engine, gradients: &[&Tensor]) -> Result<Vec<f64>> {
    if gradients.is_empty() {
        return Ok(vec![]);
    }
    let mut table = Table::default();
    let mut starts = vec![0u32];
    for gradient in gradients {
        table.push(&[reading(gradient)?], gradient.elem_count(), PIECE, 0);
        starts.push(table.blocks as u32);
    }
    let grid = table.grid()?;
    let parts = engine.allocate(DType::F32, &[table.blocks], Role::Constant)?;
    let sums = engine.allocate(DType::F64, &[gradients.len()], Role::Constant)?;
    let values = table.upload(engine)?;
    let at = writing(&parts)?;
    let arguments = SquareSums { gradients: reading(&values)?, parts: at, count: table.rows, unused: 0 };
    // SAFETY: `SquareSums` is the kernel's struct, the table's rows are its `Values`; a gradient is float32 and has a part
    // for each block.
    unsafe { engine.launch(MODULE, "square_sums", grid, &arguments)? };
    let starts = engine.upload(&starts)?;
    let arguments = AddParts { parts: at, starts: reading(&starts)?, sums: writing(&sums)? };
    let grid = Grid { blocks: [gradients.len() as u32, 1, 1], threads: 32, shared: 0 };
    // SAFETY: `AddParts` is the kernel's struct; the starts lie within the parts, one more than there are sums.
    unsafe { engine.launch(MODULE, "add_parts", grid, &arguments)? };
    Ok(sums.to_vec1()?)
}

/// Tensors of many parameters for one launch: of each its addresses, the number of elements, its first block and a number
/// of 32 bits.
#[derive(Default)]
struct Table {
    words: Vec<u64>,
    rows: u32,
    blocks: usize,
}

impl Table {
    /// Adds a parameter, of which a block takes `each` elements; one without elements has no row.
    fn push(&mut self, addresses: &[Address], count: usize, each: usize, own: u32) {
        if count == 0 {
            return;
        }
        self.words.extend(addresses.iter().map(|address| address.0));
        self.words.extend([count as u64, self.blocks as u64 | u64::from(own) << 32]);
        self.rows += 1;
        self.blocks += count.div_ceil(each);
    }

    fn grid(&self) -> Result<Grid> {
        Grid::of_threads(self.blocks * 256, 256)
    }

    /// The rows in an engine's memory, whose 64-bit elements are floats: their bits alone matter.
    fn upload(&self, engine: &Engine) -> Result<Tensor> {
        let words: Vec<f64> = self.words.iter().map(|word| f64::from_bits(*word)).collect();
        let len = words.len();
        if len == 0 {
            return engine.allocate(DType::F64, &[1], Role::Constant);
        }
        Ok(Tensor::from_vec(words, len, &engine.device())?)
    }
}
