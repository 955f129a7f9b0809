//! Load of the experts over a forward pass, and the loss that evens it out.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Routing;

/// Load-balancing loss of a forward pass, E · Σ f·P over the experts: f is an expert's share of tokens times `k`, P its
/// mean probability, both over all tokens and layers (Fedus et al. 2021, arXiv 2101.03961, equations 4 to 6; as
/// transformers has it). f is a constant to the gradient.
///
/// The forward pass counts; once it is [sealed](Balance::seal), a repeated forward pass counts nothing, and the backward
/// pass adds the gradient of the loss times its [weight](Balance::weigh).
#[derive(Debug)]
pub struct Balance(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    tokens: Vec<f64>,
    probabilities: Vec<f64>,
    /// Tokens times layers.
    rows: f64,
    sealed: bool,
    weight: f64,
}

impl Balance {
    /// No load yet of `experts`.
    pub fn new(experts: usize) -> Self {
        let counts = Counts {
            tokens: vec![0.0; experts],
            probabilities: vec![0.0; experts],
            rows: 0.0,
            sealed: false,
            weight: 0.0,
        };
        Self(Mutex::new(counts))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a layer with its probabilities (N, E).
    pub(crate) fn count(&self, routing: &Routing, probabilities: &[f32]) {
        let mut counts = self.counts();
        if counts.sealed {
            return;
        }
        let counts = &mut *counts;
        counts.tokens.iter_mut().zip(routing.loads()).for_each(|(sum, load)| *sum += load as f64);
        for row in probabilities.chunks_exact(counts.probabilities.len().max(1)) {
            counts.probabilities.iter_mut().zip(row).for_each(|(sum, p)| *sum += f64::from(*p));
        }
        counts.rows += routing.token_count() as f64;
    }

    /// Ends the forward pass that counts.
    pub fn seal(&self) {
        self.counts().sealed = true;
    }

    /// Sets the factor of the loss in the backward pass; 0 until then.
    pub fn weigh(&self, weight: f64) {
        self.counts().weight = weight;
    }

    /// The loss; 0 before anything is counted.
    pub fn loss(&self) -> f64 {
        let counts = self.counts();
        let products = counts.tokens.iter().zip(&counts.probabilities).map(|(tokens, p)| tokens * p);
        counts.tokens.len() as f64 * products.sum::<f64>() / (counts.rows * counts.rows).max(1.0)
    }

    /// Gradient of the weighted loss with respect to one row of probabilities, (E); `None` if its weight is zero.
    pub(crate) fn gradient(&self) -> Option<Vec<f64>> {
        let counts = self.counts();
        let factor = counts.weight * counts.tokens.len() as f64 / (counts.rows * counts.rows).max(1.0);
        (counts.weight != 0.0).then(|| counts.tokens.iter().map(|tokens| factor * tokens).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_load_costs_the_experts_per_token_and_an_uneven_one_more() {
        let of = |chosen: &[u32], row: [f32; 4]| {
            let balance = Balance::new(4);
            let routing = Routing::new(chosen, 2, 4);
            balance.count(&routing, &row.repeat(routing.token_count()));
            balance.seal();
            // Sealed: no more is counted.
            balance.count(&routing, &[1.0; 8]);
            balance.loss()
        };
        assert!((of(&[0, 1, 2, 3], [0.25; 4]) - 2.0).abs() < 1e-12);
        // 4 · (1 · 0.5 + 1 · 0.5)
        assert!((of(&[0, 1, 0, 1], [0.5, 0.5, 0.0, 0.0]) - 4.0).abs() < 1e-12);
        assert_eq!(Balance::new(4).loss(), 0.0);
    }
}
