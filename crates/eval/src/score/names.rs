//! Names of models from the paths of their files.

use std::path::Path;

/// Stems that say what a file holds and not of which model.
const GENERIC: [&str; 5] = ["samples", "outputs", "model_outputs", "scenario_state", "predictions"];

/// The file's name without its ending, packed or not: `m` of `m.jsonl.gz`.
pub(super) fn stem(path: &Path) -> String {
    let packed = path.extension().is_some_and(|ending| ["gz", "zst"].iter().any(|known| ending == *known));
    let stem = path.file_stem().unwrap_or_default();
    let stem = if packed { Path::new(stem).file_stem().unwrap_or_default() } else { stem };
    stem.to_string_lossy().into_owned()
}

/// A model whose file does not name it: called after the file, after its directory where the file's name is a general
/// one or another's too.
pub(super) fn of_file<'a>(path: &Path, mut others: impl Iterator<Item = &'a Path>) -> String {
    let name = stem(path);
    let general = GENERIC.contains(&name.as_str()) || others.any(|other| other != path && stem(other) == name);
    let dir = path.parent().and_then(Path::file_name).filter(|_| general);
    dir.map_or(name, |dir| dir.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_name_unless_it_is_a_general_one() {
        let alone = |path: &str| of_file(Path::new(path), std::iter::empty());
        for (path, name) in [
            ("a/m.jsonl", "m"),
            ("m.v2.jsonl.gz", "m.v2"),
            ("org/run/samples.jsonl", "run"),
            ("outputs.jsonl", "outputs"),
        ] {
            assert_eq!(alone(path), name);
        }
        let paths = [Path::new("a/answers.jsonl"), Path::new("b/answers.jsonl")];
        assert_eq!(paths.map(|path| of_file(path, paths.into_iter())), ["a", "b"]);
    }
}
