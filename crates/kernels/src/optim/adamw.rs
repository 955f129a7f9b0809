//! AdamW in one pass over each parameter, on a device in one launch for all.
//!
//! Loshchilov and Hutter, arXiv 1711.05101: with bias-corrected moments m̂ and v̂ of the gradient,
//! θ ← θ − η·(m̂ / (√v̂ + ε) + λ·θ). Gradients are clipped by their global norm without a scaled
//! copy. Moments are float32 and can be saved and restored. A bfloat16 or float16 parameter, which only devices have,
//! also has a float32 master copy: updates smaller than its rounding would be lost (arXiv 1710.03740).

use super::moment::Moment;
use crate::autograd::Gradients;
use crate::cpu::adamw::{BLOCK, Update, sum_of_squares};
use crate::device::adamw::{DeviceState, Update as DeviceUpdate, sums_of_squares};
use crate::device::{self, Engine, start_of};
use crate::error::{KernelError, Result};
use crate::options::{AdamWOptions, MomentFormat, UpdateFactors};
use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Tensor, Var};
use std::ops::Range;

/// One parameter to update.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name in errors and saved state.
    pub name: String,
    /// The variable, contiguous: float32, or on a device also bfloat16 or float16.
    pub var: Var,
    /// True if weight decay applies: usually not to norms and biases.
    pub decay: bool,
    /// True if the moments are float32 in any case, as an embedding's: most of its rows have no gradient in most steps.
    pub full_moments: bool,
}

/// A run of a parameter's values, which one of several processes updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The parameter's place among all.
    pub parameter: usize,
    /// Its values, row-major; from a multiple of [`Part::UNIT`].
    pub values: Range<usize>,
}

impl Part {
    /// Values of a block of 8-bit moments, which are of one part.
    pub const UNIT: usize = BLOCK;

    /// These values of a tensor of the parameter's size, flat, in the same memory.
    pub(crate) fn of(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.detach().flatten_all()?.narrow(0, self.values.start, self.values.len())?)
    }
}

/// Norm and clipping of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps taken so far, this one included.
    pub step: u64,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// The factor of the gradients by clipping; 1 without.
    pub clip_scale: f64,
}

/// The moments of a part, for saving: each is borrowed, or copied from a device when it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct MomentsView<'a> {
    parameter: &'a Parameter,
    state: &'a State,
}

impl<'a> MomentsView<'a> {
    /// The parameter.
    pub fn name(&self) -> &'a str {
        &self.parameter.name
    }

    /// Its dimensions.
    pub fn shape(&self) -> &'a [usize] {
        self.parameter.var.dims()
    }

    /// The values that these are the moments of.
    pub fn part(&self) -> &'a Part {
        &self.state.part
    }

    /// First moment m.
    ///
    /// # Errors
    ///
    /// [`KernelError::Candle`] when a copy from a device fails.
    pub fn first(&self) -> Result<Moment<'a>> {
        match &self.state.moments {
            Stored::Host { first, .. } => Ok(first.borrowed()),
            Stored::Device(state) => Ok(Moment::Single(copied(&state.first)?.into())),
        }
    }

    /// Second moment v.
    ///
    /// # Errors
    ///
    /// As for [`MomentsView::first`].
    pub fn second(&self) -> Result<Moment<'a>> {
        match &self.state.moments {
            Stored::Host { second, .. } => Ok(second.borrowed()),
            Stored::Device(state) => Ok(Moment::Single(copied(&state.second)?.into())),
        }
    }

    /// The master copy in float32 of a bfloat16 or float16 parameter.
    ///
    /// # Errors
    ///
    /// As for [`MomentsView::first`].
    pub fn master(&self) -> Result<Option<Vec<f32>>> {
        match &self.state.moments {
            Stored::Host { .. } => Ok(None),
            Stored::Device(state) => state.master.as_ref().map(copied).transpose(),
        }
    }
}

/// The values of a tensor, in host memory.
fn copied(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// A parameter's moments, to be restored.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// The parameter.
    pub name: String,
    /// Place of the first value in the parameter.
    pub start: usize,
    /// First moment m.
    pub first: Moment<'static>,
    /// Second moment v.
    pub second: Moment<'static>,
    /// The master copy in float32 of a bfloat16 or float16 parameter; `None` starts it as the parameter.
    pub master: Option<Vec<f32>>,
}

