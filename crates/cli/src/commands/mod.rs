//! The commands, one file each. To add one: write its file with an `Args` and a `run`, then name it here twice.

use clap::Subcommand;

use crate::exit::Outcome;

#[derive(Subcommand)]
pub enum Command {}

impl Command {
    pub fn run(self) -> Outcome {
        match self {}
    }
}
