//! Names of repositories.

use std::fmt;
use std::path::Path;

use crate::HubError;

/// Beginning of every name.
const SCHEME: &str = "hf://";

/// Kind of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoKind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

/// A repository, one of its revisions, and a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    /// Model or data set.
    pub kind: RepoKind,
    /// `ORG/NAME`.
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// A file, folder, pattern or split; empty for all.
    pub path: String,
}

impl HubName {
    /// The name that a path is; `None` for a path of this machine.
    ///
    /// # Errors
    /// When it begins as a name and is none.
    pub fn of_path(path: &Path) -> Result<Option<Self>, HubError> {
        path.to_str().filter(|text| text.starts_with(SCHEME)).map(Self::parse).transpose()
    }

    /// Reads a name.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(name: &str) -> Result<Self, HubError> {
        let fail = |problem| HubError::Name { name: name.to_string(), problem };
        let rest = name.strip_prefix(SCHEME).ok_or_else(|| fail("another beginning"))?;
        let (kind, rest) = match (rest.strip_prefix("datasets/"), rest.strip_prefix("models/")) {
            (Some(rest), _) => (RepoKind::Dataset, rest),
            (None, Some(rest)) => (RepoKind::Model, rest),
            (None, None) => (RepoKind::Model, rest),
        };
        let end = rest.match_indices('/').nth(1).map_or(rest.len(), |(at, _)| at);
        let (repo, revision, path) = match rest[..end].split_once('@') {
            None => (&rest[..end], "main", rest[end..].trim_start_matches('/')),
            Some((repo, _)) => {
                let (revision, path) = split_revision(&rest[repo.len() + 1..]);
                (repo, revision, path)
            }
        };
        let mut parts = repo.split('/');
        if !(parts.clone().count() == 2 && parts.all(is_name)) {
            return Err(fail("another form of ORG/NAME"));
        }
        if revision.is_empty() || !revision.split('/').all(is_name) {
            return Err(fail("a malformed revision"));
        }
        if !path.is_empty() && !path.split('/').all(is_part) {
            return Err(fail("a malformed path"));
        }
        Ok(Self { kind, repo: repo.into(), revision: revision.into(), path: path.into() })
    }
}

/// A revision and what follows it; the Hub's own branches have slashes (`refs/convert/parquet`).
fn split_revision(text: &str) -> (&str, &str) {
    let slashes = if text.starts_with("refs/convert/") || text.starts_with("refs/pr/") { 2 } else { 0 };
    match text.match_indices('/').nth(slashes) {
        Some((at, _)) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    }
}

fn is_name(text: &str) -> bool {
    is_part(text) && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// True for a name that stays below its folder.
pub(crate) fn is_part(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['\\', '\0'])
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let datasets = if self.kind == RepoKind::Dataset { "datasets/" } else { "" };
        write!(f, "{SCHEME}{datasets}{}@{}", self.repo, self.revision)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

#[cfg(test)]
mod tests {
    use super::{HubName, RepoKind};
    use std::path::Path;

    #[test]
    fn names_have_a_repository_a_revision_and_a_path() {
        for (name, kind, repo, revision, path) in [
            ("hf://org/model", RepoKind::Model, "org/model", "main", ""),
            ("hf://models/org/model@v1.0", RepoKind::Model, "org/model", "v1.0", ""),
            ("hf://datasets/org/rows", RepoKind::Dataset, "org/rows", "main", ""),
            ("hf://datasets/org/rows/train_prefs", RepoKind::Dataset, "org/rows", "main", "train_prefs"),
            ("hf://datasets/org/rows@abc/data/*.parquet", RepoKind::Dataset, "org/rows", "abc", "data/*.parquet"),
            (
                "hf://datasets/org/rows@refs/convert/parquet/default",
                RepoKind::Dataset,
                "org/rows",
                "refs/convert/parquet",
                "default",
            ),
        ] {
            let found = HubName::parse(name).unwrap();
            let expected = HubName { kind, repo: repo.into(), revision: revision.into(), path: path.into() };
            assert_eq!(found, expected, "{name}");
            assert_eq!(HubName::parse(&found.to_string()).unwrap(), expected);
        }
    }

    #[test]
    fn other_texts_are_refused_or_are_paths() {
        for name in [
            "hf://",
            "hf://model",
            "hf://org/",
            "hf://../model",
            "hf://org/m@",
            "hf://datasets/o/n/../x",
            "hf://a/b@../c",
        ] {
            assert!(HubName::parse(name).is_err(), "{name}");
        }
        assert_eq!(HubName::of_path(Path::new("data/pairs.jsonl")).unwrap(), None);
    }
}