/// The optimizer: parameters, their moments, and the number of steps.
#[derive(Debug)]
pub struct AdamW {
    options: AdamWOptions,
    step: u64,
    parameters: Vec<Parameter>,
    states: Vec<State>,
}

#[derive(Debug)]
struct State {
    part: Part,
    /// The values of the part, flat: in the parameter's memory, or apart from it.
    values: Tensor,
    moments: Stored,
}

/// Moments of a part, on its parameter's device.
#[derive(Debug)]
enum Stored {
    Host { first: Moment<'static>, second: Moment<'static> },
    Device(DeviceState),
}

impl AdamW {
    /// Zero moments for `parameters`.
    ///
    /// # Errors
    ///
    /// [`KernelError::Option`] for a β outside [0, 1), an ε or a norm limit that is not positive, a negative decay, or
    /// moments of few bits on a device; otherwise as for [`Gradients::new`].
    pub fn new(parameters: Vec<Parameter>, options: AdamWOptions) -> Result<Self> {
        let whole = |(parameter, of): (usize, &Parameter)| (Part { parameter, values: 0..of.var.elem_count() }, None);
        let parts = parameters.iter().enumerate().map(whole).collect();
        Self::of_parts(parameters, options, parts)
    }

    /// Zero moments for `parts` of the parameters: those that this process updates, of several that share the work. Each comes
    /// with its values, flat, where they lie apart from a parameter that is not in memory whole.
    ///
    /// # Errors
    ///
    /// As for [`AdamW::new`]; [`KernelError::State`] for a part that no parameter has.
    pub fn of_parts(
        parameters: Vec<Parameter>,
        options: AdamWOptions,
        parts: Vec<(Part, Option<Tensor>)>,
    ) -> Result<Self> {
        options.check()?;
        // The same refusals: twice the same parameter, not float32, not in host memory.
        Gradients::new(parameters.iter().map(|parameter| (&parameter.name[..], &parameter.var)))?;
        let states = parts
            .into_iter()
            .map(|(part, apart)| {
                let parameter = parameters.get(part.parameter).filter(|parameter| {
                    part.values.start.is_multiple_of(BLOCK) && part.values.end <= parameter.var.elem_count()
                });
                let Some(parameter) = parameter else {
                    let reason = format!("no part of a parameter: {:?}", part.values);
                    return Err(KernelError::State { name: part.parameter.to_string(), reason });
                };
                let len = part.values.len();
                let format = if parameter.full_moments {
                    MomentFormat::Single
                } else {
                    options.moments.of(parameter.var.elem_count())
                };
                let values = apart.map_or_else(|| part.of(&parameter.var), Ok)?;
                let moments = match Engine::of(&parameter.var) {
                    Some(_) if options.moments != MomentFormat::Single => return Err(on_device_alone(options.moments)),
                    Some(engine) => Stored::Device(DeviceState::new(engine, &values)?),
                    None => Stored::Host { first: Moment::zeros(format, len), second: Moment::zeros(format, len) },
                };
                Ok(State { part, values, moments })
            })
            .collect::<Result<_>>()?;
        Ok(Self { options, step: 0, parameters, states })
    }

    /// Empty gradients for this optimizer's parameters.
    ///
    /// # Errors
    ///
    /// As for [`Gradients::new`].
    pub fn gradients(&self) -> Result<Gradients> {
        Gradients::new(self.parameters.iter().map(|parameter| (&parameter.name[..], &parameter.var)))
    }

    /// Updates every parameter in place from `gradients`, at `learning_rate` η. All tensors that
    /// share a variable's storage get the new values. The gradients stay as they are.
    ///
    /// # Errors
    ///
    /// [`KernelError::NoGradient`] and [`KernelError::NonFiniteGradient`] name the parameter;
    /// [`KernelError::Option`] for a learning rate that is negative or not finite. Nothing is
    /// updated then.
    pub fn step(&mut self, gradients: &Gradients, learning_rate: f64) -> Result<StepReport> {
        self.step_scaled(gradients, learning_rate, 1.0)
    }

