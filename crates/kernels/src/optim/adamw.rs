//! AdamW in one pass over each parameter, on a device in one launch for all.
//!
//! Loshchilov and Hutter, arXiv 1711.05101: with bias-corrected moments m̂ and v̂ of the gradient,
//! θ ← θ − η·(m̂ / (√v̂ + ε) + λ·θ). Gradients are clipped by their global norm without a scaled
//! copy. Moments are float32 and can be saved and restored. A bfloat16 or float16 parameter, which only devices have,
//! also has a float32 master copy: updates smaller than its rounding would be lost (arXiv 1710.03740).

use super::moment::Moment;
use crate::autograd::Gradients;
use crate::cpu::adamw::{Update, sum_of_squares};
use crate::device::adamw::{DeviceState, Update as DeviceUpdate, sums_of_squares};
use crate::device::{self, Engine};
use crate::error::{KernelError, Result};
use crate::options::{AdamWOptions, MomentFormat, UpdateFactors};
use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor, Var};

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

/// A parameter's moments, for saving: borrowed, or copied from a device.
#[derive(Clone, Debug)]
pub struct MomentsView<'a> {
    /// The parameter.
    pub name: &'a str,
    /// Its dimensions.
    pub shape: &'a [usize],
    /// First moment m.
    pub first: Moment<'a>,
    /// Second moment v.
    pub second: Moment<'a>,
    /// The master copy in float32 of a bfloat16 or float16 parameter.
    pub master: Option<Vec<f32>>,
}

/// A parameter's moments, to be restored.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// The parameter.
    pub name: String,
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
    states: Vec<State>,
}

#[derive(Debug)]
struct State {
    parameter: Parameter,
    moments: Stored,
}

/// A parameter's moments, on its device.
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
        options.check()?;
        // The same refusals: twice the same parameter, not float32, not in host memory.
        Gradients::new(parameters.iter().map(|parameter| (&parameter.name[..], &parameter.var)))?;
        let states = parameters
            .into_iter()
            .map(|parameter| {
                let len = parameter.var.elem_count();
                let format = if parameter.full_moments { MomentFormat::Single } else { options.moments.of(len) };
                let moments = match Engine::of(&parameter.var) {
                    Some(_) if options.moments != MomentFormat::Single => return Err(on_device_alone(options.moments)),
                    Some(engine) => Stored::Device(DeviceState::new(engine, &parameter.var)?),
                    None => Stored::Host { first: Moment::zeros(format, len), second: Moment::zeros(format, len) },
                };
                Ok(State { parameter, moments })
            })
            .collect::<Result<_>>()?;
        Ok(Self { options, step: 0, states })
    }

    /// Empty gradients for this optimizer's parameters.
    ///
    /// # Errors
    ///
    /// As for [`Gradients::new`].
    pub fn gradients(&self) -> Result<Gradients> {
        Gradients::new(self.states.iter().map(|state| (&state.parameter.name[..], &state.parameter.var)))
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
        let refuse =
            |option, expected, got: f64| KernelError::Option { op: "adamw", option, expected, got: got.to_string() };
        if !(gradient_scale.is_finite() && gradient_scale > 0.0) {
            return Err(refuse("gradient_scale", "finite and above 0", gradient_scale));
        }
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            return Err(refuse("learning_rate", "finite and not negative", learning_rate));
        }
        let given = self.states.iter().map(|state| state.gradient(gradients)).collect::<Result<Vec<_>>>()?;
        let squares = squares(&given)?;
        let grad_norm = squares.iter().sum::<f64>().sqrt() / gradient_scale;
        if !grad_norm.is_finite() {
            let first = squares.iter().position(|square| !square.is_finite()).unwrap_or(0);
            let name = self.states[first].parameter.name.clone();
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
            let factors = UpdateFactors::new(self.options, self.step, learning_rate, scale, state.parameter.decay);
            on_device.extend(state.update(gradient, factors)?);
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
        self.states.iter().map(|state| &state.parameter)
    }

    /// The moments of every parameter, for saving; restored with [`AdamW::restore`].
    ///
    /// # Errors
    ///
    /// Of an item: [`KernelError::Candle`] when a copy of moments from a device fails.
    pub fn moments(&self) -> impl Iterator<Item = Result<MomentsView<'_>>> {
        self.states.iter().map(State::view)
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
            if saved.insert(name.clone(), moment).is_some() {
                return Err(refuse(&name, "given twice".to_owned()));
            }
        }
        for state in &self.states {
            let name = &state.parameter.name;
            let len = state.parameter.var.elem_count();
            match saved.get(name) {
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
            let mut unknown: Vec<_> = saved.keys().filter(|name| !known.contains(name)).collect();
            unknown.sort();
            if let Some(name) = unknown.first() {
                return Err(refuse(name, "belongs to no parameter".to_owned()));
            }
        }
        for state in &mut self.states {
            if let Some(moments) = saved.remove(&state.parameter.name) {
                state.restore(moments)?;
            }
        }
        self.step = step;
        Ok(())
    }
}

