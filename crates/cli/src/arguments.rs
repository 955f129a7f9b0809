//! Reads the command line.

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;

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
    P::try_parse_from(arguments).unwrap_or_else(|error| end(&error))
}

fn end(error: &clap::Error) -> ! {
    if error.kind() != ErrorKind::ValueValidation {
        error.exit()
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let Some((theirs, ours)) = NUMBERS.into_iter().find(|(theirs, _)| text.contains(theirs)) else { error.exit() };
    let error: clap::Error = clap::Error::raw(ErrorKind::ValueValidation, text.replacen(theirs, ours, 1));
    error.exit()
}