    /// As [`AdamW::step`], for gradients of a loss multiplied by `gradient_scale` (arXiv 1710.03740): they are divided by
    /// it, and the norm reported and clipped is that of the quotients.
    ///
    /// # Errors
    ///
    /// As for [`AdamW::step`]; [`KernelError::Option`] for a scale that is not finite and above 0.
    pub fn step_scaled(
        &mut self,
        gradients: &Gradients,
        learning_rate: f64,
        gradient_scale: f64,
    ) -> Result<StepReport> {
        check_factors(learning_rate, gradient_scale)?;
        let squares = self.squares(gradients)?;
        self.step_of_parts(gradients, learning_rate, gradient_scale, &squares)
    }

    /// Σ g² of each parameter, as far as its parts are of this process.
    ///
    /// # Errors
    ///
    /// [`KernelError::NoGradient`].
    pub fn squares(&self, gradients: &Gradients) -> Result<Vec<f64>> {
        let given = self.states.iter().map(|state| state.gradient(&self.parameters, gradients));
        let given = given.collect::<Result<Vec<_>>>()?;
        let mut all = vec![0.0; self.parameters.len()];
        for (state, square) in self.states.iter().zip(squares(&given)?) {
            all[state.part.parameter] += square;
        }
        Ok(all)
    }

    /// As [`AdamW::step_scaled`] for the parts of this process. `squares` are those of whole parameters: the sums of what
    /// [`AdamW::squares`] gives in each process.
    ///
    /// # Errors
    ///
    /// As for [`AdamW::step_scaled`].
    pub fn step_of_parts(
        &mut self,
        gradients: &Gradients,
        learning_rate: f64,
        gradient_scale: f64,
        squares: &[f64],
    ) -> Result<StepReport> {
        check_factors(learning_rate, gradient_scale)?;
        let given = self.states.iter().map(|state| state.gradient(&self.parameters, gradients));
        let given = given.collect::<Result<Vec<_>>>()?;
        let grad_norm = squares.iter().sum::<f64>().sqrt() / gradient_scale;
        if !grad_norm.is_finite() {
            let first = squares.iter().position(|square| !square.is_finite()).unwrap_or(0);
            let name = self.parameters[first].name.clone();
            return Err(KernelError::NonFiniteGradient { name, norm: grad_norm });
        }
        let clip_scale = match self.options.max_grad_norm {
            Some(limit) if grad_norm > limit => limit / grad_norm,
            _ => 1.0,
        };
        self.step += 1;
        let scale = clip_scale / gradient_scale;
        let mut on_device = vec![];
        for (state, gradient) in self.states.iter_mut().zip(given) {
            let parameter = &self.parameters[state.part.parameter];
            let factors = UpdateFactors::new(self.options, self.step, learning_rate, scale, parameter.decay);
            on_device.extend(state.update(parameter, gradient, factors)?);
        }
        device::adamw::update(&on_device)?;
        Ok(StepReport { step: self.step, grad_norm, clip_scale })
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The parameters, in the order given.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter()
    }

