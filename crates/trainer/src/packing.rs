//! Packing: the rows of a step that share a forward pass.
//!
//! A pack is bounded by its tokens and has no padding, so memory does not depend on how a step is cut into rows, and
//! short rows do not leave the device idle. The objective decides which rows must be *evaluated* together: a [`Unit`] is
//! the packs of such rows, mostly one.

use std::cmp::Reverse;
use std::ops::Range;

use smpo_losses::Objective;

/// Rows that the objective evaluates together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Rows of each of the configuration's micro-batches in it, in order.
    pub microbatches: Vec<usize>,
    /// Rows of each pack, by their index in the step, ascending.
    pub packs: Vec<Vec<usize>>,
}

impl Unit {
    /// Its rows, ascending.
    pub fn rows(&self) -> Vec<usize> {
        let mut rows = self.packs.concat();
        rows.sort_unstable();
        rows
    }
}

/// Cuts a step of rows with `tokens` each into units of packs of at most `most` tokens; a longer row is a pack of its
/// own. The same rows give the same units.
///
/// `micro_batch` is the configuration's number of rows in a micro-batch, over which an objective may take quantiles.
pub(crate) fn units(objective: &Objective, tokens: &[usize], micro_batch: usize, most: usize) -> Vec<Unit> {
    let rows = tokens.len();
    let micro_batches: Vec<Range<usize>> =
        (0..rows).step_by(micro_batch).map(|start| start..rows.min(start + micro_batch)).collect();
    if objective.needs_whole_step() {
        let microbatches = micro_batches.iter().map(Range::len).collect();
        return vec![Unit { microbatches, packs: packs(tokens, most) }];
    }
    if !objective.needs_whole_microbatch() {
        let one = |pack: Vec<usize>| Unit { microbatches: vec![pack.len()], packs: vec![pack] };
        return packs(tokens, most).into_iter().map(one).collect();
    }
    let sizes: Vec<usize> = micro_batches.iter().map(|rows| tokens[rows.clone()].iter().sum()).collect();
    packs(&sizes, most)
        .into_iter()
        .map(|members| {
            let ranges = || members.iter().map(|&index| micro_batches[index].clone());
            let packs = match &members[..] {
                &[alone] if sizes[alone] > most => {
                    let first = micro_batches[alone].start;
                    let packs = packs(&tokens[micro_batches[alone].clone()], most);
                    packs.into_iter().map(|pack| pack.into_iter().map(|row| first + row).collect()).collect()
                }
                _ => vec![ranges().flatten().collect()],
            };
            Unit { microbatches: ranges().map(|rows| rows.len()).collect(), packs }
        })
        .collect()
}

