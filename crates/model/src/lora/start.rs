//! Starts of adapters that take a part out of their base: OLoRA (arXiv 2406.01775) and PiSSA (arXiv 2404.02948). The adapter
//! begins as that part, so the model begins as it was; what is trained is added to the rest of the base.
//!
//! Either part is a projection of the weight onto few directions, which need not be stored: they follow from the weight.

use super::top_eigenvectors::top_eigenvectors;

/// The part of the base that an adapter starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// s·Q·R of the first columns' QR decomposition.
    Olora,
    /// The largest singular values with their vectors.
    Pissa,
}

impl Start {
    /// The values of `init_lora_weights`.
    pub const ALL: [Self; 2] = [Self::Olora, Self::Pissa];

    /// The value of `init_lora_weights`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Olora => "olora",
            Self::Pissa => "pissa",
        }
    }

    /// The weight (`outputs`, `inputs`) without the part that an adapter of rank `r` and factor `scale` starts with.
    pub fn rest(self, weight: &[f32], inputs: usize, r: usize, scale: f64) -> Vec<f32> {
        let matrix = Matrix::new(weight, inputs);
        matrix.without(&self.basis(&matrix, r), self.share(scale))
    }

    /// The adapter's values at its start, and the rest of the weight.
    pub fn parts(self, weight: &[f32], inputs: usize, r: usize, scale: f64) -> Parts {
        let matrix = Matrix::new(weight, inputs);
        let basis = self.basis(&matrix, r);
        // Directions that a weight of low rank does not have stay zero.
        let (mut a, mut b) = (vec![0.0; r * inputs], vec![0.0; matrix.rows * r]);
        for (index, direction) in basis.iter().enumerate() {
            let along = matrix.transposed_times(direction);
            let size = dot(&along, &along).sqrt();
            // OLoRA is Q·R, PiSSA the roots of the singular values on both sides.
            let (left, right) = match self {
                Self::Olora => (1.0, 1.0),
                Self::Pissa if size > 0.0 => ((size / scale).sqrt(), (size * scale).sqrt().recip()),
                Self::Pissa => (0.0, 0.0),
            };
            let row = &mut a[index * inputs..][..inputs];
            row.iter_mut().zip(&along).for_each(|(value, along)| *value = (right * along) as f32);
            let column = b.iter_mut().skip(index).step_by(r);
            column.zip(direction).for_each(|(value, share)| *value = (left * share) as f32);
        }
        Parts { a, b, rest: matrix.without(&basis, self.share(scale)) }
    }

    /// Orthonormal directions of the outputs, along which the part lies.
    fn basis(self, matrix: &Matrix, r: usize) -> Vec<Vec<f64>> {
        match self {
            Self::Olora => matrix.first_columns(r),
            Self::Pissa => top_eigenvectors(matrix.rows, r, |v| matrix.times(&matrix.transposed_times(v))),
        }
    }

    /// Share of the weight along the directions that is taken out: PEFT multiplies OLoRA's by the adapter's factor.
    fn share(self, scale: f64) -> f64 {
        match self {
            Self::Olora => scale,
            Self::Pissa => 1.0,
        }
    }
}

/// A weight in two parts: `scale`·B·A, and the rest.
pub(crate) struct Parts {
    /// (`r`, `inputs`).
    pub a: Vec<f32>,
    /// (`outputs`, `r`).
    pub b: Vec<f32>,
    /// (`outputs`, `inputs`).
    pub rest: Vec<f32>,
}

/// A weight in float64, row by row.
struct Matrix {
    values: Vec<f64>,
    rows: usize,
    columns: usize,
}

