//! Output files: none may replace an input or another output, or be a directory.

use std::path::{Path, PathBuf};

use smpo_files::resolved;

use crate::exit::Failure;

/// Files by which evaluations, training runs and models are read again.
const OWN: [&str; 14] = [
    "adapter_config.json",
    "chat_template.jinja",
    "config.json",
    "config.toml",
    "generation_config.json",
    "measurements.jsonl",
    "metrics.json",
    "metrics.jsonl",
    "model.safetensors.index.json",
    "origin.json",
    "run.json",
    "samples.jsonl",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Refuses outputs, each with its option, that are directories or would replace an input, a file by which an input directory is
/// read, or each other.
///
/// # Errors
/// The option and its file.
pub fn check<'a>(
    inputs: impl IntoIterator<Item = &'a PathBuf>,
    outputs: &[(&'static str, Option<&Path>)],
) -> Result<(), Failure> {
    let inputs: Vec<PathBuf> = inputs.into_iter().map(|input| resolved(input)).collect();
    let mut taken: Vec<(&str, PathBuf)> = Vec::new();
    for (option, output) in outputs.iter().filter_map(|(option, output)| Some((*option, (*output)?))) {
        if is_stream(output) {
            continue;
        }
        let place = resolved(output);
        let refuse = |reason: String| {
            Err(Failure::user(format!("{option} {}: {reason}; choose another file", output.display())))
        };
        if inputs.contains(&place) {
            return refuse("it is an input".to_owned());
        }
        if place.is_dir() {
            return refuse("it is a directory".to_owned());
        }
        if let Some((other, _)) = taken.iter().find(|(_, other)| *other == place) {
            return refuse(format!("{other} is written there"));
        }
        if let Some(dir) = inputs.iter().find(|input| place.parent() == Some(input)).filter(|_| is_own(&place)) {
            return refuse(format!("{} is read by it", dir.display()));
        }
        taken.push((option, place));
    }
    Ok(())
}

/// True for an existing file by which a directory is read again.
fn is_own(path: &Path) -> bool {
    let named = path.file_name().is_some_and(|name| OWN.iter().any(|own| name == *own));
    path.is_file() && (named || path.extension().is_some_and(|ending| ending == "safetensors"))
}

/// True for devices, pipes and terminals, which are written through.
fn is_stream(path: &Path) -> bool {
    // `/dev/stdout` may lead to a file; `/dev/shm` holds files.
    path.starts_with("/dev") && !path.starts_with("/dev/shm")
        || path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn outputs_replace_no_input_and_not_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("run")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        for name in ["pairs.jsonl", "run/metrics.jsonl", "run/model.safetensors", "run/verdict.json"] {
            fs::write(at(name), "{}").unwrap();
        }
        let problem = |outputs: &[(&'static str, &str)]| {
            let outputs: Vec<(&'static str, PathBuf)> =
                outputs.iter().map(|(option, name)| (*option, at(name))).collect();
            let outputs: Vec<_> = outputs.iter().map(|(option, path)| (*option, Some(path.as_path()))).collect();
            check(&[at("pairs.jsonl"), at("run")], &outputs).err().map(|failure| failure.to_string())
        };
        assert!(problem(&[("--out", "pairs.jsonl")]).unwrap().contains("it is an input"));
        assert!(problem(&[("--out", "run/../pairs.jsonl")]).unwrap().contains("it is an input"));
        assert!(problem(&[("--out", "directory")]).unwrap().contains("it is a directory"));
        assert!(problem(&[("--out", "new"), ("--csv", "new")]).unwrap().contains("--out is written there"));
        for own in ["run/metrics.jsonl", "run/model.safetensors"] {
            assert!(problem(&[("--out", own)]).unwrap().contains("is read by it"));
        }
        for free in ["run/verdict.json", "run/new.json", "none/new", "/dev/stdout"] {
            assert_eq!(problem(&[("--out", free)]), None, "{free}");
        }
        assert_eq!(problem(&[("--out", "/dev/stdout"), ("--csv", "/dev/stdout")]), None);
    }
}
