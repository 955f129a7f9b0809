//! `smpo man`: the help texts as manual pages.

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use smpo_files::write_whole;

use crate::exit::{Exit, Failure, OrFail, Outcome};
use crate::output::print;

/// Write manual pages: smpo.1 and one for each command.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  smpo man ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Directory to write to
    dir: PathBuf,
}

/// Runs the command.
pub fn run(args: ManArgs) -> Outcome {
    let mut program = crate::Cli::command().disable_help_subcommand(true);
    program.build();
    let pages = write("smpo", &program, &args.dir)?;
    print(&format!("{pages} pages: {}", args.dir.display()))?;
    Ok(Exit::Success)
}

/// Writes the page of a command and those of its subcommands; gives their number.
fn write(name: &str, command: &Command, dir: &Path) -> Result<usize, Failure> {
    let mut page = Vec::new();
    let source = format!("smpo {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone().display_name(name)).title(name.to_uppercase()).source(source);
    man.render(&mut page).or_execution_error()?;
    write_whole(&dir.join(format!("{name}.1")), &page).or_execution_error()?;
    let pages = command.get_subcommands().map(|sub| write(&format!("{name}-{}", sub.get_name()), sub, dir));
    Ok(1 + pages.sum::<Result<usize, Failure>>()?)
}
