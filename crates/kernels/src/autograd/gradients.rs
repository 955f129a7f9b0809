//! Gradients that accumulate in place.
//!
//! candle's backward pass gives each variable a fresh gradient: zeros, plus the contribution, into
//! a third buffer. For a (V, H) embedding that is three times its size at once, and once more for
//! each micro-batch. [`Gradients`] owns one buffer a parameter. While [`Gradients::backward`] runs,
//! this crate's operations add straight into those buffers (the matrix products with `β = 1`) and
//! return no gradient to candle; contributions of candle's own operations are added when it returns.

use crate::cpu::simd::add_assign;
use crate::cpu::{Dense, GradBuffer};
use crate::device::{DeviceGrad, Engine, Role, accumulate, check_dtype, convert, start_of};
use crate::error::{KernelError, Result};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, TensorId, Var};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

/// Named parameters and one float32 gradient buffer for each, allocated when first written.
#[derive(Default)]
pub struct Gradients {
    slots: Vec<Slot>,
    index: HashMap<TensorId, usize>,
    /// Of parameters whose gradient is in parts in several processes, the own part.
    parts: HashMap<TensorId, Vec<f32>>,
    watcher: Option<Watcher>,
}

/// Told the marks that a backward pass has reached, on its thread, with the gradients so far.
pub type Watcher = Box<dyn FnMut(usize, &mut Gradients) + Send + Sync>;

impl fmt::Debug for Gradients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gradients").field("slots", &self.slots).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Slot {
    name: String,
    var: Var,
    values: Vec<f32>,
    /// In a device's memory, for a parameter there.
    tensor: Option<Tensor>,
    /// True if `values` or `tensor` hold a gradient.
    filled: bool,
}

thread_local! {
    /// The gradients of the innermost [`Gradients::backward`] that runs on this thread.
    static ACTIVE: RefCell<Option<Gradients>> = const { RefCell::new(None) };
}

/// Returns the active gradients to their owner, also when the backward pass panics.
struct Activation<'a> {
    owner: &'a mut Gradients,
    outer: Option<Gradients>,
}

impl<'a> Activation<'a> {
    fn new(owner: &'a mut Gradients) -> Self {
        let outer = ACTIVE.with(|active| active.replace(Some(std::mem::take(owner))));
        Self { owner, outer }
    }
}

impl Drop for Activation<'_> {
    fn drop(&mut self) {
        let own = ACTIVE.with(|active| active.replace(self.outer.take()));
        *self.owner = own.unwrap_or_default();
    }
}

