//! The leaderboard as JSON: the schema of [`smpo_results`], readable, ending in a newline.

use smpo_results::Leaderboard;

use crate::Error;

/// The whole board, every worst completion in full; what [`smpo_results::read_json`] reads back.
pub fn render(leaderboard: &Leaderboard) -> Result<String, Error> {
    let mut text =
        serde_json::to_string_pretty(leaderboard).map_err(|source| Error::Json { what: "the leaderboard", source })?;
    text.push('\n');
    Ok(text)
}
