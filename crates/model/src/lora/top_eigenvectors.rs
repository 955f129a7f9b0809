//! Eigenvectors of the largest eigenvalues of a symmetric operator, by the Lanczos method with full
//! reorthogonalisation (Golub and Van Loan, "Matrix Computations", chapter 10).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::start::{dot, orthogonalize};

/// A Ritz vector counts as an eigenvector once its residual is below this share of the largest eigenvalue.
const CONVERGED: f64 = 1e-11;

/// Orthonormal eigenvectors of the `count` largest eigenvalues of the positive semidefinite operator `apply` in `n`
/// dimensions. The Krylov space grows until they have converged, at most to all dimensions.
pub(super) fn top_eigenvectors(n: usize, count: usize, apply: impl Fn(&[f64]) -> Vec<f64>) -> Vec<Vec<f64>> {
    let count = count.min(n);
    let mut lanczos = Lanczos {
        basis: Vec::new(),
        diagonal: Vec::new(),
        off: Vec::new(),
        next: None,
        rng: ChaCha8Rng::seed_from_u64(0),
    };
    let mut size = (4 * count + 20).min(n);
    loop {
        while lanczos.basis.len() < size {
            lanczos.step(n, &apply);
        }
        let (values, vectors) = tridiagonal_eigenvectors(&lanczos.diagonal, &lanczos.off);
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
        let top = &order[..count];
        let largest = values[top[0]].abs();
        let last = lanczos.off[size - 1];
        let residual = |at: usize| (last * vectors[size - 1][at]).abs();
        if size == n || top.iter().all(|at| residual(*at) <= CONVERGED * largest) {
            let ritz = |at: &usize| {
                let mut v = vec![0.0; n];
                for (b, row) in lanczos.basis.iter().zip(&vectors) {
                    v.iter_mut().zip(b).for_each(|(value, b)| *value += row[*at] * b);
                }
                v
            };
            return top.iter().map(ritz).collect();
        }
        size = (size + size / 2).min(n);
    }
}

struct Lanczos {
    basis: Vec<Vec<f64>>,
    diagonal: Vec<f64>,
    /// Below the diagonal; the last couples to the next basis vector.
    off: Vec<f64>,
    /// The next basis vector; `None` at the start and where the space is closed under the operator.
    next: Option<Vec<f64>>,
    rng: ChaCha8Rng,
}

impl Lanczos {
    /// Adds a basis vector, with its row of the tridiagonal matrix.
    fn step(&mut self, n: usize, apply: &impl Fn(&[f64]) -> Vec<f64>) {
        let q = self.next.take().unwrap_or_else(|| self.random(n));
        let mut image = apply(&q);
        let along = dot(&q, &image);
        self.diagonal.push(along);
        self.basis.push(q);
        let scale = dot(&image, &image).sqrt();
        orthogonalize(&mut image, &self.basis);
        let length = dot(&image, &image).sqrt();
        // of rounding errors alone there is no direction
        if length > 1e-13 * scale {
            image.iter_mut().for_each(|value| *value /= length);
            self.next = Some(image);
            self.off.push(length);
        } else {
            self.off.push(0.0);
        }
    }

    /// A unit vector orthogonal to the basis.
    fn random(&mut self, n: usize) -> Vec<f64> {
        loop {
            let mut v: Vec<f64> = (0..n).map(|_| self.rng.random_range(-1.0..1.0)).collect();
            orthogonalize(&mut v, &self.basis);
            let length = dot(&v, &v).sqrt();
            if length > 1e-6 {
                v.iter_mut().for_each(|value| *value /= length);
                return v;
            }
        }
    }
}