impl Gradients {
    /// Empty gradients for named `parameters`.
    ///
    /// # Errors
    ///
    /// [`KernelError::DuplicateParameter`] if a name or a variable comes twice, [`KernelError::Type`] or
    /// [`KernelError::Device`] unless each is float32 in host memory, or float32, bfloat16 or float16 on a GPU.
    pub fn new<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a Var)>) -> Result<Self> {
        const OP: &str = "gradients";
        let mut gradients = Self::default();
        let mut names = HashSet::new();
        for (name, var) in parameters {
            match Engine::of(var) {
                Some(_) => check_dtype(OP, "parameter", var)?,
                None => {
                    Dense::new(OP, "parameter", var)?;
                }
            }
            let slot = gradients.slots.len();
            let fresh = gradients.index.insert(var.id(), slot).is_none();
            if !fresh || !names.insert(name) {
                return Err(KernelError::DuplicateParameter { op: OP, name: name.to_owned() });
            }
            let (name, var) = (name.to_owned(), var.clone());
            gradients.slots.push(Slot { name, var, values: vec![], tensor: None, filled: false });
        }
        Ok(gradients)
    }

    /// Runs candle's backward pass from the scalar `root` and adds the parameters' gradients to
    /// those here. Returns the gradients of all other variables, such as the detached input of a
    /// recomputed block.
    ///
    /// # Errors
    ///
    /// Those of the operations' backward passes.
    pub fn backward(&mut self, root: &Tensor) -> Result<GradStore> {
        let activation = Activation::new(self);
        let store = root.backward();
        drop(activation);
        let mut store = store?;
        self.absorb(&mut store)?;
        Ok(store)
    }

    /// Moves the parameters' gradients out of `store`, adding them to those here.
    ///
    /// # Errors
    ///
    /// [`KernelError::Type`] if one is not float32.
    pub fn absorb(&mut self, store: &mut GradStore) -> Result<()> {
        for slot in &mut self.slots {
            if let Some(gradient) = store.remove(&slot.var) {
                match Engine::of(&gradient) {
                    None => slot.add(&Dense::new("gradients", "gradient", &gradient)?.read()),
                    Some(engine) => slot.add_on(&engine, &gradient.contiguous()?)?,
                }
            }
        }
        Ok(())
    }

    /// The gradient of `parameter`, row-major; `None` if it has none yet, is not listed here, or is on a device:
    /// [`Gradients::tensor`] returns that too.
    pub fn get(&self, parameter: &Tensor) -> Option<&[f32]> {
        self.slots[*self.index.get(&parameter.id())?].host()
    }

    /// The gradient of `parameter` as a float32 tensor of its shape, on its device.
    ///
    /// # Errors
    ///
    /// [`KernelError::Candle`].
    pub fn tensor(&self, parameter: &Tensor) -> Result<Option<Tensor>> {
        if let Some(gradient) = self.on_device(parameter) {
            return Ok(Some(gradient.reshape(parameter.shape())?.copy()?));
        }
        Ok(match self.get(parameter) {
            Some(values) => Some(Tensor::from_slice(values, parameter.shape(), &Device::Cpu)?),
            None => None,
        })
    }

    /// The gradient of a parameter on a device, contiguous.
    pub(crate) fn on_device(&self, parameter: &Tensor) -> Option<&Tensor> {
        self.slots[*self.index.get(&parameter.id())?].device()
    }

    /// As [`Gradients::take`], on a device.
    pub(super) fn take_on(&mut self, engine: &Engine, id: TensorId) -> Result<Option<DeviceGrad>> {
        let Some(&slot) = self.index.get(&id) else { return Ok(None) };
        self.slots[slot].take_on(engine).map(Some)
    }

    /// As [`Gradients::put`], on a device.
    pub(super) fn put_on(&mut self, engine: &Engine, id: TensorId, gradient: Tensor) -> Result<Option<Tensor>> {
        match self.index.get(&id) {
            None => Ok(Some(gradient)),
            Some(&slot) => self.slots[slot].put_on(engine, gradient).map(|()| None),
        }
    }

    /// Names and gradients in the order given to [`Gradients::new`], of those in host memory.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[f32]>)> {
        self.slots.iter().map(|slot| (&slot.name[..], slot.host()))
    }

    /// Takes out the buffer of a parameter, to be put back with [`Gradients::put`].
    pub(super) fn take(&mut self, id: TensorId) -> Option<GradBuffer> {
        let slot = &mut self.slots[*self.index.get(&id)?];
        let mut values = std::mem::take(&mut slot.values);
        let accumulate = std::mem::take(&mut slot.filled);
        let len = slot.var.elem_count();
        if values.len() != len {
            values = vec![0.0; len];
        }
        Some(GradBuffer { values, accumulate })
    }

    /// Puts the buffer of a parameter back; returns it if there is no such parameter. One parameter
    /// may be several arguments of an operation: then its buffers add up.
    pub(super) fn put(&mut self, id: TensorId, buffer: GradBuffer) -> Option<GradBuffer> {
        match self.index.get(&id) {
            None => Some(buffer),
            Some(&slot) => {
                let slot = &mut self.slots[slot];
                if slot.filled {
                    add_assign(&mut slot.values, &buffer.values);
                } else {
                    slot.values = buffer.values;
                    slot.filled = true;
                }
                None
            }
        }
    }

    /// Adds to the gradient of a parameter; false if there is no such parameter.
    pub(super) fn add(&mut self, id: TensorId, gradient: &[f32]) -> bool {
        match self.index.get(&id) {
            None => false,
            Some(&slot) => {
                self.slots[slot].add(gradient);
                true
            }
        }
    }

    /// Zeroes the gradient of a matrix `parameter` except in some rows: the others are not trained.
    ///
    /// # Errors
    ///
    /// [`KernelError::Candle`].
    pub fn keep_rows(&mut self, parameter: &Tensor, rows: &[u32]) -> Result<()> {
        let Some(&slot) = self.index.get(&parameter.id()) else { return Ok(()) };
        let slot = &mut self.slots[slot];
        if !slot.filled {
            return Ok(());
        }
        let (height, width) = slot.var.dims2()?;
        if let Some(gradient) = &slot.tensor {
            let mut mask = vec![0.0f32; height];
            rows.iter().for_each(|row| mask[*row as usize] = 1.0);
            let mask = Tensor::from_vec(mask, (height, 1), gradient.device())?;
            slot.tensor = Some(gradient.reshape((height, width))?.broadcast_mul(&mask)?.reshape(gradient.shape())?);
            return Ok(());
        }
        let mut kept = vec![0.0; slot.values.len()];
        for row in rows.iter().map(|row| *row as usize * width..(*row as usize + 1) * width) {
            kept[row.clone()].copy_from_slice(&slot.values[row]);
        }
        slot.values = kept;
        Ok(())
    }

    /// Sets to zero the gradients that nothing has reached, of parameters in host memory that `may_lack` one by their
    /// names: an expert without tokens has none.
    pub fn fill_missing(&mut self, may_lack: impl Fn(&str) -> bool) {
        for slot in &mut self.slots {
            if slot.on_host() && !self.parts.contains_key(&slot.var.id()) && may_lack(&slot.name) {
                slot.fill();
            }
        }
    }

    /// True if a parameter has a gradient, by its place in the order given to [`Gradients::new`].
    pub fn is_present(&self, parameter: usize) -> bool {
        self.slots[parameter].filled
    }

    /// Sets who is told the marks of backward passes; `None` for nobody.
    pub fn watch(&mut self, watcher: Option<Watcher>) {
        self.watcher = watcher;
    }

    /// Tells the watcher that a backward pass is through with all that was recorded after `mark`.
    pub fn reach(&mut self, mark: usize) {
        if let Some(mut watcher) = self.watcher.take() {
            watcher(mark, self);
            self.watcher = Some(watcher);
        }
    }

    /// Drops the gradient of a parameter, by its place in the order given to [`Gradients::new`], and keeps its memory.
    pub fn forget(&mut self, parameter: usize) {
        self.slots[parameter].filled = false;
    }

    /// Appends some values of the gradient of a parameter, by its place in the order given to [`Gradients::new`]; zeros where
    /// it has none.
    ///
    /// # Errors
    ///
    /// [`KernelError::Candle`] of a copy from a device.
    pub fn read_part(&self, parameter: usize, part: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        let slot = &self.slots[parameter];
        match (slot.host(), slot.device()) {
            (Some(own), _) => values.extend_from_slice(&own[part]),
            (None, Some(own)) => {
                values.extend(own.flatten_all()?.narrow(0, part.start, part.len())?.to_vec1::<f32>()?);
            }
            (None, None) => values.resize(values.len() + part.len(), 0.0),
        }
        Ok(())
    }

    /// Replaces some values of the gradient of a parameter, which is zero elsewhere where it had none.
    ///
    /// # Errors
    ///
    /// [`KernelError::Candle`] of a copy to a device.
    pub fn write_part(&mut self, parameter: usize, start: usize, values: &[f32]) -> Result<()> {
        let slot = &mut self.slots[parameter];
        if slot.on_host() {
            slot.fill();
            slot.values[start..start + values.len()].copy_from_slice(values);
            return Ok(());
        }
        let device = slot.var.device();
        let all = match slot.device() {
            Some(all) => all.clone(),
            None => Tensor::zeros(slot.var.dims(), DType::F32, device)?,
        };
        if values.is_empty() {
            (slot.tensor, slot.filled) = (Some(all), true);
            return Ok(());
        }
        all.flatten_all()?.slice_set(&Tensor::from_slice(values, values.len(), device)?, 0, start)?;
        slot.tensor = Some(all);
        slot.filled = true;
        Ok(())
    }

    /// Address of some values of the gradient of a parameter, float32 in the memory of a GPU, where it is zero if it had none;
    /// `None` in the memory of the host.
    ///
    /// # Errors
    ///
    /// [`KernelError::Candle`] when zeros cannot be made.
    pub fn address_of(&mut self, parameter: usize, part: &Range<usize>) -> Result<Option<u64>> {
        if !self.slots[parameter].var.device().is_cuda() {
            return Ok(None);
        }
        self.write_part(parameter, 0, &[])?;
        let slot = &self.slots[parameter];
        let Some(all) = slot.device() else { return Ok(None) };
        Ok(start_of(all).map(|first| first + 4 * part.start as u64))
    }

    /// Appends the gradient of a parameter, zeros where it has none, and frees its memory.
    ///
    /// # Errors
    ///
    /// [`KernelError::Candle`] of a copy from a device.
    pub fn take_values(&mut self, parameter: &Tensor, values: &mut Vec<f32>) -> Result<()> {
        let count = parameter.elem_count();
        let Some(&slot) = self.index.get(&parameter.id()) else {
            values.resize(values.len() + count, 0.0);
            return Ok(());
        };
        self.read_part(slot, 0..count, values)?;
        self.slots[slot].release();
        Ok(())
    }

    /// Sets the part of a parameter's gradient that this process has of several.
    pub fn set_part(&mut self, parameter: &Tensor, values: Vec<f32>) {
        self.parts.insert(parameter.id(), values);
    }

    /// The parts that [`Gradients::set_part`] set since the gradients were cleared.
    pub(crate) fn part_of(&self, parameter: &Tensor) -> Option<&[f32]> {
        self.parts.get(&parameter.id()).map(Vec::as_slice)
    }

    /// Drops the gradients and keeps the memory.
    pub fn clear(&mut self) {
        self.parts.clear();
        for slot in &mut self.slots {
            slot.filled = false;
        }
    }

    /// Drops the gradients and frees the memory.
    pub fn release(&mut self) {
        self.parts.clear();
        for slot in &mut self.slots {
            slot.release();
        }
    }
}

