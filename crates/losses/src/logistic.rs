//! The logistic function and its relatives, without overflow or cancellation.

/// Log-probs come from float32, where a probability nearer to 1 than this cannot be told from 1. Functions that have a
/// pole at 1 go on as straight lines from there.
pub const NEAREST_TO_ONE: f64 = 1.0 / (1 << 24) as f64;

/// σ(x) = 1 / (1 + e^−x).
pub fn sigmoid(x: f64) -> f64 {
    // Either branch only ever exponentiates a number that is not positive.
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// log σ(x) = −log(1 + e^−x).
pub fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// log(1 − e^x) for x < 0 (Mächler, "Accurately computing log(1 − exp(−|a|))", 2012).
pub fn log1mexp(x: f64) -> f64 {
    if x > -std::f64::consts::LN_2 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() }
}

/// −(1 − ε)·log σ(z) − ε·log σ(−z) with its derivative by z.
pub fn smoothed(z: f64, epsilon: f64) -> (f64, f64) {
    let value = -(1.0 - epsilon) * log_sigmoid(z) - epsilon * log_sigmoid(-z);
    (value, epsilon * sigmoid(z) - (1.0 - epsilon) * sigmoid(-z))
}

/// Exponents are cut here: a probability ratio of e⁸⁰ is a number without meaning, and one of e⁸⁰⁰ is infinite. TRL's bound.
pub const MAX_EXPONENT: f64 = 80.0;

/// e^min(x, 80), with its derivative by x: 0 past the bound.
pub fn bounded_exp(x: f64) -> (f64, f64) {
    let e = x.min(MAX_EXPONENT).exp();
    (e, if x < MAX_EXPONENT { e } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_sigmoid_is_the_log_of_sigmoid_and_never_overflows() {
        for x in [-30.0, -2.0, 0.0, 1e-9, 3.0, 30.0] {
            assert!((log_sigmoid(x) - sigmoid(x).ln()).abs() < 1e-12, "{x}");
        }
        assert_eq!(log_sigmoid(-1e6), -1e6);
        assert_eq!(log_sigmoid(1e6), 0.0);
        assert_eq!((sigmoid(-1e6), sigmoid(1e6)), (0.0, 1.0));
    }

    #[test]
    fn an_exponent_at_the_bound_has_no_derivative() {
        let bound = MAX_EXPONENT.exp();
        assert_eq!([79.0, 80.0, 81.0].map(|x| bounded_exp(x).1 > 0.0), [true, false, false]);
        assert_eq!((bounded_exp(80.0).0, bounded_exp(99.0).0), (bound, bound));
    }

    #[test]
    fn log1mexp_keeps_its_digits_at_both_ends() {
        // 1 − e^x ≈ −x − x²/2 near zero, where the naive form has nothing left.
        let x = -1e-10_f64;
        assert!((log1mexp(x) - (-x - x * x / 2.0).ln()).abs() < 1e-12);
        assert!((log1mexp(-40.0) + (-40.0f64).exp()).abs() < 1e-30);
    }
}