    /// The parts that this process updates.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.states.iter().map(|state| &state.part)
    }

    /// Storage of the moments of a parameter, and true if there is a master copy of it.
    pub fn storage_of(&self, parameter: usize) -> (MomentFormat, bool) {
        let Parameter { var, full_moments, .. } = &self.parameters[parameter];
        let format = if *full_moments { MomentFormat::Single } else { self.options.moments.of(var.elem_count()) };
        (format, Engine::of(var).is_some() && var.dtype() != DType::F32)
    }

    /// The moments of every part, for saving; restored with [`AdamW::restore`].
    pub fn moments(&self) -> impl Iterator<Item = MomentsView<'_>> {
        self.states.iter().map(|state| MomentsView { parameter: &self.parameters[state.part.parameter], state })
    }

    /// The moments of the parts of one parameter, in the order given.
    pub fn moments_of(&self, parameter: usize) -> impl Iterator<Item = MomentsView<'_>> {
        self.moments().filter(move |view| view.part().parameter == parameter)
    }

    /// Appends the values of a part in float32.
    ///
    /// # Errors
    ///
    /// [`KernelError::Candle`] when a copy from a device fails.
    pub fn read_part(&self, part: &Part, values: &mut Vec<f32>) -> Result<()> {
        let own = part.of(&self.parameters[part.parameter].var)?;
        values.extend(own.to_dtype(DType::F32)?.to_vec1::<f32>()?);
        Ok(())
    }

    /// Address of the values of a part, of the parameter's dtype, in the memory of a GPU; `None` in that of the host.
    pub fn address_of(&self, part: &Part) -> Option<u64> {
        let var = &self.parameters[part.parameter].var;
        let size = var.dtype().size_in_bytes() as u64;
        var.device().is_cuda().then(|| start_of(var)).flatten().map(|first| first + size * part.values.start as u64)
    }

    /// Replaces the values of a part: those of another process.
    ///
    /// # Errors
    ///
    /// [`KernelError::Candle`] when a copy to a device fails.
    pub fn write_part(&self, part: &Part, values: &[f32]) -> Result<()> {
        let var = &self.parameters[part.parameter].var;
        let values = Tensor::from_slice(values, values.len(), var.device())?.to_dtype(var.dtype())?;
        Ok(part.of(var)?.slice_set(&values, 0, 0)?)
    }

    /// Resumes from saved moments after `step` steps.
    ///
    /// # Errors
    ///
    /// [`KernelError::State`] if a parameter's moments are missing, come twice, are of another
    /// length, or belong to no parameter. Nothing is changed then.
    pub fn restore(&mut self, step: u64, moments: Vec<Moments>) -> Result<()> {
        let refuse = |name: &str, reason: String| KernelError::State { name: name.to_owned(), reason };
        let mut saved = std::collections::HashMap::new();
        for moment in moments {
            let name = moment.name.clone();
            if saved.insert((name.clone(), moment.start), moment).is_some() {
                return Err(refuse(&name, "given twice".to_owned()));
            }
        }
        for state in &self.states {
            let name = &self.parameters[state.part.parameter].name;
            let len = state.part.values.len();
            match saved.get(&(name.clone(), state.part.values.start)) {
                None => return Err(refuse(name, "missing".to_owned())),
                Some(Moments { master: Some(master), .. }) if master.len() != len => {
                    let got = format!("expected a master copy of {len} elements, got {}", master.len());
                    return Err(refuse(name, got));
                }
                Some(Moments { first, second, .. }) if !first.fits(len) || !second.fits(len) => {
                    let got = format!("{} and {}", first.len(), second.len());
                    return Err(refuse(name, format!("expected {len} elements, got {got}")));
                }
                Some(Moments { first, second, .. }) => {
                    let expected = state.format();
                    if let Some(other) = [first, second].map(Moment::format).into_iter().find(|it| *it != expected) {
                        let (expected, got) = (expected.name(), other.name());
                        return Err(refuse(name, format!("expected moments in {expected}, got {got}")));
                    }
                }
            }
        }
        if saved.len() > self.states.len() {
            let known: Vec<_> = self.parameters().map(|parameter| &parameter.name).collect();
            let mut unknown: Vec<_> = saved.keys().map(|(name, _)| name).filter(|name| !known.contains(name)).collect();
            unknown.sort();
            if let Some(name) = unknown.first() {
                return Err(refuse(name, "belongs to no parameter".to_owned()));
            }
        }
        for state in &mut self.states {
            let parameter = &self.parameters[state.part.parameter];
            if let Some(moments) = saved.remove(&(parameter.name.clone(), state.part.values.start)) {
                state.restore(moments)?;
            }
        }
        self.step = step;
        Ok(())
    }
}

fn check_factors(learning_rate: f64, gradient_scale: f64) -> Result<()> {
    let refuse =
        |option, expected, got: f64| Err(KernelError::Option { op: "adamw", option, expected, got: got.to_string() });
    if !(gradient_scale.is_finite() && gradient_scale > 0.0) {
        return refuse("gradient_scale", "finite and above 0", gradient_scale);
    }
    if !(learning_rate.is_finite() && learning_rate >= 0.0) {
        return refuse("learning_rate", "finite and not negative", learning_rate);
    }
    Ok(())
}

