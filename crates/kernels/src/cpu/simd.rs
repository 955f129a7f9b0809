//! Loops compiled once for each instruction set and chosen at run time.
//!
//! [`simd!`] wraps a function body three times: for AVX-512, for AVX2 with FMA, and plainly. The
//! bodies are ordinary loops that the compiler vectorises. Sums run over a fixed number of lanes
//! in a fixed order, so a result depends on the instruction set and on nothing else.

/// The widest instruction set here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// The baseline of the compilation target.
    Plain,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

/// The CPU's instruction set; the standard library caches it.
pub(crate) fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
        {
            return Level::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Level::Avx2;
        }
    }
    Level::Plain
}

/// Defines a function that runs on the widest instruction set; inside it, the constant `FMA` is
/// true if a fused multiply-add is an instruction there.
macro_rules! simd {
    ($($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name($($argument: $kind),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, clippy::extra_unused_type_parameters)]
            fn body<const FMA: bool>($($argument: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($argument: $kind),*) $(-> $result)? {
                    body::<true>($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($argument: $kind),*) $(-> $result)? {
                    body::<true>($($argument),*)
                }
                match $crate::cpu::simd::level() {
                    // SAFETY: `level` is the CPU's.
                    $crate::cpu::simd::Level::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    $crate::cpu::simd::Level::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::cpu::simd::Level::Plain => {}
                }
            }
            body::<{ cfg!(target_arch = "aarch64") }>($($argument),*)
        }
    )*};
}
pub(crate) use simd;

/// Lanes of a sum: two registers of AVX-512, four of AVX2.
pub(crate) const LANES: usize = 32;

/// `a·b + c`, fused where that is one instruction.
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Adds the lanes pairwise.
#[inline(always)]
pub(crate) fn fold_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Folds `f(sum, x)` over the elements, lane by lane.
#[inline(always)]
pub(crate) fn sum1(x: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for lane in 0..LANES {
            lanes[lane] = f(lanes[lane], x[lane]);
        }
    }
    for (sum, &x) in lanes.iter_mut().zip(rest) {
        *sum = f(*sum, x);
    }
    fold_lanes(lanes)
}

