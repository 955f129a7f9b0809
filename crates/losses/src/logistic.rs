//! The logistic function and its relatives, without overflow or cancellation.

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
    fn log1mexp_keeps_its_digits_at_both_ends() {
        // 1 − e^x ≈ −x − x²/2 near zero, where the naive form has nothing left.
        let x = -1e-10_f64;
        assert!((log1mexp(x) - (-x - x * x / 2.0).ln()).abs() < 1e-12);
        assert!((log1mexp(-40.0) + (-40.0f64).exp()).abs() < 1e-30);
    }
}
