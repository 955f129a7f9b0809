//! The optimizer against the formula in float64.

use crate::comparison::{Source, assert_close, flat};
use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;
use smpo_kernels::{AdamW, AdamWOptions, KernelError, Moment, Moments, Parameter, Tape, emulate, weighted_sum};

/// arXiv 1711.05101, algorithm 2, as written.
struct Naive {
    options: AdamWOptions,
    step: i32,
    moments: Vec<(Vec<f64>, Vec<f64>)>,
}

impl Naive {
    fn step(&mut self, values: &mut [Vec<f64>], gradients: &[Vec<f64>], decays: &[bool], rate: f64) {
        let AdamWOptions { beta1, beta2, eps, weight_decay, max_grad_norm, .. } = self.options;
        self.step += 1;
        let norm = gradients.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let clip = max_grad_norm.map_or(1.0, |limit| (limit / norm).min(1.0));
        for (index, values) in values.iter_mut().enumerate() {
            let (first, second) = &mut self.moments[index];
            for i in 0..values.len() {
                let g = gradients[index][i] * clip;
                first[i] = beta1 * first[i] + (1.0 - beta1) * g;
                second[i] = beta2 * second[i] + (1.0 - beta2) * g * g;
                let m = first[i] / (1.0 - beta1.powi(self.step));
                let v = second[i] / (1.0 - beta2.powi(self.step));
                let decay = if decays[index] { weight_decay } else { 0.0 };
                values[i] -= rate * (m / (v.sqrt() + eps) + decay * values[i]);
            }
        }
    }
}

/// A loss whose gradient is `direction`.
fn root(parameters: &[Var], directions: &[Tensor]) -> Tensor {
    parameters
        .iter()
        .zip(directions)
        .map(|(parameter, direction)| smpo_kernels::weighted_sum(parameter, direction).unwrap())
        .reduce(|a, b| (a + b).unwrap())
        .unwrap()
}

fn parameters(vars: &[Var]) -> Vec<Parameter> {
    vars.iter()
        .enumerate()
        .map(|(index, var)| Parameter {
            name: format!("p{index}"),
            var: var.clone(),
            decay: index % 2 == 0,
            full_moments: false,
        })
        .collect()
}

fn wide(tensor: &Tensor) -> Vec<f64> {
    flat(tensor).into_iter().map(f64::from).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn steps_follow_the_formula(
        seed: u64,
        sizes in prop::collection::vec(prop_oneof![1..60usize, 500..1500usize], 1..4),
        steps in 1..8usize,
        // Elements that have a gradient only in some of the steps: rows of an embedding.
        (asleep, until) in (0..900usize, 0..8usize),
        weight_decay in 0.0..0.2f64,
        max_grad_norm in prop::option::of(0.1..5f64),
    ) {
        let options = AdamWOptions { weight_decay, max_grad_norm, ..AdamWOptions::default() };
        let mut source = Source::new(seed);
        let vars: Vec<Var> = sizes.iter().map(|&size| source.var(&[size])).collect();
        let mut values: Vec<Vec<f64>> = vars.iter().map(|var| wide(var)).collect();
        let mut naive = Naive {
            options,
            step: 0,
            moments: sizes.iter().map(|&size| (vec![0.0; size], vec![0.0; size])).collect(),
        };
        let decays: Vec<bool> = (0..sizes.len()).map(|index| index % 2 == 0).collect();
        let mut adamw = AdamW::new(parameters(&vars), options)?;
        let mut gradients = adamw.gradients()?;
        for step in 0..steps {
            let mut direction = |size: usize| {
                let mut values = flat(&source.tensor(&[size]));
                if step < until {
                    values.iter_mut().skip(asleep).take(600).for_each(|value| *value = 0.0);
                }
                Tensor::from_vec(values, size, &Device::Cpu)
            };
            let directions = sizes.iter().map(|&size| direction(size)).collect::<Result<Vec<Tensor>, _>>()?;
            gradients.clear();
            gradients.backward(&root(&vars, &directions))?;
            let report = adamw.step(&gradients, 0.01)?;
            let wide_directions: Vec<Vec<f64>> = directions.iter().map(wide).collect();
            naive.step(&mut values, &wide_directions, &decays, 0.01);
            let norm = wide_directions.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
            prop_assert!((report.grad_norm - norm).abs() <= 1e-5 * norm);
        }
        for (var, want) in vars.iter().zip(&values) {
            let want: Vec<f32> = want.iter().map(|&value| value as f32).collect();
            assert_close("parameter", &flat(var), &want, 1e-5);
        }
    }
}