/// Eigenvalues and eigenvectors, in columns, of a symmetric tridiagonal matrix, by the QL method with implicit shifts (as
/// above, chapter 8).
fn tridiagonal_eigenvectors(diagonal: &[f64], off: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = diagonal.len();
    let (mut d, mut e) = (diagonal.to_vec(), off.to_vec());
    e[n - 1] = 0.0;
    let mut z: Vec<Vec<f64>> =
        (0..n).map(|row| (0..n).map(|column| f64::from(u8::from(row == column))).collect()).collect();
    for first in 0..n {
        // Each pass brings the element below the diagonal closer to 0, cubically at the end; more than these do not occur.
        for _ in 0..100 {
            let small = |at: usize| e[at].abs() <= f64::EPSILON * (d[at].abs() + d[(at + 1).min(n - 1)].abs());
            let last = (first..n).find(|at| *at == n - 1 || small(*at)).unwrap_or(n - 1);
            if last == first {
                break;
            }
            let step = (d[first + 1] - d[first]) / (2.0 * e[first]);
            let shift = d[last] - d[first] + e[first] / (step + step.hypot(1.0).copysign(step));
            sweep(&mut d, &mut e, &mut z, first, last, shift);
        }
    }
    (d, z)
}

/// One pass of rotations from `last` up to `first`.
fn sweep(d: &mut [f64], e: &mut [f64], z: &mut [Vec<f64>], first: usize, last: usize, shift: f64) {
    let (mut sine, mut cosine, mut moved, mut g) = (1.0, 1.0, 0.0, shift);
    for at in (first..last).rev() {
        let (f, b) = (sine * e[at], cosine * e[at]);
        let length = f.hypot(g);
        e[at + 1] = length;
        if length == 0.0 {
            d[at + 1] -= moved;
            e[last] = 0.0;
            return;
        }
        (sine, cosine) = (f / length, g / length);
        let lower = d[at + 1] - moved;
        let r = (d[at] - lower) * sine + 2.0 * cosine * b;
        moved = sine * r;
        d[at + 1] = lower + moved;
        g = cosine * r - b;
        for row in z.iter_mut() {
            let upper = row[at + 1];
            row[at + 1] = sine * row[at] + cosine * upper;
            row[at] = cosine * row[at] - sine * upper;
        }
    }
    d[first] -= moved;
    e[first] = g;
    e[last] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A symmetric operator with eigenvalues 1, 2, … n along the columns of a reflection.
    fn check(n: usize, count: usize, value: impl Fn(usize) -> f64) {
        let mut normal: Vec<f64> = (0..n).map(|i| ((3 * i + 1) as f64).sin()).collect();
        let length = dot(&normal, &normal).sqrt();
        normal.iter_mut().for_each(|x| *x /= length);
        let reflect = |v: &[f64]| {
            let along = 2.0 * dot(v, &normal);
            v.iter().zip(&normal).map(|(v, u)| v - along * u).collect::<Vec<f64>>()
        };
        let apply = |v: &[f64]| {
            let scaled: Vec<f64> = reflect(v).iter().enumerate().map(|(i, x)| value(i) * x).collect();
            reflect(&scaled)
        };
        let vectors = top_eigenvectors(n, count, apply);
        let mut values: Vec<f64> = (0..n).map(&value).collect();
        values.sort_by(|a, b| b.total_cmp(a));
        for (v, expected) in vectors.iter().zip(&values) {
            assert!((dot(v, v) - 1.0).abs() < 1e-10);
            let image = apply(v);
            let residual: f64 =
                image.iter().zip(v).map(|(image, v)| (image - expected * v).powi(2)).sum::<f64>().sqrt();
            assert!(residual <= 1e-8 * values[0], "{residual} at {expected}");
        }
        assert_eq!(vectors.len(), count.min(n));
    }

    #[test]
    fn large_small_close_and_equal_eigenvalues() {
        check(3, 2, |i| i as f64);
        check(1, 4, |_| 2.0);
        check(40, 6, |i| (i + 1) as f64);
        check(300, 8, |i| 0.9f64.powi(i as i32));
        check(300, 5, |i| 1.0 + 1e-3 * i as f64);
        check(50, 3, |i| if i < 10 { 4.0 } else { 1.0 });
        check(20, 3, |_| 0.0);
    }
}
