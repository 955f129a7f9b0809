//! AdamW in one pass over each parameter.
//!
//! Loshchilov and Hutter, arXiv 1711.05101: with bias-corrected moments m̂ and v̂ of the gradient,
//! θ ← θ − η·(m̂ / (√v̂ + ε) + λ·θ). Gradients are clipped by their global norm on the way, without
//! a scaled copy. Moments are float32 and can be saved and put back. A parameter of fewer bits, which only a device has,
//! also has a float32 master copy: updates smaller than its rounding would be lost (arXiv 1710.03740).

use crate::device::{DeviceState, engine, sums_of_squares};
use crate::error::{KernelError, Result};
use crate::gradients::Gradients;
use crate::parallel::{Shared, tasks};
use crate::simd::{fma, simd};
use crate::untouched::{BLOCK, all_zero};
use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor, Var};
use std::borrow::Cow;

/// Elements of one piece of work; also the granularity of the norm's partial sums.
const PIECE: usize = 1 << 14;

/// Constants of the update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the first moment, β₁.
    pub beta1: f64,
    /// Decay of the second moment, β₂.
    pub beta2: f64,
    /// ε in the denominator.
    pub eps: f64,
    /// Decoupled decay λ, for the parameters that take part.
    pub weight_decay: f64,
    /// Scale all gradients down together where their norm exceeds this.
    pub max_grad_norm: Option<f64>,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, max_grad_norm: None }
    }
}

/// One parameter to update.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Names it in errors and saved state.
    pub name: String,
    /// The variable, contiguous: float32, or on a device also bfloat16 or float16.
    pub var: Var,
    /// Whether weight decay applies: usually not to norms and biases.
    pub decay: bool,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps taken so far, this one included.
    pub step: u64,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// What clipping multiplied the gradients by; 1 without.
    pub clip_scale: f64,
}

/// A parameter's moments, for saving: borrowed, or copied from a device.
#[derive(Clone, Debug)]
pub struct MomentsView<'a> {
    /// The parameter.
    pub name: &'a str,
    /// Its dimensions.
    pub shape: &'a [usize],
    /// First moment m, row-major.
    pub first: Cow<'a, [f32]>,
    /// Second moment v, row-major.
    pub second: Cow<'a, [f32]>,
    /// The parameter in float32, where it has fewer bits itself.
    pub master: Option<Vec<f32>>,
}

/// A parameter's moments, to be put back.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// The parameter.
    pub name: String,
    /// First moment m, row-major.
    pub first: Vec<f32>,
    /// Second moment v, row-major.
    pub second: Vec<f32>,
    /// The parameter in float32, where it has fewer bits itself. Without it the parameter's own values are taken.
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

/// Where a parameter's moments lie: beside it.
#[derive(Debug)]
enum Stored {
    Host { first: Vec<f32>, second: Vec<f32> },
    Device(DeviceState),
}