/// Spreads items of some `sizes` over as few packs of at most `most` as possible, about equally full: the largest first,
/// each into the emptiest pack (Graham's longest-processing-time rule, 1969). Packs and their members are in ascending
/// order.
pub(crate) fn packs(sizes: &[usize], most: usize) -> Vec<Vec<usize>> {
    struct Pack {
        load: usize,
        members: Vec<usize>,
    }
    let mut largest_first: Vec<usize> = (0..sizes.len()).collect();
    largest_first.sort_by_key(|&index| Reverse(sizes[index]));
    let least = sizes.iter().map(|&size| size.min(most)).sum::<usize>().div_ceil(most.max(1));
    let mut packs: Vec<Pack> = (0..least).map(|_| Pack { load: 0, members: Vec::new() }).collect();
    for index in largest_first {
        let size = sizes[index];
        match packs.iter_mut().min_by_key(|pack| pack.load) {
            Some(pack) if pack.members.is_empty() || pack.load + size <= most => {
                pack.load += size;
                pack.members.push(index);
            }
            _ => packs.push(Pack { load: size, members: vec![index] }),
        }
    }
    let mut packs: Vec<Vec<usize>> =
        packs.into_iter().map(|pack| pack.members).filter(|members| !members.is_empty()).collect();
    packs.iter_mut().for_each(|members| members.sort_unstable());
    packs.sort_unstable();
    packs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smpo_losses::LossConfig;

    use super::*;

    fn objective(table: &str) -> Objective {
        Objective::new(toml::from_str::<LossConfig>(table).unwrap()).unwrap()
    }

    #[test]
    fn packs_are_balanced() {
        assert_eq!(packs(&[5, 1, 4, 2, 3, 3], 9), [vec![0, 1, 5], vec![2, 3, 4]]);
        assert_eq!(packs(&[20, 1, 1], 9), [vec![0], vec![1, 2]]);
        assert_eq!(packs(&[6, 6, 6], 9), [vec![0], vec![1], vec![2]]);
        assert_eq!(packs(&[], 9), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn units_follow_what_the_objective_needs() {
        let tokens = [3, 3, 3, 3, 3, 3];
        let free = units(&objective("kind = \"smpo\""), &tokens, 2, 9);
        assert_eq!(free.iter().map(|unit| unit.packs.len()).collect::<Vec<_>>(), [1, 1]);
        let step = "kind = \"smpo\"\nlower_clip_percentile = 0.02\nwinsor_scope = \"step\"";
        let whole = units(&objective(step), &tokens, 2, 9);
        assert_eq!(whole.len(), 1);
        assert_eq!((whole[0].packs.len(), &whole[0].microbatches[..]), (2, &[2, 2, 2][..]));
        let scope = "kind = \"smpo\"\nlower_clip_percentile = 0.02\nwinsor_scope = \"microbatch\"";
        let joined = units(&objective(scope), &tokens, 2, 12);
        let shape: Vec<_> = joined.iter().map(|unit| (unit.packs.clone(), unit.microbatches.clone())).collect();
        assert_eq!(shape, [(vec![vec![0, 1, 4, 5]], vec![2, 2]), (vec![vec![2, 3]], vec![2])]);
        let cut = units(&objective(scope), &tokens, 3, 6);
        let shape: Vec<_> = cut.iter().map(|unit| (unit.packs.clone(), unit.microbatches.clone())).collect();
        assert_eq!(shape[0], (vec![vec![0, 2], vec![1]], vec![3]));
        assert_eq!(shape[1], (vec![vec![3, 5], vec![4]], vec![3]));
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_pack_and_packs_keep_the_bound(
            sizes in prop::collection::vec(1usize..50, 1..60),
            most in 1usize..120,
            micro_batch in 1usize..9,
            scope in prop::sample::select(vec!["", "\nlower_clip_percentile = 0.1", "\nlower_clip_percentile = 0.1\nwinsor_scope = \"step\""]),
        ) {
            let units = units(&objective(&format!("kind = \"smpo\"{scope}")), &sizes, micro_batch, most);
            let mut seen: Vec<usize> = units.iter().flat_map(Unit::rows).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..sizes.len()).collect::<Vec<_>>());
            for unit in &units {
                prop_assert_eq!(unit.microbatches.iter().sum::<usize>(), unit.rows().len());
                for pack in &unit.packs {
                    prop_assert!(pack.is_sorted());
                    let load: usize = pack.iter().map(|&row| sizes[row]).sum();
                    prop_assert!(load <= most || pack.len() == 1);
                }
            }
        }

        #[test]
        fn no_two_packs_would_fit_into_one(sizes in prop::collection::vec(1usize..50, 1..60), most in 50usize..200) {
            let loads: Vec<usize> =
                packs(&sizes, most).iter().map(|pack| pack.iter().map(|&index| sizes[index]).sum()).collect();
            let least = sizes.iter().sum::<usize>().div_ceil(most);
            if loads.len() > least {
                let mut sorted = loads.clone();
                sorted.sort_unstable();
                prop_assert!(sorted[0] + sorted[1] > most);
            }
        }
    }
}
