//! `smpo completions`: completion of commands and options for a shell.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::exit::{Exit, Failure, Outcome};
use crate::output::print;

/// Print a script that completes commands and options in a shell.
#[derive(clap::Args)]
#[command(after_help = "The script goes where the shell looks: bash ~/.local/share/bash-completion/completions/smpo,
zsh _smpo in a folder of $fpath, fish ~/.config/fish/completions/smpo.fish.

Example:
  smpo completions bash")]
pub struct CompletionsArgs {
    /// Shell to write for
    shell: Shell,
}

/// Runs the command.
pub fn run(args: CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    generate(args.shell, &mut crate::Cli::command(), "smpo", &mut script);
    print(&String::from_utf8(script).map_err(Failure::execution)?).map(|()| Exit::Success)
}
