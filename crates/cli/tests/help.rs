//! Tests over every command: help texts, examples, README.

use clap::builder::StyledStr;
use clap::{Command, CommandFactory, Parser};

use crate::Cli;

/// Every command and subcommand with its full name, such as `smpo data check`.
fn commands() -> Vec<(String, Command)> {
    fn walk(name: &str, command: &Command, found: &mut Vec<(String, Command)>) {
        found.push((name.to_owned(), command.clone()));
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            walk(&format!("{name} {}", sub.get_name()), sub, found);
        }
    }
    let mut cli = Cli::command().term_width(100);
    cli.build();
    let mut found = Vec::new();
    walk("smpo", &cli, &mut found);
    found
}

fn examples(command: &Command) -> Vec<String> {
    let help = command.get_after_help().map(StyledStr::to_string).unwrap_or_default();
    help.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

// Without mistral.rs there are fewer engines to list.
#[cfg(feature = "mistralrs")]
#[test]
fn help_texts() {
    for (name, mut command) in commands() {
        insta::assert_snapshot!(name.replace(' ', "_"), command.render_long_help());
    }
}

#[test]
fn every_command_has_an_example_that_parses() {
    for (name, command) in commands().iter().skip(1) {
        let examples = examples(command);
        assert!(!examples.is_empty(), "{name}: expected after_help with at least one example");
        for example in examples {
            assert!(example.starts_with(name), "{name}: expected an example of this command, got {example:?}");
            if let Err(error) = Cli::try_parse_from(example.split_whitespace()) {
                panic!("{name}: the example {example:?} does not parse:\n{error}");
            }
        }
    }
}

#[test]
fn every_command_is_in_the_table_of_commands() {
    let table = include_str!("../../../docs/commands.md");
    for command in Cli::command().get_subcommands() {
        let row = format!("| `smpo {}", command.get_name());
        assert!(table.contains(&row), "docs/commands.md: expected a row that starts with {row:?}");
    }
}

#[test]
fn every_output_for_programs_is_described() {
    let table = include_str!("../../../docs/json.md");
    for (name, command) in commands() {
        let described = table.contains(&format!("\n| `{name}` | "));
        let printed = command.get_arguments().any(|argument| argument.get_id() == "format");
        assert_eq!(described, printed, "docs/json.md: {name} has --format: {printed}, a row: {described}");
    }
}

/// Words of a line of shell; `None` for one that is more than a command with plain words.
#[cfg(feature = "mistralrs")]
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            ('#', None) if word.is_none() => break,
            ('|' | '>' | '<' | ';' | '&', None) if word.is_none() => break,
            ('$' | '`' | '…' | '(', _) => return None,
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// Commands of the book that no test runs parse at least.
#[cfg(feature = "mistralrs")] // without it there is no `smpo demo`
#[test]
fn every_command_line_of_the_book_parses() {
    let docs = smpo_fixtures::repository().join("docs");
    let mut seen = 0;
    for path in std::fs::read_dir(docs).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|ending| ending != "md") {
            continue;
        }
        for fence in smpo_fixtures::markdown::fences(&std::fs::read_to_string(&path).unwrap()) {
            let lines = fence.text.replace("\\\n", " ");
            let shell = matches!(fence.language.as_str(), "sh" | "console");
            for line in lines
                .lines()
                .map(|line| line.trim_start_matches("$ "))
                .filter(|line| shell && line.starts_with("smpo "))
            {
                let Some(words) = words(line) else { continue };
                seen += 1;
                if let Err(error) = Cli::try_parse_from(words) {
                    assert!(
                        !error.use_stderr(),
                        "{}:{}: {line:?} does not parse:\n{error}",
                        path.display(),
                        fence.line
                    );
                }
            }
        }
    }
    assert!(seen > 40, "only {seen} command lines were read");
}

#[test]
fn help_starts_with_a_capital_and_names_a_thing() {
    let refused = ["What", "Whether", "Where", "Which", "Why", "How", "When", "Who"];
    let check = |what: &str, text: Option<&StyledStr>| {
        let text = text.map(StyledStr::to_string).unwrap_or_default();
        let first = text.split([' ', ',', ':']).next().unwrap_or_default();
        assert!(text.starts_with(char::is_uppercase), "{what}: expected help that starts with a capital, got {text:?}");
        assert!(!text.ends_with('.'), "{what}: expected help without a full stop, got {text:?}");
        assert!(!refused.contains(&first), "{what}: expected help that names a thing, not {first:?}: {text:?}");
    };
    for (name, command) in commands() {
        check(&name, command.get_about());
        for argument in command.get_arguments() {
            check(&format!("{name}: {}", argument.get_id()), argument.get_help());
        }
    }
}
