//! Output directories of several models.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::ModelCompletions;

/// Evaluation directory of each model: `out` for one, a subdirectory each for several.
///
/// # Errors
/// Two models whose names give the same directory.
pub fn directories(out: &Path, models: &[ModelCompletions]) -> Result<Vec<PathBuf>, String> {
    if let [_] = models {
        return Ok(vec![out.to_owned()]);
    }
    let mut taken = HashSet::new();
    let place = |model: &ModelCompletions| {
        let safe = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
        let name: String = model.name.chars().map(safe).collect();
        // Dots would hide the directory, or leave it; a hyphen makes an option of it.
        let plain = name.trim_start_matches(['.', '-']);
        let name = if plain.is_empty() { format!("model{name}") } else { "_".repeat(name.len() - plain.len()) + plain };
        let dir = out.join(&name);
        if taken.insert(name) {
            Ok(dir)
        } else {
            Err(format!("two models would both go to {}; score them one by one", dir.display()))
        }
    };
    models.iter().map(place).collect()
}