impl Matrix {
    fn new(weight: &[f32], columns: usize) -> Self {
        Self { values: weight.iter().copied().map(f64::from).collect(), rows: weight.len() / columns, columns }
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..][..self.columns]
    }

    /// W·v.
    fn times(&self, v: &[f64]) -> Vec<f64> {
        (0..self.rows).map(|row| dot(self.row(row), v)).collect()
    }

    /// Wᵀ·v.
    fn transposed_times(&self, v: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.columns];
        for (row, factor) in v.iter().enumerate() {
            sum.iter_mut().zip(self.row(row)).for_each(|(sum, value)| *sum += factor * value);
        }
        sum
    }

    /// An orthonormal basis of the first `r` columns: the Q of their QR decomposition, but for signs.
    fn first_columns(&self, r: usize) -> Vec<Vec<f64>> {
        let mut basis: Vec<Vec<f64>> = Vec::with_capacity(r);
        for column in 0..r.min(self.columns) {
            let mut v: Vec<f64> = (0..self.rows).map(|row| self.row(row)[column]).collect();
            let length = dot(&v, &v).sqrt();
            orthogonalize(&mut v, &basis);
            let rest = dot(&v, &v).sqrt();
            if rest > 1e-12 * length {
                v.iter_mut().for_each(|value| *value /= rest);
                basis.push(v);
            }
        }
        basis
    }

    /// W − factor·Σ b·bᵀ·W over an orthonormal `basis` of columns.
    fn without(&self, basis: &[Vec<f64>], factor: f64) -> Vec<f32> {
        let mut rest = self.values.clone();
        for b in basis {
            let along = self.transposed_times(b);
            for (row, share) in rest.chunks_exact_mut(self.columns).zip(b) {
                row.iter_mut().zip(&along).for_each(|(value, along)| *value -= factor * share * along);
            }
        }
        rest.into_iter().map(|value| value as f32).collect()
    }
}

/// Σ a·b.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (blocks, others) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = blocks.remainder().iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in blocks.zip(others) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += a * b);
    }
    lanes.iter().sum::<f64>() + rest
}

/// Takes the directions of an orthonormal basis out of `v`, twice: once leaves rounding errors along them.
pub(super) fn orthogonalize(v: &mut [f64], basis: &[Vec<f64>]) {
    for _ in 0..2 {
        for b in basis {
            let along = dot(v, b);
            v.iter_mut().zip(b).for_each(|(value, b)| *value -= along * b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_columns_are_taken_out_whole() {
        // rank 1 of [[3, 1], [4, 2]]: the first column is (3, 4), of length 5
        let rest = Start::Olora.rest(&[3.0, 1.0, 4.0, 2.0], 2, 1, 1.0);
        // the second column (1, 2) less its part along (0.6, 0.8), 2.2·(0.6, 0.8)
        for (got, expected) in rest.iter().zip([0.0, 1.0 - 1.32, 0.0, 2.0 - 1.76]) {
            assert!((got - expected as f32).abs() < 1e-6, "{rest:?}");
        }
    }

    #[test]
    fn the_parts_add_up_to_the_weight() {
        let weight: Vec<f32> = (0..35).map(|i| (f64::from(i) * 1.7).sin() as f32).collect();
        let (inputs, outputs, scale) = (5, 7, 0.5);
        for start in Start::ALL {
            for r in [1, 3, 8] {
                let Parts { a, b, rest } = start.parts(&weight, inputs, r, scale);
                assert_eq!(rest, start.rest(&weight, inputs, r, scale));
                for output in 0..outputs {
                    for input in 0..inputs {
                        let product: f32 = (0..r).map(|k| b[output * r + k] * a[k * inputs + input]).sum();
                        let (at, expected) = (output * inputs + input, scale as f32 * product);
                        assert!((rest[at] + expected - weight[at]).abs() < 1e-5, "{start:?} {r}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_singular_value_is_taken_out() {
        // diag(2, 5, 1): what is left of rank 1 is diag(2, 0, 1)
        let weight = [2.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 1.0];
        let rest = Start::Pissa.rest(&weight, 3, 1, 7.0);
        for (got, expected) in rest.iter().zip([2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]) {
            assert!((got - expected as f32).abs() < 1e-6, "{rest:?}");
        }
    }
}
