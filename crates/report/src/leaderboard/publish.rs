//! A leaderboard as a directory: the page, Markdown, JSON, and the samples it links to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use smpo_files::{FileError, copy_whole, remove_file, write_whole};
use smpo_results::{Board, Leaderboard, RunManifest};

use super::{cards, html, json, markdown};
use crate::Error;

/// Errors of writing a leaderboard.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Rendering failed.
    #[error(transparent)]
    Render(#[from] Error),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Writes `leaderboard.json`, `leaderboard.md`, `index.html` and `samples/` to `out`, so that the directory can be moved
/// or published as a whole. `samples` are the sample files of the runs by their manifests; the entries of `leaderboard`
/// get links to the copies.
///
/// # Errors
/// [`PublishError`].
pub fn publish(
    leaderboard: &mut Leaderboard,
    samples: &[(RunManifest, PathBuf)],
    out: &Path,
) -> Result<(), PublishError> {
    let mut samples: Vec<Option<&(RunManifest, PathBuf)>> = samples.iter().map(Some).collect();
    let mut names = BTreeSet::new();
    let before = sample_files(&out.join("leaderboard.json"));
    for board in &mut leaderboard.boards {
        copy_samples(board, &mut samples, &mut names, out)?;
        cards::fill(board);
    }
    let kept: BTreeSet<&String> =
        leaderboard.boards.iter().flat_map(|board| &board.entries).flat_map(|entry| &entry.sample_files).collect();
    for gone in before.iter().filter(|file| !kept.contains(file)) {
        remove_file(&out.join(gone))?;
    }
    for (file, text) in [
        ("leaderboard.json", json::render(leaderboard)?),
        ("leaderboard.md", markdown::render(leaderboard)),
        ("index.html", html::render(leaderboard)?),
    ] {
        write_whole(&out.join(file), text.as_bytes())?;
    }
    Ok(())
}

/// The sample files of a board that was written here before.
fn sample_files(board: &Path) -> Vec<String> {
    let read = std::fs::read(board).ok().and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let boards = read.as_ref().and_then(|read| read["boards"].as_array()).into_iter().flatten();
    let entries = boards.flat_map(|board| board["entries"].as_array()).flatten();
    let files = entries.flat_map(|entry| entry["sample_files"].as_array()).flatten();
    let own = |file: &str| {
        file.strip_prefix("samples/").is_some_and(|name| !name.contains(['/', '\\']) && name.ends_with(".jsonl"))
    };
    files.filter_map(|file| Some(file.as_str()?.to_owned())).filter(|file| own(file)).collect()
}

/// Copies every run's samples beside the page; each of `samples` once.
fn copy_samples(
    board: &mut Board,
    samples: &mut [Option<&(RunManifest, PathBuf)>],
    names: &mut BTreeSet<String>,
    out: &Path,
) -> Result<(), FileError> {
    for entry in &mut board.entries {
        for manifest in &entry.provenance {
            let source = samples.iter_mut().find(|source| source.is_some_and(|(of, _)| of == manifest));
            let Some((_, path)) = source.and_then(Option::take) else { continue };
            let link = format!("samples/{}.jsonl", file_name(manifest, names));
            copy_whole(path, &out.join(&link))?;
            entry.sample_files.push(link);
        }
    }
    Ok(())
}

/// The model's name with characters that are safe in file names and links; a number makes it unique.
fn file_name(manifest: &RunManifest, taken: &mut BTreeSet<String>) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = manifest.model.name.chars().take(60).map(safe).collect();
    let plain = match name.trim_matches('-') {
        "" => "model",
        name => name,
    };
    let mut unique = plain.to_owned();
    let mut number = 2;
    while !taken.insert(unique.clone()) {
        unique = format!("{plain}-{number}");
        number += 1;
    }
    unique
}