fn on_device_alone(format: MomentFormat) -> KernelError {
    let expected = "float32 on a GPU or in the emulator";
    KernelError::Option { op: "adamw", option: "moments", expected, got: format.name().to_owned() }
}

/// A parameter's gradient, on its device.
#[derive(Clone, Copy)]
enum Given<'a> {
    Host(&'a [f32]),
    Device(&'a Tensor),
}

impl State {
    fn format(&self) -> MomentFormat {
        match &self.moments {
            Stored::Host { first, .. } => first.format(),
            Stored::Device(_) => MomentFormat::Single,
        }
    }

    fn gradient<'a>(&self, gradients: &'a Gradients) -> Result<Given<'a>> {
        let var = &self.parameter.var;
        let given = match &self.moments {
            Stored::Host { .. } => gradients.get(var).map(Given::Host),
            Stored::Device(_) => gradients.on_device(var).map(Given::Device),
        };
        given.ok_or_else(|| KernelError::NoGradient { name: self.parameter.name.clone() })
    }

    /// Updates a parameter in host memory; returns the update of one on a device, to be made with the others.
    fn update<'a>(&'a mut self, gradient: Given<'a>, factors: UpdateFactors) -> Result<Option<DeviceUpdate<'a>>> {
        match (&mut self.moments, gradient) {
            (Stored::Host { first, second }, Given::Host(gradient)) => {
                let (first, second) = (first.shared(), second.shared());
                self.parameter.var.inplace_op1(&InPlace(Update { factors, gradient, first, second }))?;
                Ok(None)
            }
            (Stored::Device(state), Given::Device(gradient)) => {
                Ok(Some(DeviceUpdate { state, parameter: &self.parameter.var, gradient, factors }))
            }
            // `State::gradient` returns the gradient on the moments' device.
            _ => Err(KernelError::NoGradient { name: self.parameter.name.clone() }),
        }
    }

    fn view(&self) -> Result<MomentsView<'_>> {
        let (first, second, master) = match &self.moments {
            Stored::Host { first, second } => (first.borrowed(), second.borrowed(), None),
            Stored::Device(state) => {
                let host = |tensor: &Tensor| tensor.flatten_all()?.to_vec1();
                let master = state.master.as_ref().map(host).transpose()?;
                let moment = |tensor: &Tensor| Ok::<_, KernelError>(Moment::Single(host(tensor)?.into()));
                (moment(&state.first)?, moment(&state.second)?, master)
            }
        };
        Ok(MomentsView { name: &self.parameter.name, shape: self.parameter.var.dims(), first, second, master })
    }

    fn restore(&mut self, saved: Moments) -> Result<()> {
        match &mut self.moments {
            Stored::Host { first, second } => (*first, *second) = (saved.first, saved.second),
            Stored::Device(state) => {
                // `AdamW::restore` checked that they are float32.
                if let (Moment::Single(first), Moment::Single(second)) = (saved.first, saved.second) {
                    state.restore(&self.parameter.var, first.into_owned(), second.into_owned(), saved.master)?;
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
            Given::Device(gradient) => Some(*gradient),
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

/// One parameter's update, under candle's write lock on its storage.
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
