//! The exponential function and the logarithm without a branch, so that the compiler turns loops over them into vector
//! instructions.

use std::f64::consts::LOG2_E;

/// 1.5·2⁵²: adding it rounds to an integer, which then stands in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts: the first has so few digits that its product with an exponent is exact.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// Exponents are cut here: e^±700 is still a number.
const LARGEST: f64 = 700.0;

/// e^x.
#[inline]
pub(crate) fn exp(x: f64) -> f64 {
    let (scale, part) = reduced(x);
    scale * part + scale
}

/// e^x and e^x − 1, the latter without cancellation near 0.
#[inline]
pub(crate) fn exp_and_m1(x: f64) -> (f64, f64) {
    let (scale, part) = reduced(x);
    (scale * part + scale, scale * part + (scale - 1.0))
}

/// log x of a number in [0, ∞); that of 0 is cut at about −709.
#[inline]
pub(crate) fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    // 2^52 as bits: an integer below it, put into its low bits, is added to it.
    const INTEGER: u64 = 0x4330_0000_0000_0000;
    let bits = x.to_bits();
    let exponent = f64::from_bits(INTEGER | (bits >> 52)) - f64::from_bits(INTEGER) - 1023.0;
    let mantissa = f64::from_bits(1f64.to_bits() | (bits & MANTISSA));
    let upper = mantissa > std::f64::consts::SQRT_2;
    let (mantissa, exponent) = if upper { (0.5 * mantissa, exponent + 1.0) } else { (mantissa, exponent) };
    // log m = 2·artanh s, |s| ≤ 0.172: the power 21 is below half a unit in the last place
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 1.0 / 19.0;
    for odd in [17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / odd;
    }
    exponent * LN_2_HIGH + (exponent * LN_2_LOW + 2.0 * s * sum)
}

/// 2^k and e^r − 1 for x = k·ln 2 + r, |r| ≤ ln 2/2.
#[inline]
fn reduced(x: f64) -> (f64, f64) {
    let x = if x < -LARGEST { -LARGEST } else { x };
    let x = if x > LARGEST { LARGEST } else { x };
    let shifted = x * LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN_2_HIGH) - k * LN_2_LOW;
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    // Taylor's polynomial of degree 13: what it leaves out is below half a unit in the last place.
    let mut sum = 1.0 / 6_227_020_800.0;
    for factorial in INVERSE_FACTORIALS {
        sum = sum * r + factorial;
    }
    (scale, sum * r)
}

/// 1/12! to 1/1!.
const INVERSE_FACTORIALS: [f64; 12] = [
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        for i in -200_000..=2_000 {
            let x = f64::from(i) * 3.1e-3;
            assert!((exp(x) - x.exp()).abs() <= 4e-16 * x.exp(), "{x}");
            let (p, m1) = exp_and_m1(x / 1e3);
            assert!((p - (x / 1e3).exp()).abs() <= 4e-16 * p, "{x}");
            assert!((m1 - (x / 1e3).exp_m1()).abs() <= 4e-16 * m1.abs(), "{x}");
        }
        assert!((LN_2_HIGH + LN_2_LOW - std::f64::consts::LN_2).abs() < 1e-16);
    }

    #[test]
    fn the_logarithm_agrees_with_the_standard_library() {
        for i in -2_000..=2_000 {
            let x = (f64::from(i) * 0.31).exp();
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0), "{x}");
        }
        assert_eq!(ln(1.0), 0.0);
        assert!(ln(0.0) < -708.0 && ln(0.0).is_finite());
    }

    #[test]
    fn far_away_it_is_cut_and_at_zero_exact() {
        assert_eq!(exp(-1e9), exp(-700.0));
        assert!(exp(-1e9) > 0.0 && exp(1e9).is_finite());
        assert_eq!([701.0, 1e9].map(exp), [exp(700.0); 2]);
        assert_eq!((exp(0.0), exp_and_m1(-0.0).1), (1.0, 0.0));
        assert_eq!(exp_and_m1(-1e-300).1, -1e-300);
    }
}