impl AdamW {
    /// Zero moments for `parameters`.
    ///
    /// # Errors
    ///
    /// [`KernelError::Option`] for a β outside [0, 1), an ε or a norm limit that is not positive, or
    /// a negative decay; otherwise as for [`Gradients::new`].
    pub fn new(parameters: Vec<Parameter>, options: AdamWOptions) -> Result<Self> {
        check(options)?;
        // The same refusals: twice the same parameter, not float32, not in host memory.
        Gradients::new(parameters.iter().map(|parameter| (&parameter.name[..], &parameter.var)))?;
        let states = parameters
            .into_iter()
            .map(|parameter| {
                let len = parameter.var.elem_count();
                let moments = match engine(&parameter.var) {
                    Some(engine) => Stored::Device(DeviceState::new(engine, &parameter.var)?),
                    None => Stored::Host { first: vec![0.0; len], second: vec![0.0; len] },
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
    /// share a variable's storage see the new values. The gradients stay as they are.
    ///
    /// # Errors
    ///
    /// [`KernelError::NoGradient`] and [`KernelError::NonFiniteGradient`] name the parameter;
    /// [`KernelError::Option`] for a learning rate that is negative or not finite. Nothing is
    /// updated then.
    pub fn step(&mut self, gradients: &Gradients, learning_rate: f64) -> Result<StepReport> {
        self.step_scaled(gradients, learning_rate, 1.0)
    }

    /// As [`AdamW::step`], for gradients that are `gradient_scale` times as large as they should be: those of a scaled
    /// loss (arXiv 1710.03740). They are divided on the way, and the norm reported and clipped is that of the quotients.
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
        if !(gradient_scale.is_finite() && gradient_scale > 0.0) {
            return Err(option("gradient_scale", "finite and above 0", gradient_scale));
        }
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            return Err(option("learning_rate", "finite and not negative", learning_rate));
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
        for (state, gradient) in self.states.iter_mut().zip(given) {
            let factors = Factors::new(self.options, self.step, learning_rate, scale, state.parameter.decay);
            state.update(gradient, factors)?;
        }
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

    /// The moments of every parameter, for saving; put back with [`AdamW::restore`].
    ///
    /// # Errors
    ///
    /// Of an item: what a device refuses when its moments are copied to the host.
    pub fn moments(&self) -> impl Iterator<Item = Result<MomentsView<'_>>> {
        self.states.iter().map(State::view)
    }

    /// Goes on from saved moments after `step` steps.
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
                Some(Moments { first, second, .. }) if first.len() != len || second.len() != len => {
                    let got = format!("{} and {}", first.len(), second.len());
                    return Err(refuse(name, format!("expected {len} elements, got {got}")));
                }
                Some(_) => {}
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

/// A parameter's gradient, where the parameter lies.
#[derive(Clone, Copy)]
enum Given<'a> {
    Host(&'a [f32]),
    Device(&'a Tensor),
}

impl State {
    fn gradient<'a>(&self, gradients: &'a Gradients) -> Result<Given<'a>> {
        let var = &self.parameter.var;
        let given = match &self.moments {
            Stored::Host { .. } => gradients.get(var).map(Given::Host),
            Stored::Device(_) => gradients.on_device(var).map(Given::Device),
        };
        given.ok_or_else(|| KernelError::NoGradient { name: self.parameter.name.clone() })
    }

    fn update(&mut self, gradient: Given<'_>, factors: Factors) -> Result<()> {
        match (&mut self.moments, gradient) {
            (Stored::Host { first, second }, Given::Host(gradient)) => {
                let (first, second) = (Shared::new(first), Shared::new(second));
                self.parameter.var.inplace_op1(&Update { factors, gradient, first, second })?;
                Ok(())
            }
            (Stored::Device(state), Given::Device(gradient)) => state.update(&self.parameter.var, gradient, factors),
            // `State::gradient` gives what lies beside the moments.
            _ => Err(KernelError::NoGradient { name: self.parameter.name.clone() }),
        }
    }

    fn view(&self) -> Result<MomentsView<'_>> {
        let (first, second, master) = match &self.moments {
            Stored::Host { first, second } => (Cow::Borrowed(&first[..]), Cow::Borrowed(&second[..]), None),
            Stored::Device(state) => {
                let host = |tensor: &Tensor| tensor.flatten_all()?.to_vec1();
                let master = state.master.as_ref().map(host).transpose()?;
                (Cow::Owned(host(&state.first)?), Cow::Owned(host(&state.second)?), master)
            }
        };
        Ok(MomentsView { name: &self.parameter.name, shape: self.parameter.var.dims(), first, second, master })
    }

    fn restore(&mut self, saved: Moments) -> Result<()> {
        match &mut self.moments {
            Stored::Host { first, second } => (*first, *second) = (saved.first, saved.second),
            Stored::Device(state) => state.restore(&self.parameter.var, saved.first, saved.second, saved.master)?,
        }
        Ok(())
    }
}

/// Σ g² of each gradient: of those on a device in one go.
fn squares(given: &[Given<'_>]) -> Result<Vec<f64>> {
    let on_device: Vec<&Tensor> = given
        .iter()
        .filter_map(|given| match given {
            Given::Host(_) => None,
            Given::Device(gradient) => Some(*gradient),
        })
        .collect();
    let sums = match on_device.first().and_then(|gradient| engine(gradient)) {
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

fn option(option: &'static str, expected: &'static str, got: f64) -> KernelError {
    KernelError::Option { op: "adamw", option, expected, got: got.to_string() }
}

fn check(options: AdamWOptions) -> Result<()> {
    for (name, beta) in [("beta1", options.beta1), ("beta2", options.beta2)] {
        if !(0.0..1.0).contains(&beta) {
            return Err(option(name, "at least 0 and below 1", beta));
        }
    }
    if !(options.eps.is_finite() && options.eps > 0.0) {
        return Err(option("eps", "finite and above 0", options.eps));
    }
    if !(options.weight_decay.is_finite() && options.weight_decay >= 0.0) {
        return Err(option("weight_decay", "finite and not negative", options.weight_decay));
    }
    match options.max_grad_norm {
        Some(limit) if !(limit.is_finite() && limit > 0.0) => Err(option("max_grad_norm", "finite and above 0", limit)),
        _ => Ok(()),
    }
}

/// The update's constants at one step, in float32.
#[derive(Clone, Copy)]
pub(crate) struct Factors {
    pub(crate) clip: f32,
    pub(crate) beta1: f32,
    pub(crate) one_minus_beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) one_minus_beta2: f32,
    /// 1 / √(1 − β₂ᵗ).
    pub(crate) second_correction: f32,
    pub(crate) eps: f32,
    /// η / (1 − β₁ᵗ).
    pub(crate) rate: f32,
    /// 1 − η·λ.
    pub(crate) keep: f32,
}

impl Factors {
    fn new(options: AdamWOptions, step: u64, learning_rate: f64, clip: f64, decay: bool) -> Self {
        let AdamWOptions { beta1, beta2, eps, weight_decay, .. } = options;
        let decay = if decay { weight_decay } else { 0.0 };
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        Self {
            clip: clip as f32,
            beta1: beta1 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            second_correction: correction(beta2).sqrt().recip() as f32,
            eps: eps as f32,
            rate: (learning_rate / correction(beta1)) as f32,
            keep: (1.0 - learning_rate * decay) as f32,
        }
    }
}

/// One parameter's update, under candle's write lock on its storage.
struct Update<'a> {
    factors: Factors,
    gradient: &'a [f32],
    first: Shared,
    second: Shared,
}

impl InplaceOp1 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("adamw: expected a contiguous float32 variable, got {layout:?}");
        };
        let values = &mut values[start..end];
        let len = values.len();
        let parameter = Shared::new(values);
        tasks(len.div_ceil(PIECE), 4 * len, |index| {
            let start = index * PIECE;
            let n = PIECE.min(len - start);
            // SAFETY: this piece belongs to this task alone; the moments are exclusive to `step`.
            let (parameter, first, second) =
                unsafe { (parameter.slice(start, n), self.first.slice(start, n), self.second.slice(start, n)) };
            let gradient = &self.gradient[start..start + n];
            for start in (0..n).step_by(BLOCK) {
                let block = start..n.min(start + BLOCK);
                let (gradient, parameter) = (&gradient[block.clone()], &mut parameter[block.clone()]);
                let (first, second) = (&mut first[block.clone()], &mut second[block]);
                if all_zero(second) && all_zero(first) && all_zero(gradient) {
                    decay(self.factors, parameter);
                } else {
                    update(self.factors, gradient, parameter, first, second);
                }
            }
        });
        Ok(())
    }
}

