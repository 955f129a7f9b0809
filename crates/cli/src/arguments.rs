//! Reads the command line.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Command, Parser};

/// Messages of the standard library's parsers of numbers, with what this program says.
const NUMBERS: [(&str, &str); 6] = [
    ("invalid digit found in string", "expected a whole number of 0 or more"),
    ("cannot parse integer from empty string", "expected a whole number"),
    ("number too large to fit in target type", "the number is too large"),
    ("number too small to fit in target type", "the number is too small"),
    ("invalid float literal", "expected a number"),
    ("cannot parse float from empty string", "expected a number"),
];

/// The arguments; ends the program with a message where they are wrong or ask for help.
pub fn parse<P: Parser>(arguments: Vec<OsString>) -> P {
    try_parse(arguments).unwrap_or_else(|error| error.exit())
}

/// The arguments.
///
/// # Errors
/// A message where they are wrong or ask for help.
pub fn try_parse<P: Parser>(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<P, clap::Error> {
    let mut command = with_negative_numbers(P::command());
    let mut matches = command.try_get_matches_from_mut(arguments).map_err(in_our_words)?;
    P::from_arg_matches_mut(&mut matches).map_err(|error| in_our_words(error.format(&mut command)))
}

/// The command whose options take a number below zero as their value, so that its parser says what it expects: otherwise it
/// would be read as an option of that name, and be unknown.
fn with_negative_numbers(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let is_option = !arg.is_positional() && arg.get_action().takes_values();
        if is_option { arg.allow_negative_numbers(true) } else { arg }
    });
    command.mut_subcommands(with_negative_numbers)
}

fn in_our_words(error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::ValueValidation {
        return error;
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    match NUMBERS.into_iter().find(|(theirs, _)| text.contains(theirs)) {
        Some((theirs, ours)) => clap::Error::raw(ErrorKind::ValueValidation, text.replacen(theirs, ours, 1)),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    enum Program {
        Draw {
            #[arg(long)]
            seed: u64,
            #[arg(long, default_value_t = 1.0)]
            temperature: f64,
        },
    }

    #[test]
    fn a_number_below_zero_is_a_value() {
        let read = |words: &[&str]| try_parse::<Program>(["smpo", "draw"].iter().chain(words));
        let error = read(&["--seed", "-1"]).unwrap_err().to_string();
        assert!(
            error.contains("invalid value '-1' for '--seed <SEED>': expected a whole number of 0 or more"),
            "{error}"
        );
        let Program::Draw { seed, temperature } = read(&["--seed", "3", "--temperature", "-0.5"]).unwrap();
        assert_eq!((seed, temperature), (3, -0.5));
        assert!(read(&["--seed", "3", "--strange", "-0.5"]).unwrap_err().to_string().contains("--strange"));
    }
}