impl Slot {
    fn host(&self) -> Option<&[f32]> {
        (self.filled && self.tensor.is_none()).then_some(&self.values[..])
    }

    fn device(&self) -> Option<&Tensor> {
        self.tensor.as_ref().filter(|_| self.filled)
    }

    fn on_host(&self) -> bool {
        Engine::of(&self.var).is_none()
    }

    /// Zeros, in host memory, where there is no gradient.
    fn fill(&mut self) {
        if !self.filled {
            self.values.clear();
            self.values.resize(self.var.elem_count(), 0.0);
            self.filled = true;
        }
    }

    fn release(&mut self) {
        self.filled = false;
        self.values = vec![];
        self.tensor = None;
    }

    fn add(&mut self, gradient: &[f32]) {
        if self.filled {
            add_assign(&mut self.values, gradient);
        } else {
            self.values.clear();
            self.values.extend_from_slice(gradient);
            self.filled = true;
        }
    }

    fn take_on(&mut self, engine: &Engine) -> Result<DeviceGrad> {
        let accumulate = std::mem::take(&mut self.filled);
        let tensor = match self.tensor.take() {
            Some(tensor) => tensor,
            None => engine.allocate(DType::F32, self.var.dims(), Role::Constant)?,
        };
        Ok(DeviceGrad { tensor, accumulate })
    }