fn on_device_alone(format: MomentFormat) -> KernelError {
    let expected = "float32 on a GPU or in the emulator";
    KernelError::Option { op: "adamw", option: "moments", expected, got: format.name().to_owned() }
}

/// The gradient of a part, on its device.
enum Given<'a> {
    Host(&'a [f32]),
    Device(Tensor),
}

impl State {
    fn format(&self) -> MomentFormat {
        match &self.moments {
            Stored::Host { first, .. } => first.format(),
            Stored::Device(_) => MomentFormat::Single,
        }
    }

    fn gradient<'a>(&self, parameters: &[Parameter], gradients: &'a Gradients) -> Result<Given<'a>> {
        let Parameter { var, name, .. } = &parameters[self.part.parameter];
        if let Some(part) = gradients.part_of(var) {
            return match &self.moments {
                Stored::Host { .. } => Ok(Given::Host(part)),
                Stored::Device(_) => Ok(Given::Device(Tensor::from_slice(part, part.len(), var.device())?)),
            };
        }
        let given = match &self.moments {
            Stored::Host { .. } => gradients.get(var).map(|all| Ok(Given::Host(&all[self.part.values.clone()]))),
            Stored::Device(_) => gradients.on_device(var).map(|all| self.part.of(all).map(Given::Device)),
        };
        given.unwrap_or_else(|| Err(KernelError::NoGradient { name: name.clone() }))
    }

    /// Updates a part in host memory; returns the update of one on a device, to be made with the others.
    fn update<'a>(
        &'a mut self,
        parameter: &Parameter,
        gradient: Given<'_>,
        factors: UpdateFactors,
    ) -> Result<Option<DeviceUpdate<'a>>> {
        match (&mut self.moments, gradient) {
            (Stored::Host { first, second }, Given::Host(gradient)) => {
                let (first, second) = (first.shared(), second.shared());
                let start = self.part.values.start;
                let update = Update { factors, gradient, first, second, start };
                self.values.inplace_op1(&InPlace(update))?;
                Ok(None)
            }
            (Stored::Device(state), Given::Device(gradient)) => {
                Ok(Some(DeviceUpdate { state, parameter: self.values.clone(), gradient, factors }))
            }
            // `State::gradient` returns the gradient on the moments' device.
            _ => Err(KernelError::NoGradient { name: parameter.name.clone() }),
        }
    }

    fn restore(&mut self, saved: Moments) -> Result<()> {
        match &mut self.moments {
            Stored::Host { first, second } => (*first, *second) = (saved.first, saved.second),
            Stored::Device(state) => {
                // `AdamW::restore` checked that they are float32.
                if let (Moment::Single(first), Moment::Single(second)) = (saved.first, saved.second) {
                    state.restore(&self.values, first.into_owned(), second.into_owned(), saved.master)?;
                }
            }
        }
        Ok(())
    }
}

/// Σ g² of each gradient; of those on a device in one transfer.
fn squares(given: &[Given<'_>]) -> Result<Vec<f64>> {
    let on_device: Vec<&Tensor> = given
        .iter()
        .filter_map(|given| match given {
            Given::Host(_) => None,
            Given::Device(gradient) => Some(gradient),
        })
        .collect();
    let sums = match on_device.first().and_then(|gradient| Engine::of(gradient)) {
        Some(engine) => sums_of_squares(&engine, &on_device)?,
        None => Vec::new(),
    };
    let mut sums = sums.into_iter();
    let square = |given: &Given<'_>| match given {
        Given::Host(gradient) => sum_of_squares(gradient),
        Given::Device(_) => sums.next().unwrap_or(f64::NAN),
    };
    Ok(given.iter().map(square).collect())
}

/// The update of a part, under candle's write lock on its parameter's storage.
struct InPlace<'a>(Update<'a>);

impl InplaceOp1 for InPlace<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("adamw: expected a contiguous float32 variable, got {layout:?}");
        };
        // SAFETY: the moments are exclusive to `AdamW::step_scaled`, which waits for the update.
        unsafe { self.0.run(&mut values[start..end]) };
        Ok(())
    }
}
