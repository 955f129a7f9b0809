//! A repository at one commit, and its files in the cache.

use std::io;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use crate::name::is_part;
use crate::observer;
use crate::{Download, HubError, HubName, RepoKind, Settings};

/// Attempts to go on with a download that breaks off.
const RETRIES: usize = 3;

/// Files of a model directory; what else a repository holds is for other programs.
const MODEL_ENDINGS: [&str; 5] = [".safetensors", ".json", ".jinja", ".model", ".txt"];

/// A repository at one commit.
pub struct Repository {
    name: HubName,
    /// Folder of the commit in the cache.
    snapshot: PathBuf,
    files: Vec<String>,
    /// `None` offline.
    remote: Option<ApiRepo>,
}

impl Repository {
    /// Looks a revision up, on the Hub or, offline, in the cache.
    ///
    /// # Errors
    /// When there is none, or the Hub cannot be asked.
    pub fn open(name: HubName, settings: &Settings) -> Result<Self, HubError> {
        let folder = settings.cache.join(repo(&name, &name.revision).folder_name());
        if settings.offline {
            return Self::cached(name, settings, &folder);
        }
        let fail = |problem: String| HubError::Request { name: name.to_string(), problem };
        let api = api(settings).map_err(|error| fail(error.to_string()))?;
        let info = api.repo(repo(&name, &name.revision)).info().map_err(|error| fail(explained(&error.to_string())))?;
        if !is_part(&info.sha) || info.sha.contains('/') {
            return Err(fail(format!("expected a commit, got {:?}", info.sha)));
        }
        let files = info.siblings.into_iter().map(|file| file.rfilename);
        let files = files.filter(|file| file.split('/').all(is_part)).collect();
        let cache = Cache::new(settings.cache.clone());
        let noted = cache.repo(repo(&name, &name.revision)).create_ref(&info.sha);
        noted.map_err(|source| HubError::Cache { path: folder.clone(), source })?;
        let remote = Some(api.repo(repo(&name, &info.sha)));
        Ok(Self { name, snapshot: folder.join("snapshots").join(&info.sha), files, remote })
    }

    fn cached(name: HubName, settings: &Settings, folder: &Path) -> Result<Self, HubError> {
        let commit = std::fs::read_to_string(folder.join("refs").join(&name.revision));
        // a commit is its own name
        let commit = commit.unwrap_or_else(|_| name.revision.clone());
        let snapshot = folder.join("snapshots").join(commit.trim());
        if !snapshot.is_dir() {
            return Err(HubError::NotCached { name: name.to_string(), path: settings.cache.clone() });
        }
        let mut files = Vec::new();
        walk(&snapshot, &snapshot, &mut files).map_err(|source| HubError::Cache { path: snapshot.clone(), source })?;
        Ok(Self { name, snapshot, files, remote: None })
    }

    /// Paths of its files in the repository; offline, of those that are cached.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// A file on this machine, downloaded if it is not in the cache.
    ///
    /// # Errors
    /// When it cannot be downloaded.
    pub fn fetch(&self, file: &str) -> Result<PathBuf, HubError> {
        let path = self.snapshot.join(file);
        let Some(remote) = self.remote.as_ref().filter(|_| !path.is_file()) else { return Ok(path) };
        let watch = Watch { file, done: 0, total: 0 };
        let request = |error: hf_hub::api::sync::ApiError| HubError::Request {
            name: self.name.to_string(),
            problem: format!("{file}: {}", explained(&error.to_string())),
        };
        remote.download_with_progress(file, watch).map_err(request)
    }

    /// The directory of a model, with every file that models are read from; or the one file that the name gives.
    ///
    /// # Errors
    /// When it is no model, or a file cannot be downloaded.
    pub fn model_dir(&self) -> Result<PathBuf, HubError> {
        let fail = |problem: &str| HubError::Request { name: self.name.to_string(), problem: problem.to_string() };
        if self.name.kind != RepoKind::Model {
            return Err(fail("expected a model, got a data set"));
        }
        if !self.name.path.is_empty() {
            return match self.files.contains(&self.name.path) {
                true => self.fetch(&self.name.path),
                false => Err(fail("the repository has no file of that name")),
            };
        }
        let is_wanted =
            |file: &&String| !file.contains('/') && MODEL_ENDINGS.iter().any(|ending| file.ends_with(ending));
        let wanted: Vec<&String> = self.files.iter().filter(is_wanted).collect();
        if !wanted.iter().any(|file| ["config.json", "adapter_config.json"].contains(&file.as_str())) {
            return Err(fail("expected a model with config.json, or an adapter with adapter_config.json, got neither"));
        }
        for file in wanted {
            self.fetch(file)?;
        }
        Ok(self.snapshot.clone())
    }
}

fn repo(name: &HubName, revision: &str) -> Repo {
    let kind = match name.kind {
        RepoKind::Model => RepoType::Model,
        RepoKind::Dataset => RepoType::Dataset,
    };
    Repo::with_revision(name.repo.clone(), kind, revision.to_string())
}

fn api(settings: &Settings) -> Result<Api, hf_hub::api::sync::ApiError> {
    ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
        .with_endpoint(settings.endpoint.clone())
        .with_token(settings.token.clone())
        .with_retries(RETRIES)
        .with_progress(false)
        .build()
}

/// An answer of the Hub with what to do about it.
fn explained(answer: &str) -> String {
    let says = |code: u16| answer.contains(&format!("status code {code}"));
    let remedy = if says(404) {
        "no such repository, revision or file"
    } else if says(401) || says(403) {
        "no such repository, or no access to it: accept its terms, and set HF_TOKEN or log in with `hf auth login`"
    } else {
        "the Hub cannot be reached; HF_HUB_OFFLINE=1 takes a copy that is in the cache"
    };
    format!("{remedy} ({answer})")
}

/// Adds the files under a folder, by their paths in the repository.
fn walk(root: &Path, dir: &Path, files: &mut Vec<String>) -> io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(dir)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(root, &path, files)?;
        } else if let Ok(inner) = path.strip_prefix(root) {
            files.push(inner.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}

/// Counts the bytes of a download.
struct Watch<'a> {
    file: &'a str,
    done: u64,
    total: u64,
}

impl Watch<'_> {
    fn tell(&self) {
        observer::tell(Download { file: self.file, done: self.done, total: self.total });
    }
}

impl Progress for Watch<'_> {
    fn init(&mut self, size: usize, _: &str) {
        self.total = size as u64;
        self.tell();
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        self.tell();
    }

    fn finish(&mut self) {
        self.done = self.total;
        self.tell();
    }
}
