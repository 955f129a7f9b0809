//! Packs dealt to ranks: each scores its own, and all get the scores of all.

use smpo_data::Row;

use crate::error::TrainError;
use crate::ranks::Ranks;
use crate::scoring::RowLogps;

/// Scores of a pack.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackScores {
    /// Of its rows, in order.
    pub rows: Vec<RowLogps>,
    /// Σ of the divergences from a teacher.
    pub divergence: f64,
    /// Tokens whose likeliest one is the teacher's.
    pub agreements: u64,
}

/// Scores of some packs, by their number in the step, with their parts of the step's load-balancing loss.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub balance: f64,
    pub packs: Vec<(usize, PackScores)>,
}

impl Ranks {
    /// The scores that all ranks bring, on every rank. `packs` are the rows of each pack.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    pub(crate) fn share(&self, own: Result<Shared, TrainError>, packs: &[Vec<usize>]) -> Result<Shared, TrainError> {
        if self.alone() {
            return own;
        }
        let mut all = Shared::default();
        for brought in self.exchange(own.map(Shared::into_numbers))? {
            let mut numbers = brought.into_iter();
            all.balance += numbers.next().unwrap_or(0.0);
            while let Some(pack) = numbers.next().map(|pack| pack as usize) {
                let mut next = || numbers.next().unwrap_or(f64::NAN);
                let (divergence, agreements) = (next(), next() as u64);
                let rows = packs.get(pack).map_or(0, Vec::len);
                let rows = (0..rows).map(|_| RowLogps::read(&mut numbers)).collect();
                all.packs.push((pack, PackScores { rows, divergence, agreements }));
            }
        }
        Ok(all)
    }

    /// Scores packs of rows, each on the rank with the fewest tokens: scores row by row, and the sums of the packs, on every
    /// rank. A pack has as many tokens as `tokens` says of its rows.
    ///
    /// # Errors
    /// Those of `score`, on every rank.
    pub(crate) fn score_packs(
        &self,
        packs: &[Vec<usize>],
        tokens: &[usize],
        mut score: impl FnMut(&[usize]) -> Result<PackScores, TrainError>,
    ) -> Result<(Vec<RowLogps>, PackScores), TrainError> {
        let owners = self.deal(&sizes(packs, tokens));
        let own = packs.iter().zip(owners).enumerate().filter(|(_, (_, owner))| *owner == self.rank());
        let own = own.map(|(number, (members, _))| Ok((number, score(members)?))).collect::<Result<_, _>>();
        let shared = self.share(own.map(|packs| Shared { balance: 0.0, packs }), packs)?;
        let (mut all, mut sums) = (vec![RowLogps::default(); tokens.len()], PackScores::default());
        for (number, scores) in shared.packs {
            sums.divergence += scores.divergence;
            sums.agreements += scores.agreements;
            for (&row, logps) in packs[number].iter().zip(scores.rows) {
                all[row] = logps;
            }
        }
        Ok((all, sums))
    }

    /// Maximum tokens of a pack, so that there are packs for all ranks.
    pub(crate) fn pack_bound(&self, tokens: &[usize], most: usize) -> usize {
        most.min(tokens.iter().sum::<usize>().div_ceil(self.world())).max(1)
    }
}

/// Tokens of each pack.
pub(crate) fn sizes(packs: &[Vec<usize>], tokens: &[usize]) -> Vec<usize> {
    packs.iter().map(|members| members.iter().map(|&row| tokens[row]).sum()).collect()
}

/// The rows of a pack.
pub(crate) fn members_of<'a>(rows: &[&'a Row], members: &[usize]) -> Vec<&'a Row> {
    members.iter().map(|&row| rows[row]).collect()
}

impl Shared {
    fn into_numbers(self) -> Vec<f64> {
        let mut numbers = vec![self.balance];
        for (pack, scores) in self.packs {
            numbers.extend([pack as f64, scores.divergence, scores.agreements as f64]);
            scores.rows.iter().for_each(|row| row.write(&mut numbers));
        }
        numbers
    }
}