/// Folds `f(sum, x, y)` over pairs of elements, lane by lane.
#[inline(always)]
pub(crate) fn sum2(x: &[f32], y: &[f32], f: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let ((whole_x, rest_x), (whole_y, rest_y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in whole_x.iter().zip(whole_y) {
        for lane in 0..LANES {
            lanes[lane] = f(lanes[lane], x[lane], y[lane]);
        }
    }
    for ((sum, &x), &y) in lanes.iter_mut().zip(rest_x).zip(rest_y) {
        *sum = f(*sum, x, y);
    }
    fold_lanes(lanes)
}

/// Folds `f(sum, x, y, z)` over triples of elements, lane by lane.
#[inline(always)]
pub(crate) fn sum3(x: &[f32], y: &[f32], z: &[f32], f: impl Fn(f32, f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let ((whole_x, rest_x), (whole_y, rest_y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let (whole_z, rest_z) = z.as_chunks::<LANES>();
    for ((x, y), z) in whole_x.iter().zip(whole_y).zip(whole_z) {
        for lane in 0..LANES {
            lanes[lane] = f(lanes[lane], x[lane], y[lane], z[lane]);
        }
    }
    for (((sum, &x), &y), &z) in lanes.iter_mut().zip(rest_x).zip(rest_y).zip(rest_z) {
        *sum = f(*sum, x, y, z);
    }
    fold_lanes(lanes)
}

/// The largest element; −∞ for none.
#[inline(always)]
pub(crate) fn max_lanes(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = if value > *lane { value } else { *lane };
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// eˣ within 2 units in the last place for −87.3 ≤ x ≤ 88.3; below that 0, above it +∞.
///
/// Splits x = n·ln 2 + r with |r| ≤ ln 2 / 2 (Cody and Waite's two-part ln 2) and evaluates the
/// degree-6 Taylor-like minimax polynomial of Cephes' `expf` in r.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it rounds to the nearest integer
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.3, 88.3);
    let shifted = fma::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -LN2_HIGH, clamped);
    let r = fma::<FMA>(n, -LN2_LOW, r);
    let mut p = 1.987_569_1e-4;
    p = fma::<FMA>(p, r, 1.398_2e-3);
    p = fma::<FMA>(p, r, 8.333_452e-3);
    p = fma::<FMA>(p, r, 4.166_579_6e-2);
    p = fma::<FMA>(p, r, 1.666_666_5e-1);
    p = fma::<FMA>(p, r, 0.5);
    let p = fma::<FMA>(p, r * r, r + 1.0);
    // The integer n sits in the low bits of `shifted`; moving it into the exponent multiplies by 2ⁿ.
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    let y = p * power;
    let y = if x < -87.3 { 0.0 } else { y };
    if x > 88.3 { f32::INFINITY } else { y }
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// tanh x within 3 units in the last place: Cephes' polynomial below 0.625, 1 − 2/(e²ˣ + 1) above.
#[inline(always)]
pub(crate) fn tanh<const FMA: bool>(x: f32) -> f32 {
    let z = x * x;
    let mut p = -5.704_988_7e-3;
    p = fma::<FMA>(p, z, 2.063_909e-2);
    p = fma::<FMA>(p, z, -5.373_971_4e-2);
    p = fma::<FMA>(p, z, 1.333_144_2e-1);
    p = fma::<FMA>(p, z, -3.333_328e-1);
    let small = fma::<FMA>(p * z, x, x);
    let magnitude = x.abs();
    let large = 1.0 - 2.0 / (exp::<FMA>(2.0 * magnitude) + 1.0);
    if magnitude < 0.625 { small } else { large.copysign(x) }
}

simd! {
    /// `Σ aᵢ·bᵢ`.
    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
        sum2(a, b, |sum, a, b| fma::<FMA>(a, b, sum))
    }

    /// `a += b`.
    pub(crate) fn add_assign(a: &mut [f32], b: &[f32]) {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    simd! {
        fn apply_exp(values: &mut [f32]) {
            for value in values {
                *value = exp::<FMA>(*value);
            }
        }
        fn apply_tanh(values: &mut [f32]) {
            for value in values {
                *value = tanh::<FMA>(*value);
            }
        }
    }

    fn worst_ulps(xs: &[f32], ys: &[f32], exact: impl Fn(f64) -> f64) -> f64 {
        xs.iter()
            .zip(ys)
            .map(|(&x, &y)| {
                let want = exact(f64::from(x));
                let unit = f64::from(f32::from_bits((want.abs() as f32).to_bits() + 1)) - f64::from(want.abs() as f32);
                (f64::from(y) - want).abs() / unit
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp_keeps_its_stated_accuracy() {
        let xs: Vec<f32> = (0..2_000_000).map(|i| -87.29 + i as f32 * (175.5 / 2e6)).collect();
        let mut ys = xs.clone();
        apply_exp(&mut ys);
        let worst = worst_ulps(&xs, &ys, f64::exp);
        assert!(worst <= 2.0, "{worst} units in the last place");
        let plain: Vec<f32> = xs.iter().map(|&x| exp::<false>(x)).collect();
        let worst = worst_ulps(&xs, &plain, f64::exp);
        assert!(worst <= 2.0, "{worst} units in the last place without fma");
        let mut edges = [f32::NEG_INFINITY, -200.0, 0.0, 200.0, f32::INFINITY, f32::NAN];
        apply_exp(&mut edges);
        assert_eq!(edges[..5], [0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]);
        assert!(edges[5].is_nan());
    }

    #[test]
    fn tanh_keeps_its_stated_accuracy() {
        let xs: Vec<f32> = (0..2_000_000).map(|i| -12.0 + i as f32 * (24.0 / 2e6)).filter(|x| *x != 0.0).collect();
        let mut ys = xs.clone();
        apply_tanh(&mut ys);
        let worst = worst_ulps(&xs, &ys, f64::tanh);
        assert!(worst <= 3.0, "{worst} units in the last place");
        assert_eq!(tanh::<false>(100.0), 1.0);
        assert_eq!(tanh::<false>(-100.0), -1.0);
    }

    #[test]
    fn sums_take_every_length() {
        for len in 0..100 {
            let a: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let b = vec![2.0; len];
            assert_eq!(dot(&a, &b), (len * len.saturating_sub(1)) as f32);
            assert_eq!(max_lanes(&a), if len == 0 { f32::NEG_INFINITY } else { (len - 1) as f32 });
        }
    }
}