#[test]
fn saved_state_goes_on_bit_equal() {
    let options = AdamWOptions { weight_decay: 0.1, ..AdamWOptions::default() };
    let mut source = Source::new(1);
    let vars = [source.var(&[7, 3]), source.var(&[5])];
    let directions: Vec<Vec<Tensor>> = (0..6).map(|_| vec![source.tensor(&[7, 3]), source.tensor(&[5])]).collect();
    let mut adamw = AdamW::new(parameters(&vars), options).unwrap();
    let mut gradients = adamw.gradients().unwrap();
    let mut go = |adamw: &mut AdamW, directions: &[Vec<Tensor>]| {
        for directions in directions {
            gradients.clear();
            gradients.backward(&root(&vars, directions)).unwrap();
            adamw.step(&gradients, 1e-3).unwrap();
        }
        vars.iter().map(|var| flat(var)).collect::<Vec<_>>()
    };
    go(&mut adamw, &directions[..3]);
    let saved_values: Vec<Tensor> = vars.iter().map(|var| var.copy().unwrap().detach()).collect();
    let saved: Vec<Moments> = adamw
        .moments()
        .map(|view| Moments {
            name: view.name().to_owned(),
            start: 0,
            first: view.first().unwrap().into_owned(),
            second: view.second().unwrap().into_owned(),
            master: None,
        })
        .collect();
    assert_eq!(adamw.moments().next().unwrap().shape(), [7, 3]);
    let straight = go(&mut adamw, &directions[3..]);
    for (var, value) in vars.iter().zip(&saved_values) {
        var.set(value).unwrap();
    }
    let mut resumed = AdamW::new(parameters(&vars), options).unwrap();
    resumed.restore(3, saved.clone()).unwrap();
    assert_eq!(go(&mut resumed, &directions[3..]), straight);
    assert_eq!(resumed.steps(), 6);

    let refused = |moments: Vec<Moments>| {
        AdamW::new(parameters(&vars), options).unwrap().restore(3, moments).unwrap_err().to_string()
    };
    assert_eq!(refused(saved[..1].to_vec()), "adamw: saved state of `p1`: missing");
    let mut short = saved.clone();
    short[0].second = Moment::Single(vec![0.0; 20].into());
    assert!(refused(short).contains("expected 21 elements, got 21 and 20"));
    let mut extra = saved.clone();
    extra.push(Moments {
        name: "q".to_owned(),
        start: 0,
        first: Moment::Single(vec![].into()),
        second: Moment::Single(vec![].into()),
        master: None,
    });
    assert!(refused(extra).contains("`q`: belongs to no parameter"));
}

