//! Experts of each token by the router's logits, and the weighted sum of their outputs.

use super::parallel::{Shared, rows_per_piece, tasks};
use crate::options::{RouterOptions, Routing};

/// Decision of a router on `N` tokens.
pub(crate) struct Routed {
    /// Softmax of the logits, (N, E).
    pub(crate) probabilities: Vec<f32>,
    pub(crate) routing: Routing,
    /// Weight of each slot, (N, k).
    pub(crate) weights: Vec<f32>,
    /// The experts of each slot, (N, k): the most probable first, of equals the one of the lower index.
    pub(crate) chosen: Vec<u32>,
}

/// Routes by `logits` (N, E), 1 ≤ k ≤ E.
pub(crate) fn route(logits: &[f32], experts: usize, options: RouterOptions) -> Routed {
    let k = options.per_token;
    let mut probabilities = vec![0.0; logits.len()];
    let (mut chosen, mut weights) = (Vec::new(), Vec::new());
    let mut order: Vec<u32> = Vec::with_capacity(experts);
    for (logits, row) in logits.chunks_exact(experts).zip(probabilities.chunks_exact_mut(experts)) {
        softmax(logits, row);
        order.clear();
        order.extend(0..experts as u32);
        let falling = |a: &u32, b: &u32| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b));
        if k < experts {
            order.select_nth_unstable_by(k - 1, falling);
        }
        order[..k].sort_unstable_by(falling);
        let total = if options.normalise { sum(&order[..k], row) } else { 1.0 };
        chosen.extend_from_slice(&order[..k]);
        weights.extend(order[..k].iter().map(|expert| (f64::from(row[*expert as usize]) / total) as f32));
    }
    Routed { probabilities, routing: Routing::new(&chosen, k, experts), weights, chosen }
}

fn sum(chosen: &[u32], probabilities: &[f32]) -> f64 {
    chosen.iter().map(|expert| f64::from(probabilities[*expert as usize])).sum()
}

fn softmax(logits: &[f32], out: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = |logit: &f32| f64::from(logit - largest).exp();
    let total: f64 = logits.iter().map(exp).sum();
    out.iter_mut().zip(logits).for_each(|(p, logit)| *p = (exp(logit) / total) as f32);
}

/// Gradient of the logits (N, E), added to `out`, from that of the weights (N, k), and from one of every row of
/// probabilities, (E).
pub(crate) fn route_backward(
    out: &mut [f32],
    routed: &Routed,
    normalise: bool,
    d_weights: &[f32],
    d_probabilities: Option<&[f64]>,
) {
    let k = routed.routing.per_token();
    let experts = routed.probabilities.len() / routed.routing.token_count().max(1);
    let mut gradient = vec![0.0; experts];
    let rows = out.chunks_exact_mut(experts.max(1)).zip(routed.probabilities.chunks_exact(experts.max(1)));
    let slots = routed.chosen.chunks_exact(k).zip(routed.weights.chunks_exact(k)).zip(d_weights.chunks_exact(k));
    for ((out, row), ((chosen, weights), d_weights)) in rows.zip(slots) {
        match d_probabilities {
            Some(all) => gradient.copy_from_slice(all),
            None => gradient.fill(0.0),
        }
        let along: f64 = weights.iter().zip(d_weights).map(|(w, d)| f64::from(*w) * f64::from(*d)).sum();
        let (along, total) = if normalise { (along, sum(chosen, row)) } else { (0.0, 1.0) };
        for (expert, d) in chosen.iter().zip(d_weights) {
            gradient[*expert as usize] += (f64::from(*d) - along) / total;
        }
        let mean: f64 = gradient.iter().zip(row).map(|(g, p)| g * f64::from(*p)).sum();
        out.iter_mut().zip(row).zip(&gradient).for_each(|((out, p), g)| *out += (f64::from(*p) * (g - mean)) as f32);
    }
}

/// Σ weight · row over the slots of each token, (N, H), in the experts' order. `rows` are those of the routed slots.
pub(crate) fn combine(rows: &[&[f32]], weights: &[f32], routing: &Routing, width: usize) -> Vec<f32> {
    let mut out = vec![0.0; routing.token_count() * width];
    let places: Vec<&[u32]> = routing.places().collect();
    let piece = rows_per_piece(width * routing.per_token());
    let (shared, work) = (Shared::new(&mut out), rows.len() * width);
    tasks(places.len().div_ceil(piece), work, |index| {
        let first = index * piece;
        for (token, places) in (first..).zip(&places[first..(first + piece).min(places.len())]) {
            // SAFETY: the row of a token belongs to one task alone.
            let out = unsafe { shared.slice(token * width, width) };
            for place in places.iter().map(|place| *place as usize) {
                let weight = weights[routing.routed_slots()[place] as usize];
                out.iter_mut().zip(rows[place]).for_each(|(out, value)| *out += weight * value);
            }
        }
    });
    out
}

/// Gradient of the weights (N, k), added to `out`.
pub(crate) fn combine_backward_weights(out: &mut [f32], rows: &[&[f32]], routing: &Routing, dy: &[f32], width: usize) {
    let slots = routing.routed_slots().iter().zip(routing.routed_tokens());
    for (row, (slot, token)) in rows.iter().zip(slots) {
        let dy = &dy[*token as usize * width..][..width];
        let dot: f64 = row.iter().zip(dy).map(|(y, d)| f64::from(y * d)).sum();
        out[*slot as usize] += dot as f32;
    }
}

/// Gradient of the rows of routed slots from `first` on, added to `out`.
pub(crate) fn combine_backward_rows(
    out: &mut [f32],
    first: usize,
    weights: &[f32],
    routing: &Routing,
    dy: &[f32],
    width: usize,
) {
    let slots = routing.routed_slots()[first..].iter().zip(&routing.routed_tokens()[first..]);
    for (out, (slot, token)) in out.chunks_exact_mut(width.max(1)).zip(slots) {
        let weight = weights[*slot as usize];
        let dy = &dy[*token as usize * width..][..width];
        out.iter_mut().zip(dy).for_each(|(out, d)| *out += weight * d);
    }
}
