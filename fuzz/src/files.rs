//! A directory of a target's own, below shared memory where there is some.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Files that a target reads, one of which each input replaces.
pub struct Files {
    dir: TempDir,
    /// Names, and what they hold while another is replaced.
    known: Vec<(&'static str, Vec<u8>)>,
}

impl Files {
    /// An empty directory.
    pub fn new() -> Self {
        let shared = Path::new("/dev/shm");
        let parent = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        Files { dir: TempDir::with_prefix_in("smpo-fuzz-", parent).expect("a directory"), known: Vec::new() }
    }

    /// A directory with files, by name and content.
    pub fn with<B: Into<Vec<u8>>>(known: impl IntoIterator<Item = (&'static str, B)>) -> Self {
        let mut files = Files::new();
        files.known = known.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
        for (name, bytes) in &files.known {
            files.write(name, bytes);
        }
        files
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("room");
        fs::write(&path, bytes).expect("room");
        path
    }

    /// Replaces the file that the input's first byte names, counted from `0`, while `read` runs.
    pub fn replaced(&self, input: &[u8], read: impl FnOnce(&Path)) {
        let Some((choice, bytes)) = input.split_first() else { return };
        let Some((name, original)) = self.known.get(usize::from(choice.wrapping_sub(b'0'))) else { return };
        self.write(name, bytes);
        read(self.dir());
        self.write(name, original);
    }
}

impl Default for Files {
    fn default() -> Self {
        Files::new()
    }
}
