//! Classification of an output path: a regular file to replace, or something to write through.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::FileError;

/// Symbolic links followed before a cycle is assumed; Linux's own limit.
const MAX_LINKS: usize = 40;

/// The object at the end of a path's symbolic links.
#[derive(Debug)]
pub(crate) enum Destination {
    /// A regular file, or nothing yet.
    File {
        /// Its path, with no symbolic link as last component.
        path: PathBuf,
        /// Permissions of the existing file.
        permissions: Option<fs::Permissions>,
    },
    /// This process's standard output.
    Stdout,
    /// This process's standard error.
    Stderr,
    /// A device, pipe or socket.
    Special(PathBuf),
    /// An open file descriptor by its path, `/dev/fd/3`: appended to, whatever it is.
    Descriptor(PathBuf),
}

impl Destination {
    /// Follows the symbolic links of `path`.
    pub(crate) fn of(path: &Path) -> Result<Self, FileError> {
        let fail = |source| FileError::at(path, "write")(source);
        let mut current = path.to_owned();
        for _ in 0..=MAX_LINKS {
            match current.to_str() {
                Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => return Ok(Destination::Stdout),
                Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => return Ok(Destination::Stderr),
                _ => {}
            }
            let found = match fs::symlink_metadata(&current) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Ok(Destination::File { path: current, permissions: None });
                }
                found => found.map_err(fail)?,
            };
            let kind = found.file_type();
            if kind.is_symlink() {
                if in_proc(&current) {
                    return Ok(Destination::Descriptor(current));
                }
                let target = fs::read_link(&current).map_err(fail)?;
                current = parent(&current).join(target);
            } else if kind.is_file() {
                return Ok(Destination::File { path: current, permissions: Some(found.permissions()) });
            } else if kind.is_dir() {
                return Err(fail(ErrorKind::IsADirectory.into()));
            } else {
                return Ok(Destination::Special(current));
            }
        }
        Err(fail(io::Error::other("too many symbolic links")))
    }
}

/// True for the links of `/proc`, which name open files rather than paths.
fn in_proc(path: &Path) -> bool {
    fs::canonicalize(parent(path)).is_ok_and(|dir| dir.starts_with("/proc"))
}

/// The directory of a path; `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
