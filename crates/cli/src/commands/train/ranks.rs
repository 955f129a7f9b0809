//! The ranks of a training run, as a launcher started them.

use smpo_collectives::Launched;
use smpo_devices::Choice;
use smpo_trainer::Ranks;

use crate::exit::Failure;

/// Joins the ranks that a launcher started, or is one process alone. A rank that trains on a GPU has the one of its number
/// on its machine: `device` says so then.
pub fn start(device: &mut Choice) -> Result<Ranks, Failure> {
    let Some(launched) = Launched::from_env()? else { return Ok(Ranks::default()) };
    let on_gpu = match device {
        Choice::Cuda(_) => true,
        Choice::Auto => cfg!(feature = "cuda"),
        Choice::Cpu | Choice::Emulated => false,
    };
    if on_gpu {
        *device = Choice::Cuda(launched.local_rank);
    }
    join(&launched, on_gpu)
}

fn join(launched: &Launched, on_gpu: bool) -> Result<Ranks, Failure> {
    #[cfg(feature = "nccl")]
    if on_gpu {
        return Ok(Ranks::new(smpo_collectives::Nccl::start(launched)?));
    }
    join_on_host(launched, on_gpu)
}

#[cfg(feature = "mpi")]
fn join_on_host(launched: &Launched, _: bool) -> Result<Ranks, Failure> {
    Ok(Ranks::new(smpo_collectives::Mpi::start(launched)?))
}

#[cfg(not(feature = "mpi"))]
fn join_on_host(launched: &Launched, on_gpu: bool) -> Result<Ranks, Failure> {
    let Launched { launcher, world, .. } = launched;
    let features = if on_gpu { "cuda,nccl" } else { "mpi" };
    Err(Failure::user(format!(
        "{} started {world} processes, and this program was built for one: build it with `cargo build --release --features \
         {features}` (docs/distributed.md), or start one process",
        launcher.command()
    )))
}
