//! Near duplicates by the cosine of embeddings: every row is compared with every leader, in blocks of matrix products.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use crate::CurationError;
use crate::near::{Match, Near};

/// Leaders of one product.
const PANEL: usize = 4096;
/// Bytes of all vectors at most.
const MAX_BYTES: usize = 16 << 30;

/// Vectors of length 1 of the rows that are compared.
pub(crate) struct Vectors {
    width: usize,
    values: Vec<f32>,
    slots: HashMap<u32, usize>,
}

impl Vectors {
    /// Room for `rows` vectors of `width` numbers.
    pub fn new(rows: usize, width: usize) -> Result<Self, CurationError> {
        let bytes = rows.saturating_mul(width).saturating_mul(size_of::<f32>());
        if bytes > MAX_BYTES {
            return Err(CurationError::Option(format!(
                "embeddings of {width} numbers for {rows} rows take {} GB; expected at most {} GB: remove duplicates with \
                 minhash first, or give the rows in parts",
                bytes >> 30,
                MAX_BYTES >> 30
            )));
        }
        Ok(Vectors { width, values: Vec::new(), slots: HashMap::new() })
    }

    /// Adds the vector of a row.
    pub fn push(&mut self, row: u32, vector: &[f32]) -> Result<(), CurationError> {
        if vector.len() != self.width {
            let (expected, got) = (self.width, vector.len());
            return Err(CurationError::Option(format!("embeddings: expected {expected} numbers as before, got {got}")));
        }
        self.slots.insert(row, self.slots.len());
        self.values.extend_from_slice(vector);
        Ok(())
    }

    fn of(&self, row: u32) -> Option<&[f32]> {
        let start = self.slots.get(&row)? * self.width;
        self.values.get(start..start + self.width)
    }
}

/// Cosines with all leaders.
pub(crate) struct ByEmbeddings {
    threshold: f64,
    vectors: Vectors,
    leaders: Vec<u32>,
    /// Leaders in panels, each full.
    panels: Vec<Tensor>,
    /// Nearest of the leaders that there were when the rows were prepared.
    prepared: HashMap<u32, Match>,
    /// Leaders at that time.
    known: usize,
}

impl ByEmbeddings {
    pub fn new(threshold: f64, vectors: Vectors) -> Self {
        let (leaders, panels, prepared) = (Vec::new(), Vec::new(), HashMap::new());
        ByEmbeddings { threshold, vectors, leaders, panels, prepared, known: 0 }
    }

    fn matrix(&self, rows: &[u32]) -> Result<Tensor, CurationError> {
        let values: Vec<f32> = rows.iter().filter_map(|row| self.vectors.of(*row)).flatten().copied().collect();
        Ok(Tensor::from_vec(values, (rows.len(), self.vectors.width), &Device::Cpu)?)
    }

    /// The closer of two, the first where they are equal.
    fn offer(&self, nearest: &mut Option<Match>, row: u32, similarity: f32) {
        let similarity = f64::from(similarity).min(1.0);
        if similarity >= self.threshold && nearest.is_none_or(|nearest| similarity > nearest.similarity) {
            *nearest = Some(Match { row, similarity });
        }
    }
}

impl Near for ByEmbeddings {
    fn prepare(&mut self, rows: &[u32]) -> Result<(), CurationError> {
        self.prepared.clear();
        while self.leaders.len() >= (self.panels.len() + 1) * PANEL {
            let panel = self.matrix(&self.leaders[self.panels.len() * PANEL..][..PANEL])?;
            self.panels.push(panel);
        }
        self.known = self.leaders.len();
        let rows: Vec<u32> = rows.iter().copied().filter(|row| self.vectors.slots.contains_key(row)).collect();
        if rows.is_empty() || self.leaders.is_empty() {
            return Ok(());
        }
        let asked = self.matrix(&rows)?;
        let rest = &self.leaders[self.panels.len() * PANEL..];
        let last = if rest.is_empty() { None } else { Some(self.matrix(rest)?) };
        let mut nearest = vec![None; rows.len()];
        for (panel, leaders) in self.panels.iter().chain(&last).zip(self.leaders.chunks(PANEL)) {
            let cosines = asked.matmul(&panel.t()?)?.to_vec2::<f32>()?;
            for (nearest, cosines) in nearest.iter_mut().zip(cosines) {
                leaders.iter().zip(cosines).for_each(|(leader, cosine)| self.offer(nearest, *leader, cosine));
            }
        }
        self.prepared = rows.into_iter().zip(nearest).filter_map(|(row, nearest)| Some((row, nearest?))).collect();
        Ok(())
    }

    fn nearest(&mut self, row: u32) -> Result<Option<Match>, CurationError> {
        let mut nearest = self.prepared.get(&row).copied();
        let Some(own) = self.vectors.of(row) else { return Ok(None) };
        for leader in &self.leaders[self.known..] {
            let Some(other) = self.vectors.of(*leader) else { continue };
            let cosine = own.iter().zip(other).map(|(a, b)| a * b).sum();
            self.offer(&mut nearest, *leader, cosine);
        }
        Ok(nearest)
    }

    fn lead(&mut self, row: u32) -> Result<(), CurationError> {
        self.leaders.push(row);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_among_old_and_new_leaders() {
        // directions on a circle, one per degree
        let mut vectors = Vectors::new(90, 2).unwrap();
        for row in 0..90u32 {
            let angle = (row as f32).to_radians();
            vectors.push(row, &[angle.cos(), angle.sin()]).unwrap();
        }
        assert!(vectors.push(90, &[1.0]).is_err());
        let mut near = ByEmbeddings::new(5f64.to_radians().cos() - 1e-6, vectors);
        [0, 20, 40].into_iter().for_each(|row| near.lead(row).unwrap());
        near.prepare(&[5, 6, 38, 30]).unwrap();
        near.lead(6).unwrap();
        let mut found = |row: u32| near.nearest(row).unwrap().map(|found| found.row);
        assert_eq!([found(5), found(38), found(30)], [Some(6), Some(40), None]);
        assert!(Vectors::new(usize::MAX, 4).is_err());
    }
}
