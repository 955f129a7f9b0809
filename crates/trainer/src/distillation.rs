//! Distillation: the student's distributions against the teacher's at every scored token, through both heads part by part.

use std::ops::Range;

use rayon::prelude::*;
use smpo_data::Row;
use smpo_kernels::Gradients;
use smpo_losses::divergence::{Distance, RowTerms, RowWeights};
use smpo_model::{Decoder, HeadStates, PackedBatch, ScoreOptions};

use crate::dealing::{PackScores, members_of};
use crate::error::TrainError;
use crate::packing::packs;
use crate::scoring::{RowLogps, Scorer, pack, split};

/// A pack under student and teacher.
#[derive(Debug, Default)]
pub(crate) struct Distilled {
    /// ℓ of each scored token under the student, `[M]`.
    pub logps: Vec<f64>,
    /// Σ of the divergences.
    pub divergence: f64,
    /// Rows whose likeliest token is the teacher's.
    pub agreements: u64,
    /// Load-balancing loss of the student's routed experts.
    pub balance: f64,
}

impl Distilled {
    fn add(&mut self, rows: &[RowTerms]) {
        self.logps.extend(rows.iter().map(|row| row.logp));
        self.divergence += rows.iter().map(|row| row.divergence).sum::<f64>();
        self.agreements += rows.iter().filter(|row| row.agrees).count() as u64;
    }
}

/// Scores rows pack by pack.
pub(crate) fn score_rows_of(
    pupil: &Pupil<'_>,
    rows: &[&Row],
    scorer: &Scorer<'_>,
) -> Result<(Vec<RowLogps>, PackScores), TrainError> {
    let tokens: Vec<usize> = rows.iter().map(|row| row.packed_tokens()).collect();
    let packs = packs(&tokens, scorer.ranks.pack_bound(&tokens, scorer.max_tokens));
    scorer.ranks.score_packs(&packs, &tokens, |members| {
        let chosen = members_of(rows, members);
        let packed = pack(&chosen, None, pupil.student.spec())?;
        let Distilled { logps, divergence, agreements, .. } = pupil.score(&packed)?;
        Ok(PackScores { rows: split(&chosen, &packed, &logps, &[]), divergence, agreements })
    })
}

/// A student with its teacher, whose vocabulary begins with the student's.
pub(crate) struct Pupil<'a> {
    pub student: &'a Decoder,
    pub teacher: &'a Decoder,
    pub distance: Distance,
}

impl Pupil<'_> {
    /// Scores a pack and adds the gradient of its weighted terms, and of the load-balancing loss times `balance`, to `gradients`.
    pub(crate) fn learn(
        &self,
        packed: &PackedBatch,
        options: &ScoreOptions<'_>,
        weights: RowWeights,
        balance: f64,
        gradients: &mut Gradients,
    ) -> Result<Distilled, TrainError> {
        let teacher = self.teacher.head_states(packed)?;
        let states = self.student.trained_states(packed, options)?;
        let mut distilled = Distilled { balance: states.weigh_balance(balance), ..Distilled::default() };
        states.backward(gradients, &mut |rows: Range<usize>, logits: &mut [f32]| -> Result<(), TrainError> {
            distilled.add(&self.rows(&teacher, packed, rows, logits, weights)?);
            Ok(())
        })?;
        Ok(distilled)
    }

    /// Scores a pack.
    pub(crate) fn score(&self, packed: &PackedBatch) -> Result<Distilled, TrainError> {
        let student = self.student.frozen();
        let (student, teacher) = (student.head_states(packed)?, self.teacher.head_states(packed)?);
        let mut distilled = Distilled::default();
        let weights = RowWeights { divergence: 0.0, nll: 0.0 };
        for rows in student.parts() {
            let mut logits = student.logits(rows.clone())?;
            distilled.add(&self.rows(&teacher, packed, rows, &mut logits, weights)?);
        }
        Ok(distilled)
    }

    fn rows(
        &self,
        teacher: &HeadStates<'_>,
        packed: &PackedBatch,
        rows: Range<usize>,
        logits: &mut [f32],
        weights: RowWeights,
    ) -> Result<Vec<RowTerms>, TrainError> {
        let of_teacher = teacher.logits(rows.clone())?;
        let width = self.student.spec().vocab_size;
        let teacher_width = self.teacher.spec().vocab_size;
        let both = logits.par_chunks_mut(width).zip(of_teacher.par_chunks(teacher_width));
        let terms = both.zip(&packed.targets()[rows]).map(|((student, teacher), target)| {
            self.distance.row(student, &teacher[..width], *target as usize, weights)
        });
        Ok(terms.collect())
    }
}
