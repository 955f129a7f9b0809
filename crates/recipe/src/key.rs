//! Everything that a stage depends on, as one hash.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use smpo_files::{FileError, sha256, sha256_file};

/// Files up to this size are hashed by content, larger ones (weights) by size and time of change.
const HASHED: u64 = 64 << 20;

/// Depth of directories that are looked into.
const DEPTH: usize = 4;

/// Hash of a stage: its command, the keys of the stages before it, and its input files. An input that does not exist (a
/// name of the Hugging Face Hub) counts by its name.
///
/// # Errors
/// When an input cannot be read.
pub(crate) fn key(arguments: &[String], before: &[String], inputs: &[impl AsRef<Path>]) -> Result<String, FileError> {
    let mut lines = vec![format!("command {arguments:?}"), format!("after {before:?}")];
    for input in inputs {
        add(&mut lines, input.as_ref(), DEPTH)?;
    }
    Ok(sha256(lines.join("\n").as_bytes()))
}

fn add(lines: &mut Vec<String>, path: &Path, depth: usize) -> Result<(), FileError> {
    let name = path.display();
    let Ok(metadata) = fs::metadata(path) else {
        lines.push(format!("name {name}"));
        return Ok(());
    };
    if metadata.is_dir() {
        if depth == 0 {
            return Ok(());
        }
        let read = FileError::at(path, "read");
        let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(read)?;
        let mut entries: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        entries.sort();
        return entries.iter().try_for_each(|entry| add(lines, entry, depth - 1));
    }
    lines.push(if metadata.is_file() && metadata.len() <= HASHED {
        format!("file {name} {}", sha256_file(path)?)
    } else {
        let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        format!("large {name} {} {:?}", metadata.len(), changed)
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_counts_and_so_do_command_and_predecessors() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("a.toml"), dir.path().join("model"));
        fs::create_dir(&folder).unwrap();
        fs::write(&file, "x = 1").unwrap();
        fs::write(folder.join("config.json"), "{}").unwrap();
        let arguments = ["train".to_owned()];
        let of = |before: &[String]| key(&arguments, before, &[&file, &folder, Path::new("org/name")]).unwrap();
        let first = of(&[]);
        assert_eq!(of(&[]), first);
        assert_ne!(of(&["other".into()]), first);
        assert_ne!(key(&["eval".to_owned()], &[], &[&file]).unwrap(), key(&arguments, &[], &[&file]).unwrap());
        fs::write(folder.join("config.json"), "{ }").unwrap();
        assert_ne!(of(&[]), first);
        fs::write(folder.join("config.json"), "{}").unwrap();
        assert_eq!(of(&[]), first, "the time of change does not count");
    }
}