    fn put_on(&mut self, engine: &Engine, tensor: Tensor) -> Result<()> {
        match self.device() {
            Some(sum) => accumulate(engine, sum, &tensor)?,
            None => self.tensor = Some(tensor),
        }
        self.filled = true;
        Ok(())
    }

    /// Adds a gradient of any dtype.
    fn add_on(&mut self, engine: &Engine, gradient: &Tensor) -> Result<()> {
        let DeviceGrad { tensor, accumulate } = self.take_on(engine)?;
        convert(engine, gradient, &tensor, accumulate)?;
        self.put_on(engine, tensor)
    }
}

/// The buffer of `argument` if it is a parameter of the active [`Gradients`].
///
/// The buffer leaves the thread's state while it is written: the write may run other tasks of
/// the pool on this thread, and those may run backward passes of their own.
pub(super) fn take_active(argument: &Tensor) -> Option<GradBuffer> {
    ACTIVE.with_borrow_mut(|active| active.as_mut()?.take(argument.id()))
}

/// Puts the buffer of `argument` back; returns it if `argument` is no parameter of the active
/// [`Gradients`].
pub(super) fn put_active(argument: &Tensor, buffer: GradBuffer) -> Option<GradBuffer> {
    ACTIVE.with_borrow_mut(|active| match active {
        Some(gradients) => gradients.put(argument.id(), buffer),
        None => Some(buffer),
    })
}
