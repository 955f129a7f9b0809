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

arguments! {
    struct SquareSums {
        values: Address,
        parts: Address,
        count: u64,
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
        gradient: Address,
        first: Address,
        second: Address,
        master: Address,
        parameter: Address,
        count: u64,
        clip: f32,
        beta1: f32,
        one_minus_beta1: f32,
        beta2: f32,
        one_minus_beta2: f32,
        second_correction: f32,
        eps: f32,
        rate: f32,
        keep: f32,
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

    /// One step of `parameter` along `gradient`.
    pub(crate) fn update(&mut self, parameter: &Tensor, gradient: &Tensor, factors: UpdateFactors) -> Result<()> {
        let count = parameter.elem_count();
        let arguments = AdamW {
            gradient: reading(gradient)?,
            first: writing(&self.first)?,
            second: writing(&self.second)?,
            master: self.master.as_ref().map_or(Ok(Address::NONE), writing)?,
            parameter: writing(parameter)?,
            count: count as u64,
            clip: factors.clip,
            beta1: factors.beta1,
            one_minus_beta1: factors.one_minus_beta1,
            beta2: factors.beta2,
            one_minus_beta2: factors.one_minus_beta2,
            second_correction: factors.second_correction,
            eps: factors.eps,
            rate: factors.rate,
            keep: factors.keep,
            unused: 0,
        };
        let kernel = typed("adamw", parameter.dtype());
        // SAFETY: `AdamW` is the kernel's struct; all tensors have `count` elements, the parameter of its dtype, the
        // others float32.
        unsafe { self.engine.launch(MODULE, &kernel, Grid::of_threads(count, 256)?, &arguments) }
    }
}

/// Σ x² of each of `gradients`, added on their device, in one copy to the host.
pub(crate) fn sums_of_squares(engine: &Engine, gradients: &[&Tensor]) -> Result<Vec<f64>> {
    if gradients.is_empty() {
        return Ok(vec![]);
    }
    let mut starts = vec![0u32];
    for gradient in gradients {
        let blocks = gradient.elem_count().div_ceil(PIECE) as u32;
        starts.push(starts.last().copied().unwrap_or(0) + blocks);
    }
    let count = starts.last().copied().unwrap_or(0) as usize;
    let parts = engine.allocate(DType::F32, &[count], Role::Constant)?;
    let sums = engine.allocate(DType::F64, &[gradients.len()], Role::Constant)?;
    let at = writing(&parts)?;
    for (gradient, &first) in gradients.iter().zip(&starts) {
        let count = gradient.elem_count();
        let parts = Address(at.0 + 4 * u64::from(first));
        let arguments = SquareSums { values: reading(gradient)?, parts, count: count as u64 };
        let grid = Grid::of_elements(count, PIECE, 256)?;
        // SAFETY: `SquareSums` is the kernel's struct; a gradient is float32 and has a part for each block.
        unsafe { engine.launch(MODULE, "square_sums", grid, &arguments)? };
    }
    let starts = engine.upload(&starts)?;
    let arguments = AddParts { parts: at, starts: reading(&starts)?, sums: writing(&sums)? };
    let grid = Grid { blocks: [gradients.len() as u32, 1, 1], threads: 32, shared: 0 };
    // SAFETY: `AddParts` is the kernel's struct; the starts lie within the parts, one more than there are sums.
    unsafe { engine.launch(MODULE, "add_parts", grid, &arguments)? };
    Ok(sums.to_vec1()?)
}