/// Float64 over fixed pieces, so it does not depend on the threads.
fn sum_of_squares(values: &[f32]) -> f64 {
    let pieces = values.len().div_ceil(PIECE);
    let mut partial = vec![0f32; pieces];
    let shared = Shared::new(&mut partial);
    tasks(pieces, values.len(), |index| {
        let piece = &values[index * PIECE..((index + 1) * PIECE).min(values.len())];
        // SAFETY: this element belongs to this task alone.
        let out = unsafe { shared.slice(index, 1) };
        out[0] = crate::simd::dot(piece, piece);
    });
    partial.into_iter().map(f64::from).sum()
}

/// What [`update`] comes to where gradient and moments are zero. It leaves them alone, see [`crate::untouched`].
fn decay(factors: Factors, parameter: &mut [f32]) {
    if factors.keep != 1.0 {
        parameter.iter_mut().for_each(|value| *value *= factors.keep);
    }
}

simd! {
    fn update(
        factors: Factors,
        gradient: &[f32],
        parameter: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let len = gradient.len();
        let (parameter, first, second) = (&mut parameter[..len], &mut first[..len], &mut second[..len]);
        for i in 0..len {
            let g = gradient[i] * factors.clip;
            let m = fma::<FMA>(first[i], factors.beta1, factors.one_minus_beta1 * g);
            let v = fma::<FMA>(second[i], factors.beta2, factors.one_minus_beta2 * g * g);
            first[i] = m;
            second[i] = v;
            let denominator = fma::<FMA>(v.sqrt(), factors.second_correction, factors.eps);
            parameter[i] = fma::<FMA>(parameter[i], factors.keep, -(factors.rate * m / denominator));
        }
    }
}
