//! Names of models from the paths of their files.

use std::path::{Path, PathBuf};

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

/// The benchmark that all files are of.
pub(super) fn benchmark(paths: &[PathBuf]) -> Option<String> {
    let mut benchmarks = paths.iter().map(|path| benchmark_of(path));
    let first = benchmarks.next().flatten();
    benchmarks.all(|other| other == first).then_some(first).flatten()
}

/// The folder above `model_answer`: `mt_bench` of `data/mt_bench/model_answer/m.jsonl`.
fn benchmark_of(path: &Path) -> Option<String> {
    let folder = path.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "model_answer"))?;
    Some(folder.parent()?.file_name()?.to_string_lossy().into_owned())
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
        assert_eq!(benchmark_of(Path::new("data/mt_bench/model_answer/m.jsonl")).as_deref(), Some("mt_bench"));
        assert_eq!(benchmark_of(Path::new("mt_bench/m.jsonl")), None);
        let paths = [Path::new("a/answers.jsonl"), Path::new("b/answers.jsonl")];
        assert_eq!(paths.map(|path| of_file(path, paths.into_iter())), ["a", "b"]);
    }
}
