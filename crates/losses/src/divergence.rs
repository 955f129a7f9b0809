//! Divergences of a student's distribution from a teacher's at one place, with their gradients by the student's logits.
//!
//! They are functions of all logits of a row and not of one log-prob: [`objective`](crate::objective) does not see them. Like
//! everything here they are pure, and float64 inside.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::logistic::MAX_EXPONENT;
use crate::vector::exp;

/// The divergence of a student's distribution p from a teacher's q, both softmaxes of logits over τ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Divergence {
    /// τ²·Σ q·(log q − log p) (Hinton et al. 2015, arXiv 1503.02531): p covers all that q does.
    #[default]
    ForwardKl,
    /// τ²·Σ p·(log p − log q) (MiniLLM, arXiv 2306.08543): p keeps to what q finds likely.
    ReverseKl,
    /// β·Σ q·log(q/m) + (1 − β)·Σ p·log(p/m) with m = β·q + (1 − β)·p (GKD, arXiv 2306.13649); ½ is Jensen and Shannon's.
    JensenShannon,
    /// −Σ q·log p: forward KL and the teacher's entropy.
    SoftCrossEntropy,
    /// (1 − e^(−q_y/p_y))·(−Σ q·log p), y the token of the data: little where the student finds y likelier than the teacher does.
    Slim,
}

/// A divergence with its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// The divergence.
    pub divergence: Divergence,
    /// τ > 0.
    pub temperature: f64,
    /// β in (0, 1), of [`Divergence::JensenShannon`].
    pub mixture: f64,
}

/// One row: its divergence, and what the student makes of the token of the data.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RowTerms {
    /// The divergence.
    pub divergence: f64,
    /// ℓ of the token of the data under the student, at τ = 1.
    pub logp: f64,
    /// True if both find the same token the likeliest.
    pub agrees: bool,
}

/// Weights of the parts of a row in the objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowWeights {
    /// That of the divergence.
    pub divergence: f64,
    /// That of −ℓ of the token of the data.
    pub nll: f64,
}

/// log softmax of logits over τ.
fn log_softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |largest, logit| largest.max(*logit));
    let mut scaled: Vec<f64> =
        logits.iter().map(|logit| (f64::from(*logit) - f64::from(largest)) / temperature).collect();
    let sum: f64 = scaled.iter().map(|value| exp(*value)).sum();
    let log_sum = sum.ln();
    scaled.iter_mut().for_each(|value| *value -= log_sum);
    scaled
}

fn likeliest(logits: &[f32]) -> usize {
    let better = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
    (1..logits.len()).fold(0, better)
}

impl Distance {
    /// The terms of one row, and in place of the student's logits the gradient of the weighted sum of both by them. `teacher`
    /// has as many logits as the student, and `label` is one of their indices.
    pub fn row(&self, student: &mut [f32], teacher: &[f32], label: usize, weights: RowWeights) -> RowTerms {
        let agrees = likeliest(student) == likeliest(teacher);
        let own = log_softmax(student, 1.0);
        let softened = if self.temperature == 1.0 { own.clone() } else { log_softmax(student, self.temperature) };
        let target = log_softmax(teacher, self.temperature);
        let (divergence, gradient) = self.of(&softened, &target, label);
        for (at, (slot, gradient)) in student.iter_mut().zip(gradient).enumerate() {
            let hard = exp(own[at]) - if at == label { 1.0 } else { 0.0 };
            *slot = (weights.divergence * gradient / self.temperature + weights.nll * hard) as f32;
        }
        RowTerms { divergence, logp: own[label], agrees }
    }

    /// The divergence of log p from log q, and its gradient by the student's logits over τ.
    fn of(&self, student: &[f64], teacher: &[f64], label: usize) -> (f64, Vec<f64>) {
        let both = || student.iter().zip(teacher);
        let square = self.temperature * self.temperature;
        match self.divergence {
            Divergence::ForwardKl => {
                let value: f64 = both().map(|(p, q)| exp(*q) * (q - p)).sum();
                (square * value, both().map(|(p, q)| square * (exp(*p) - exp(*q))).collect())
            }
            Divergence::ReverseKl => {
                let value: f64 = both().map(|(p, q)| exp(*p) * (p - q)).sum();
                (square * value, both().map(|(p, q)| square * exp(*p) * (p - q - value)).collect())
            }
            Divergence::JensenShannon => self.jensen_shannon(student, teacher),
            Divergence::SoftCrossEntropy => cross_entropy(student, teacher),
            Divergence::Slim => {
                let (entropy, gradient) = cross_entropy(student, teacher);
                // past e⁸⁰ the factor is 1
                let ratio = (teacher[label] - student[label]).min(MAX_EXPONENT).exp();
                let faded = (-ratio).exp();
                let slope = entropy * faded * ratio;
                let of = |(at, gradient): (usize, f64)| {
                    let is_label = if at == label { 1.0 } else { 0.0 };
                    (1.0 - faded) * gradient - slope * (is_label - exp(student[at]))
                };
                ((1.0 - faded) * entropy, gradient.into_iter().enumerate().map(of).collect())
            }
        }
    }

    fn jensen_shannon(&self, student: &[f64], teacher: &[f64]) -> (f64, Vec<f64>) {
        let beta = self.mixture;
        let (log_beta, log_rest) = (beta.ln(), (1.0 - beta).ln());
        // log m without a probability that is 0
        let mixed = |p: f64, q: f64| {
            let (p, q) = (p + log_rest, q + log_beta);
            p.max(q) + (-(p - q).abs()).exp().ln_1p()
        };
        let (mut of_teacher, mut of_student) = (0.0, 0.0);
        let mut gradient: Vec<f64> = Vec::with_capacity(student.len());
        for (p, q) in student.iter().zip(teacher) {
            let m = mixed(*p, *q);
            of_teacher += exp(*q) * (q - m);
            of_student += exp(*p) * (p - m);
            gradient.push(p - m);
        }
        let slope = |(p, ratio): (&f64, f64)| (1.0 - beta) * exp(*p) * (ratio - of_student);
        let gradient = student.iter().zip(gradient).map(slope).collect();
        (beta * of_teacher + (1.0 - beta) * of_student, gradient)
    }
}

/// −Σ q·log p and its gradient by the student's logits over τ.
fn cross_entropy(student: &[f64], teacher: &[f64]) -> (f64, Vec<f64>) {
    let both = || student.iter().zip(teacher);
    (-both().map(|(p, q)| exp(*q) * p).sum::<f64>(), both().map(|(p, q)| exp(*p) - exp(*q)).collect())
}
