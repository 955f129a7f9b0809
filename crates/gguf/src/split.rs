//! Files that a model is split into: `NAME-00001-of-00003.gguf` and its siblings.

use std::path::{Path, PathBuf};

use crate::error::{GgufError, Result};
use crate::part::Part;

/// Parts of a model at most.
const MOST_PARTS: usize = 4096;

/// The files of a model of which one is given: itself, or all parts by their names.
pub(crate) fn names(path: &Path) -> Vec<PathBuf> {
    let parts = || {
        let name = path.file_name()?.to_str()?;
        let (stem, ending) = name.rsplit_once('.')?;
        let (before, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = before.rsplit_once('-')?;
        let (number, count) = (five_digits(number)?, five_digits(count)?);
        (1..=count).contains(&number).then_some(())?;
        let part = |number| path.with_file_name(format!("{prefix}-{number:05}-of-{count:05}.{ending}"));
        (count <= MOST_PARTS).then(|| (1..=count).map(part).collect())
    };
    parts().unwrap_or_else(|| vec![path.to_path_buf()])
}

fn five_digits(text: &str) -> Option<usize> {
    (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Opens all parts of a model.
pub(crate) fn open(path: &Path) -> Result<Vec<Part>> {
    let names = names(path);
    for name in names.iter().filter(|_| names.len() > 1) {
        if !name.is_file() {
            let expected = format!("all {} parts of the model in one directory", names.len());
            let absent = name.file_name().unwrap_or_default().to_string_lossy();
            return Err(GgufError::field(path, "split", expected, format!("no {absent}")));
        }
    }
    let parts = names.iter().map(|name| Part::open(name)).collect::<Result<Vec<_>>>()?;
    check(&parts)?;
    Ok(parts)
}

/// Refuses parts that are not those of one model.
fn check(parts: &[Part]) -> Result<()> {
    let count = parts.len() as u64;
    let whole = |part: &Part, key: &str| part.metadata.whole(key);
    for (number, part) in parts.iter().enumerate() {
        let [said_count, said_number] = [whole(part, "split.count")?, whole(part, "split.no")?];
        // A whole file may say that it is one of one, or of none.
        let said_count = said_count.filter(|said| *said > 1 || count > 1);
        if said_count.is_some_and(|said| said != count) || (count > 1 && said_count.is_none()) {
            let expected = match count {
                1 => "a whole model, or the name NAME-00001-of-00002.gguf of a part".to_string(),
                _ => format!("{count}, by the file's name"),
            };
            let got = said_count.map_or_else(|| "nothing".to_string(), |said| said.to_string());
            return Err(part.metadata.error("split.count", expected, got));
        }
        if count > 1 && said_number != Some(number as u64) {
            let got = said_number.map_or_else(|| "nothing".to_string(), |said| said.to_string());
            return Err(part.metadata.error("split.no", format!("{number}, by the file's name"), got));
        }
    }
    let Some(first) = parts.first() else { return Ok(()) };
    let tensors: usize = parts.iter().map(|part| part.tensors.len()).sum();
    match whole(first, "split.tensors.count")?.filter(|_| count > 1) {
        Some(said) if said != tensors as u64 => {
            Err(first.metadata.error("split.tensors.count", format!("{tensors}, as the parts have"), said))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_by_any_of_them() {
        let shown = |path: &str| names(Path::new(path)).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(shown("a/m-00002-of-00002.gguf"), ["a/m-00001-of-00002.gguf", "a/m-00002-of-00002.gguf"]);
        for whole in ["m.gguf", "m-00003-of-00002.gguf", "m-0001-of-0002.gguf", "m-00000-of-00002.gguf"] {
            assert_eq!(shown(whole), [whole]);
        }
        assert_eq!(names(Path::new("m-00001-of-99999.gguf")).len(), 1);
    }
}
