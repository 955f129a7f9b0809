//! Ranks by the variables of other people's launchers: torchrun, srun, mpirun.

use std::env;

use crate::CollectiveError;

/// A launcher, by its variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// torchrun and what imitates it: `RANK`, `WORLD_SIZE`, `LOCAL_RANK`.
    Torchrun,
    /// srun: `SLURM_PROCID`, `SLURM_NTASKS`, `SLURM_LOCALID`.
    Slurm,
    /// Open MPI's mpirun: `OMPI_COMM_WORLD_RANK`, `OMPI_COMM_WORLD_SIZE`, `OMPI_COMM_WORLD_LOCAL_RANK`.
    OpenMpi,
    /// MPICH's mpiexec: `PMI_RANK`, `PMI_SIZE`, `MPI_LOCALRANKID`.
    Mpich,
}

/// One process of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launched {
    /// The launcher.
    pub launcher: Launcher,
    /// Own number, from 0.
    pub rank: usize,
    /// Number of ranks.
    pub world: usize,
    /// Own number among the ranks of this machine.
    pub local_rank: usize,
}

/// In the order of precedence: torchrun may itself be started by srun.
const LAUNCHERS: [Launcher; 4] = [Launcher::Torchrun, Launcher::OpenMpi, Launcher::Mpich, Launcher::Slurm];

impl Launcher {
    /// Command that starts ranks.
    pub fn command(self) -> &'static str {
        match self {
            Self::Torchrun => "torchrun",
            Self::Slurm => "srun",
            Self::OpenMpi => "mpirun",
            Self::Mpich => "mpiexec",
        }
    }

    /// Variables of rank, number of ranks, and rank on this machine.
    fn variables(self) -> [&'static str; 3] {
        match self {
            Self::Torchrun => ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
            Self::Slurm => ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"],
            Self::OpenMpi => ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
            Self::Mpich => ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"],
        }
    }
}

impl Launched {
    /// This process among those that a launcher started; `None` for one alone.
    ///
    /// # Errors
    /// [`CollectiveError::Variable`].
    pub fn from_env() -> Result<Option<Self>, CollectiveError> {
        Self::from_variables(|name| env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, CollectiveError> {
        let started = |launcher: &Launcher| {
            let [rank, world, _] = launcher.variables();
            // A batch script has the variables of its allocation; only a step of srun is a rank.
            let step = *launcher != Launcher::Slurm || variable("SLURM_STEP_ID").is_some();
            step && variable(rank).is_some() && variable(world).is_some()
        };
        let Some(launcher) = LAUNCHERS.into_iter().find(started) else { return Ok(None) };
        let [rank, world, local] = launcher.variables();
        let number = |name: &str, expected: String, fits: &dyn Fn(usize) -> bool| {
            let text = variable(name).unwrap_or_default();
            text.trim().parse().ok().filter(|&value| fits(value)).ok_or_else(|| CollectiveError::Variable {
                name: name.to_owned(),
                expected,
                got: text,
                launcher: launcher.command(),
            })
        };
        let ranks = number(world, "a number of ranks".to_owned(), &|ranks| ranks > 0)?;
        let rank = number(rank, format!("a rank below {ranks}"), &|rank| rank < ranks)?;
        let local_rank = match variable(local) {
            Some(_) => number(local, format!("a rank below {ranks}"), &|rank| rank < ranks)?,
            // Kubernetes' PyTorchJob sets torchrun's variables for a process in a container of its own.
            None if launcher == Launcher::Torchrun => 0,
            None => rank,
        };
        Ok((ranks > 1).then_some(Self { launcher, rank, world: ranks, local_rank }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launched(variables: &[(&str, &str)]) -> Result<Option<Launched>, String> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Launched::from_variables(find).map_err(|error| error.to_string())
    }

    #[test]
    fn every_launcher_is_known_by_its_variables() {
        assert_eq!(launched(&[]), Ok(None));
        for (variables, launcher) in [
            (vec![("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")], Launcher::Torchrun),
            (
                vec![("SLURM_PROCID", "3"), ("SLURM_NTASKS", "4"), ("SLURM_LOCALID", "1"), ("SLURM_STEP_ID", "0")],
                Launcher::Slurm,
            ),
            (
                vec![
                    ("OMPI_COMM_WORLD_RANK", "3"),
                    ("OMPI_COMM_WORLD_SIZE", "4"),
                    ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
                    ("SLURM_PROCID", "0"),
                    ("SLURM_NTASKS", "1"),
                    ("SLURM_STEP_ID", "0"),
                ],
                Launcher::OpenMpi,
            ),
            (vec![("PMI_RANK", "3"), ("PMI_SIZE", "4"), ("MPI_LOCALRANKID", "1")], Launcher::Mpich),
        ] {
            let expected = Launched { launcher, rank: 3, world: 4, local_rank: 1 };
            assert_eq!(launched(&variables), Ok(Some(expected)), "{variables:?}");
        }
    }

    #[test]
    fn a_process_in_a_container_of_its_own_is_the_first_there() {
        let launched = launched(&[("RANK", "3"), ("WORLD_SIZE", "4")]).unwrap().unwrap();
        assert_eq!((launched.rank, launched.local_rank), (3, 0));
    }

    #[test]
    fn one_rank_is_no_launch() {
        assert_eq!(launched(&[("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")]), Ok(None));
        assert_eq!(launched(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]), Ok(None), "a batch script is no rank");
        assert_eq!(launched(&[("RANK", "3")]), Ok(None));
    }

    #[test]
    fn variables_that_make_no_sense_are_named() {
        let error = launched(&[("RANK", "4"), ("WORLD_SIZE", "4")]).unwrap_err();
        assert_eq!(
            error,
            "environment variable RANK: expected a rank below 4, got `4`; start the ranks with torchrun, or unset it"
        );
        assert!(
            launched(&[("PMI_RANK", "0"), ("PMI_SIZE", "zero")]).unwrap_err().contains("PMI_SIZE: expected a number")
        );
        assert!(launched(&[("RANK", "-1"), ("WORLD_SIZE", "2")]).unwrap_err().contains("got `-1`"));
    }
}
