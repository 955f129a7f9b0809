//! KTO's KL baseline: completions after other prompts than their own, scored under policy and reference.
//!
//! A prompt gets the completion of another row of its step. Where the rows of a step share one prompt, as a single row
//! does, it gets one from elsewhere in the data. The choice is a function of the rows alone.

use std::collections::HashMap;

use smpo_data::{Row, TokenizedCompletion};
use smpo_losses::Completion;
use smpo_model::Decoder;

use crate::error::TrainError;
use crate::scoring::{Scorer, StepRow};

/// For each row the index of one with another prompt; `None` if all share one.
///
/// The rows stand prompt by prompt in the order of their first appearance, and each takes the row that stands as many
/// places on as the commonest prompt has rows: the next one where no two share a prompt. So every completion is taken
/// once, unless one prompt has more than half of the rows: those take the rest in turn.
pub(crate) fn partners(rows: &[&Row]) -> Option<Vec<usize>> {
    let mut places: HashMap<&[u32], usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let place = *places.entry(&row.prompt).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(index);
    }
    if groups.len() < 2 {
        return None;
    }
    let commonest = groups.iter().map(Vec::len).max().unwrap_or(0);
    let order = groups.concat();
    let mut partners = vec![0; rows.len()];
    for (place, &row) in order.iter().enumerate() {
        partners[row] = order[(place + commonest) % order.len()];
    }
    for group in groups.iter().filter(|group| group.len() > rows.len() - group.len()) {
        let others = order.iter().filter(|row| !group.contains(row)).cycle();
        group.iter().zip(others).for_each(|(&row, &other)| partners[row] = other);
    }
    Some(partners)
}

/// Rows of `data` for `rows` that share one prompt: each with another prompt than theirs. Empty if they do not share
/// one, or `data` has no other.
pub(crate) fn from_elsewhere(rows: &[Row], data: &[Row]) -> Vec<Row> {
    let Some(first) = rows.first().filter(|first| rows.iter().all(|row| row.prompt == first.prompt)) else {
        return Vec::new();
    };
    let others = data.iter().filter(|row| row.prompt != first.prompt).cycle();
    rows.iter().zip(others).map(|(_, other)| other.clone()).collect()
}

/// A completion after another row's prompt, with its log-probs under policy and reference.
pub(crate) struct Mismatched {
    completion: TokenizedCompletion,
    logps: Vec<f64>,
    ref_logps: Vec<f64>,
}

impl Mismatched {
    pub(crate) fn completion(&self) -> Completion<'_> {
        Completion::new(&self.logps, self.completion.is_terminator()).with_reference(&self.ref_logps)
    }
}

/// Scores each prompt with the completion of another: KTO's estimate of the KL divergence. Empty where there is none.
pub(crate) fn mismatched(
    policy: &Decoder,
    reference: &Decoder,
    rows: &[&StepRow<'_>],
    scorer: &Scorer<'_>,
) -> Result<Vec<Mismatched>, TrainError> {
    let within: Vec<&Row> = rows.iter().map(|row| row.row).collect();
    let others: Vec<Option<&Row>> = match partners(&within) {
        Some(partners) => partners.into_iter().map(|index| Some(within[index])).collect(),
        None => rows.iter().map(|row| row.other).collect(),
    };
    let crossed: Vec<Row> = rows
        .iter()
        .zip(others)
        .filter_map(|(row, other)| {
            let completion = other?.completions().next()?;
            Some(Row {
                id: row.row.id.clone(),
                prompt: row.row.prompt.clone(),
                chosen: Some(completion.clone()),
                ..Row::default()
            })
        })
        .collect();
    let each: Vec<&Row> = crossed.iter().collect();
    let (policy, reference) = (scorer.score(policy, &each)?, scorer.score(reference, &each)?);
    let found = crossed.into_iter().zip(policy).zip(reference).filter_map(|((row, policy), reference)| {
        Some(Mismatched { completion: row.chosen?, logps: policy.chosen?, ref_logps: reference.chosen? })
    });
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(prompts: &[u32]) -> Vec<Row> {
        let row = |(index, prompt): (usize, &u32)| Row {
            id: index.to_string(),
            prompt: vec![*prompt],
            chosen: Some(TokenizedCompletion::new(vec![index as u32], |_| false)),
            ..Row::default()
        };
        prompts.iter().enumerate().map(row).collect()
    }

    fn of(prompts: &[u32]) -> Option<Vec<usize>> {
        partners(&rows(prompts).iter().collect::<Vec<_>>())
    }

    #[test]
    fn rows_of_different_prompts_take_the_next_one() {
        assert_eq!(of(&[5, 6, 7]), Some(vec![1, 2, 0]));
    }

    #[test]
    fn the_sides_of_pairs_take_the_same_side_of_the_next_pair() {
        assert_eq!(of(&[5, 5, 6, 6, 7, 7]), Some(vec![2, 3, 4, 5, 0, 1]));
    }

    #[test]
    fn rows_of_one_prompt_take_completions_from_elsewhere() {
        assert_eq!((of(&[]), of(&[5]), of(&[5, 5, 5])), (None, None, None));
        let (alone, data) = (rows(&[5, 5, 5]), rows(&[5, 6, 7]));
        let ids = |rows: Vec<Row>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(from_elsewhere(&alone, &data)), ["1", "2", "1"]);
        assert!(from_elsewhere(&alone, &alone).is_empty() && from_elsewhere(&data, &alone).is_empty());
    }

    proptest! {
        #[test]
        fn no_row_is_compared_with_its_own_prompt(prompts in prop::collection::vec(0u32..4, 1..30)) {
            let Some(partners) = of(&prompts) else {
                prop_assert!(prompts.iter().all(|prompt| *prompt == prompts[0]));
                return Ok(());
            };
            for (row, &partner) in partners.iter().enumerate() {
                prop_assert_ne!(prompts[row], prompts[partner]);
            }
            let commonest = (0..4).map(|id| prompts.iter().filter(|prompt| **prompt == id).count()).max().unwrap();
            if 2 * commonest <= prompts.len() {
                let mut taken = partners;
                taken.sort_unstable();
                prop_assert_eq!(taken, (0..prompts.len()).collect::<Vec<_>>());
            }
        }
    }
}
