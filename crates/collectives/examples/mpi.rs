//! Every operation between processes: `mpirun -n 4 --oversubscribe target/release/examples/mpi`. Prints `ok` on rank 0.

#[cfg(feature = "mpi")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use smpo_collectives::{Collective, Launched, Mpi};

    let launched = Launched::from_env()?.ok_or("expected several ranks: start this with mpirun -n 2")?;
    let mpi = Mpi::start(&launched)?;
    let (rank, world) = (mpi.rank(), mpi.world());
    for length in [0, 1, world - 1, 1000, (1 << 24) + 3] {
        let of = |rank: usize, at: usize| (rank + 1) as f32 * 0.1 + (at % 977) as f32;
        let mut values: Vec<f32> = (0..length).map(|at| of(rank, at)).collect();
        mpi.sum(&mut values)?;
        for (at, value) in values.iter().enumerate() {
            let expected = (1..world).fold(of(0, at), |sum, rank| sum + of(rank, at));
            assert_eq!(*value, expected, "rank {rank}, value {at} of {length}");
        }
    }
    for shares in [vec![0, 1], vec![5, 0, 3], vec![1 << 20, 7, 0, 100]] {
        let mut bounds = vec![0];
        (0..world).for_each(|rank| bounds.push(bounds[rank] + shares[rank % shares.len()]));
        let of = |rank: usize, at: usize| (rank + 1) as f32 * 0.1 + (at % 977) as f32;
        let mut values: Vec<f32> = (0..bounds[world]).map(|at| of(rank, at)).collect();
        mpi.reduce_scatter(&mut values, &bounds)?;
        mpi.all_gather(&mut values, &bounds)?;
        for (at, value) in values.iter().enumerate() {
            let expected = (1..world).fold(of(0, at), |sum, rank| sum + of(rank, at));
            assert_eq!(*value, expected, "rank {rank}, value {at} of {bounds:?}");
        }
    }
    // Several sums on their way while other operations run, each of its own length, some for their owners alone.
    let mut running = Vec::new();
    for number in 0..7usize {
        let length = [1000, 0, 1, 1 << 18, 77, 5, 1 << 20][number];
        let of = move |rank: usize, at: usize| (rank + number + 1) as f32 * 0.1 + (at % 977) as f32;
        let values: Vec<f32> = (0..length).map(|at| of(rank, at)).collect();
        let mut bounds: Vec<usize> = (0..=world).map(|rank| length * rank * rank / (world * world)).collect();
        bounds[0] = 0;
        let owned = number % 2 == 1;
        running.push((owned, bounds.clone(), of, mpi.start_sum(values, owned.then_some(&bounds[..]))?));
        assert_eq!(mpi.gather(&[number as u8])?, vec![vec![number as u8]; world]);
        // The first is moved on; a slow rank has no part in the order of the others.
        running[0].3.is_done()?;
        std::thread::sleep(std::time::Duration::from_millis(3 * rank as u64));
    }
    for (owned, bounds, of, sum) in running {
        let values = sum.finish()?;
        let own = if owned { bounds[rank]..bounds[rank + 1] } else { 0..values.len() };
        for at in own {
            let expected = (1..world).fold(of(0, at), |sum, rank| sum + of(rank, at));
            assert_eq!(values[at], expected, "rank {rank}, value {at}, owned {owned}");
        }
    }
    for round in 0..50u8 {
        let all = mpi.gather(&vec![round; rank * 1000])?;
        assert_eq!(all, (0..world).map(|rank| vec![round; rank * 1000]).collect::<Vec<_>>());
        let from = usize::from(round) % world;
        let mut bytes = if rank == from { vec![round; 3] } else { vec![] };
        mpi.broadcast(&mut bytes, from)?;
        assert_eq!(bytes, vec![round; 3]);
    }
    mpi.barrier()?;
    if rank == 0 {
        println!("ok");
    }
    Ok(())
}

#[cfg(not(feature = "mpi"))]
fn main() {
    eprintln!("built without the feature `mpi`");
}
