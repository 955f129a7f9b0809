//! Buckets: rows whose hashes of a band are equal.

/// Rows and the buckets that each shares with another.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    /// Row and bucket, sorted.
    of_rows: Vec<(u32, u32)>,
    /// Per bucket, the rows in it that stand for others so far.
    leaders: Vec<Vec<u32>>,
}

impl Buckets {
    /// From the hashes of all bands of each row in `rows`; `hashes` has `bands` per row. Hashes of rows without any are
    /// `None`.
    pub fn new<'a>(
        rows: impl Iterator<Item = u32> + Clone,
        bands: usize,
        hashes: impl Fn(u32) -> Option<&'a [u32]>,
    ) -> Self {
        let mut buckets = Buckets::default();
        let mut of_band = Vec::new();
        for band in 0..bands {
            of_band.clear();
            of_band.extend(rows.clone().filter_map(|row| Some((hashes(row)?[band], row))));
            of_band.sort_unstable();
            for shared in of_band.chunk_by(|a, b| a.0 == b.0).filter(|shared| shared.len() > 1) {
                let bucket = buckets.leaders.len() as u32;
                buckets.leaders.push(Vec::new());
                buckets.of_rows.extend(shared.iter().map(|(_, row)| (*row, bucket)));
            }
        }
        buckets.of_rows.sort_unstable();
        buckets
    }

    /// Rows that share a bucket, in order.
    pub fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.of_rows.chunk_by(|a, b| a.0 == b.0).map(|of_row| of_row[0].0)
    }

    fn of_row(&self, row: u32) -> std::ops::Range<usize> {
        self.of_rows.partition_point(|(other, _)| *other < row)
            ..self.of_rows.partition_point(|(other, _)| *other <= row)
    }

    /// Leaders in a row's buckets, each once.
    pub fn leaders(&self, row: u32) -> Vec<u32> {
        let of_row = &self.of_rows[self.of_row(row)];
        let mut leaders: Vec<u32> =
            of_row.iter().flat_map(|(_, bucket)| &self.leaders[*bucket as usize]).copied().collect();
        leaders.sort_unstable();
        leaders.dedup();
        leaders
    }

    /// Makes a row a leader in its buckets.
    pub fn lead(&mut self, row: u32) {
        for at in self.of_row(row) {
            self.leaders[self.of_rows[at].1 as usize].push(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Buckets;

    #[test]
    fn rows_meet_in_any_band() {
        let hashes: [&[u32]; 4] = [&[1, 5], &[1, 6], &[2, 6], &[3, 7]];
        let mut buckets = Buckets::new(0..5, 2, |row| hashes.get(row as usize).copied());
        assert_eq!(buckets.rows().collect::<Vec<_>>(), [0, 1, 2]);
        buckets.lead(0);
        buckets.lead(2);
        buckets.lead(3);
        assert_eq!([buckets.leaders(1), buckets.leaders(0), buckets.leaders(3)], [vec![0, 2], vec![0], vec![]]);
    }
}