#[test]
fn a_parameter_without_gradient_is_named() {
    let mut source = Source::new(2);
    let vars = [source.var(&[3]), source.var(&[4])];
    let before = flat(&vars[0]);
    let mut adamw = AdamW::new(parameters(&vars), AdamWOptions::default()).unwrap();
    let mut gradients = adamw.gradients().unwrap();
    gradients.backward(&vars[0].sum_all().unwrap()).unwrap();
    let error = adamw.step(&gradients, 0.1).unwrap_err();
    assert!(matches!(&error, KernelError::NoGradient { name } if name == "p1"), "{error}");
    assert_eq!(flat(&vars[0]), before);
    assert_eq!(adamw.steps(), 0);
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    let mut source = Source::new(3);
    let vars = [source.var(&[3]), source.var(&[4])];
    let before = flat(&vars[0]);
    let mut adamw = AdamW::new(parameters(&vars), AdamWOptions::default()).unwrap();
    let mut gradients = adamw.gradients().unwrap();
    let directions = [source.tensor(&[3]), (source.tensor(&[4]) * f64::NAN).unwrap()];
    gradients.backward(&root(&vars, &directions)).unwrap();
    let error = adamw.step(&gradients, 0.1).unwrap_err();
    assert!(matches!(&error, KernelError::NonFiniteGradient { name, .. } if name == "p1"), "{error}");
    assert_eq!(flat(&vars[0]), before);
}

#[test]
fn unfit_options_are_refused() {
    let refused = |options| AdamW::new(vec![], options).unwrap_err().to_string();
    let base = AdamWOptions::default();
    assert!(refused(AdamWOptions { beta1: 1.0, ..base }).contains("`beta1`"));
    assert!(refused(AdamWOptions { beta2: -0.1, ..base }).contains("`beta2`"));
    assert!(refused(AdamWOptions { eps: 0.0, ..base }).contains("`eps`"));
    assert!(refused(AdamWOptions { weight_decay: f64::NAN, ..base }).contains("`weight_decay`"));
    assert!(refused(AdamWOptions { max_grad_norm: Some(0.0), ..base }).contains("`max_grad_norm`"));
    let mut source = Source::new(4);
    let var = source.var(&[2]);
    let twice = AdamW::new(parameters(&[var.clone(), var]), base).unwrap_err();
    assert!(twice.to_string().contains("given twice"));
}

/// Values of parameters on an emulated device after two steps, each parameter in its dtype.
fn stepped(dtypes: &[(usize, DType)], only: Option<usize>) -> Vec<Vec<f32>> {
    let mut source = Source::new(9);
    let vars: Vec<Var> = dtypes
        .iter()
        .map(|(size, dtype)| Var::from_tensor(&source.tensor(&[*size]).to_dtype(*dtype).unwrap()).unwrap())
        .collect();
    let chosen = |index: usize| only.is_none_or(|only| only == index);
    let parameters = parameters(&vars).into_iter().enumerate().filter(|(index, _)| chosen(*index));
    let options = AdamWOptions { weight_decay: 0.1, ..AdamWOptions::default() };
    let mut adamw = AdamW::new(parameters.map(|(_, parameter)| parameter).collect(), options).unwrap();
    for step in 0..2 {
        let mut gradients = adamw.gradients().unwrap();
        for (index, var) in vars.iter().enumerate().filter(|(index, _)| chosen(*index)) {
            let direction = Source::new(100 * step + index as u64).tensor(var.dims()).to_dtype(var.dtype()).unwrap();
            let (tape, sum) = Tape::record(|| weighted_sum(var, &direction));
            tape.backward(&sum.unwrap(), &Tensor::new(1f32, &Device::Cpu).unwrap(), &mut gradients).unwrap();
        }
        adamw.step(&gradients, 0.01).unwrap();
    }
    vars.iter().map(|var| flat(&var.to_dtype(DType::F32).unwrap())).collect()
}

#[test]
fn on_a_device_many_parameters_step_as_each_would_alone() {
    // A block updates 2,048 values of one parameter.
    let dtypes = [
        (5, DType::F32),
        (2049, DType::BF16),
        (3, DType::F16),
        (2048, DType::F32),
        (0, DType::F32),
        (5000, DType::BF16),
        (1, DType::F32),
    ];
    let together = emulate(|| stepped(&dtypes, None));
    for (index, values) in together.iter().enumerate() {
        assert_eq!(*values, emulate(|| stepped(&dtypes, Some(index)))[index], "parameter {index}");
    }
}
