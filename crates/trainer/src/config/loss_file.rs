//! The loss of a file: a training configuration, or `[loss]` alone.

use std::path::Path;

use smpo_losses::{LossConfig, Objective};

use super::TrainConfig;
use super::file::ConfigFile;
use super::read::of_key;
use crate::error::TrainError;

/// Reads a TOML file with a `[loss]` table. A file with more than that must be a valid training configuration.
///
/// # Errors
/// [`TrainError`] with the line.
pub fn read_objective(path: &Path) -> Result<Objective, TrainError> {
    let text = std::fs::read_to_string(path).map_err(crate::error::io(path, "read"))?;
    let file = ConfigFile::new(&text, path);
    let mut table = file.toml()?;
    let objective = match table.remove("loss") {
        Some(_) if !table.is_empty() => return Ok(Objective::new(TrainConfig::parse(&text, path, &[])?.loss)?),
        Some(loss) => parse_loss(loss),
        None => Err(no_loss(&table)),
    };
    objective.map_err(|message| file.error(Some(line_of_quoted(&text, &message)), message))
}

fn parse_loss(loss: toml::Value) -> Result<Objective, String> {
    if !loss.is_table() {
        return Err(format!("`loss`: expected a table, got {loss}"));
    }
    let config: LossConfig = loss.try_into().map_err(|error: toml::de::Error| of_key(error.message()))?;
    Objective::new(config).map_err(|error| error.to_string())
}

fn no_loss(table: &toml::Table) -> String {
    if table.contains_key("kind") {
        return "`kind` stands outside a table: expected a line [loss] above it".to_owned();
    }
    match table.keys().find(|key| smpo_suggest::nearest(key, ["loss"]).is_some()) {
        Some(key) => format!("`{key}`: expected a table [loss], did you mean that?"),
        None => "expected a table [loss], got none".to_owned(),
    }
}

/// The line of the first quoted word of `message` that starts a line of `text`, from 1.
fn line_of_quoted(text: &str, message: &str) -> usize {
    let starts = |line: &str, word: &str| {
        let line = line.trim_start().trim_start_matches('[');
        line.strip_prefix(word).is_some_and(|rest| rest.trim_start().starts_with(['=', ']']))
    };
    let words = message.split('`').skip(1).step_by(2);
    let line = |word: &str| text.lines().position(|line| starts(line, word));
    // `kind` is there whenever a table is; its value is what most messages quote first.
    words.chain(["kind"]).find_map(line).map_or(1, |index| index + 1)
}
