//! Collective operations between threads: what every body promises.

use std::thread;

use smpo_collectives::{Collective, CollectiveError, Single, Threads};

/// Results of `work`, rank by rank.
fn on_ranks<T: Send>(ranks: usize, work: impl Fn(Threads) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> =
            Threads::world_of(ranks).into_iter().map(|rank| scope.spawn(move || work(rank))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn sums_are_added_in_the_order_of_ranks() {
    let of_rank = |rank: usize| [0.1 * (rank as f32 + 1.0), 1e8, -(rank as f32)];
    for ranks in 1..=5 {
        let mut expected = of_rank(0);
        for rank in 1..ranks {
            expected.iter_mut().zip(of_rank(rank)).for_each(|(sum, value)| *sum += value);
        }
        let sums = on_ranks(ranks, |rank| {
            let mut values = of_rank(rank.rank());
            rank.sum(&mut values).unwrap();
            values
        });
        assert!(sums.iter().all(|sum| *sum == expected), "{sums:?}");
    }
}

#[test]
fn gathers_and_broadcasts_follow_one_another() {
    on_ranks(4, |rank| {
        for round in 0..200u8 {
            let own = vec![round; rank.rank()];
            let all = rank.gather(&own).unwrap();
            assert_eq!(all, (0..4).map(|other| vec![round; other]).collect::<Vec<_>>());
            let from = usize::from(round) % 4;
            let mut bytes = if rank.rank() == from { vec![7, round] } else { vec![9; 5] };
            rank.broadcast(&mut bytes, from).unwrap();
            assert_eq!(bytes, [7, round]);
            rank.barrier().unwrap();
        }
    });
}

#[test]
fn a_rank_that_ends_fails_the_others() {
    let results = on_ranks(3, |rank| {
        rank.barrier().unwrap();
        if rank.rank() == 1 { Ok(()) } else { rank.barrier() }
    });
    assert_eq!(results, [Err(CollectiveError::Gone(1)), Ok(()), Err(CollectiveError::Gone(1))]);
}

#[test]
fn sums_of_other_lengths_are_refused() {
    let results = on_ranks(2, |rank| rank.sum(&mut vec![0.0; 2 + rank.rank()]));
    assert_eq!(results[0], Err(CollectiveError::Lengths { own: 2, other: 3, rank: 1 }));
    assert_eq!(results[1], Err(CollectiveError::Lengths { own: 3, other: 2, rank: 0 }));
}

#[test]
fn sums_scattered_and_gathered_are_sums() {
    for shares in [vec![0, 1], vec![5, 0, 3], vec![7]] {
        for ranks in 1..=4 {
            let mut bounds = vec![0];
            (0..ranks).for_each(|rank| bounds.push(bounds[rank] + shares[rank % shares.len()]));
            let of = |rank: usize, at: usize| (rank + 1) as f32 * 0.1 + at as f32;
            let expected: Vec<f32> =
                (0..bounds[ranks]).map(|at| (1..ranks).fold(of(0, at), |sum, rank| sum + of(rank, at))).collect();
            on_ranks(ranks, |rank| {
                let mut values: Vec<f32> = (0..bounds[ranks]).map(|at| of(rank.rank(), at)).collect();
                rank.reduce_scatter(&mut values, &bounds).unwrap();
                let own = bounds[rank.rank()]..bounds[rank.rank() + 1];
                assert_eq!(values[own.clone()], expected[own.clone()]);
                // What was undefined comes from its owner.
                let kept = values[own.clone()].to_vec();
                values.fill(f32::NAN);
                values[own].copy_from_slice(&kept);
                rank.all_gather(&mut values, &bounds).unwrap();
                assert_eq!(values, expected);
            });
        }
    }
}

#[test]
fn one_rank_is_itself() {
    let mut values = [1.0, 2.0];
    Single.sum(&mut values).unwrap();
    assert_eq!((values, Single.gather(b"ab").unwrap()), ([1.0, 2.0], vec![b"ab".to_vec()]));
}
