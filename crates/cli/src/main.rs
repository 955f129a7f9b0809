//! `smpo`: preference-tune language models without breaking them, and prove it.
//!
//! This is the only place that prints or exits. Each command is a file in [`commands`].

mod arguments;
mod commands;
mod exit;
mod hub;
mod interrupt;
mod memory;
mod output;
mod outputs;
mod progress;
mod streams;
#[cfg(test)]
#[path = "../tests/help.rs"]
mod tests;

use std::process::ExitCode;

use clap::Parser;

/// Preference-tune language models without breaking them, and prove it
#[derive(Parser)]
#[command(name = "smpo", version, max_term_width = 100, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    hub::show_downloads();
    let arguments = match hub::local_arguments(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return exit::Failure::from(error).report(),
    };
    let cli: Cli = arguments::parse(arguments);
    match cli.command.run() {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}
