//! The ranks of a training run, as a launcher started them.

use smpo_collectives::Launched;
use smpo_trainer::Ranks;

use crate::exit::Failure;

/// Joins the ranks that a launcher started, or is one process alone.
pub fn start() -> Result<Ranks, Failure> {
    match Launched::from_env()? {
        None => Ok(Ranks::default()),
        Some(launched) => join(launched),
    }
}

#[cfg(feature = "mpi")]
fn join(launched: Launched) -> Result<Ranks, Failure> {
    Ok(Ranks::new(smpo_collectives::Mpi::start(&launched)?))
}

#[cfg(not(feature = "mpi"))]
fn join(launched: Launched) -> Result<Ranks, Failure> {
    let Launched { launcher, world, .. } = launched;
    Err(Failure::user(format!(
        "{} started {world} processes, and this program was built for one: build it with `cargo build --release --features mpi` \
         (docs/distributed.md), or start one process",
        launcher.command()
    )))
}
