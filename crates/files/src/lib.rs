//! Files and directories written whole, text files read as UTF-8, directory locks, SHA-256.
//!
//! [`write_whole`] and [`WholeFile`] write a file under a temporary name in its directory, sync it, rename it and sync
//! the directory: after a crash or a power loss the path holds the old content or the new, never a part. An existing
//! file keeps its permissions. [`write_dir_whole`] does the same for a directory and everything in it, and
//! [`remove_dir_whole`] removes one that is never there by halves.
//!
//! A path that is no regular file is never replaced:
//!
//! | path | effect of a write |
//! |---|---|
//! | device, pipe, `/dev/stdout`, `/dev/fd/N` | bytes go through it as they are written |
//! | symbolic link to a file | the file it points to is replaced, in its own directory; the link stays |
//! | symbolic link to nothing | the file it points to is created; the link stays |
//! | directory | refused |
//!
//! [`append()`] and [`AppendFile`] add to a file instead, [`TextFile`] reads text however it is packed and
//! encoded, and [`read_archive`] the files of a zip archive;
//! [`strict_json()`] takes Python's liberties out of JSON. A [`Spool`] keeps on disk what memory should not hold.
//!
//! A process that is killed may leave temporary files, `.NAME.RANDOM.partial`; nothing reads them, and the next writer of the
//! same path removes them, as does [`remove_leftovers`] under the directory's lock.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! let path = dir.path().join("run/config.json");
//! smpo_files::write_whole(&path, b"{}\n")?;
//! assert_eq!(std::fs::read(&path).unwrap(), b"{}\n");
//! # Ok::<(), smpo_files::FileError>(())
//! ```

mod append;
mod archive;
mod copy;
mod destination;
mod directory;
mod error;
mod exists;
mod hash;
mod lfs;
mod line;
mod lock;
mod resolved;
mod spool;
mod staging;
mod strict_json;
mod sync;
mod text;
mod utf16;
mod whole;

pub use append::{AppendFile, append, cut_torn_line};
pub use archive::{ArchivedFile, read_archive};
pub use copy::{copy, copy_whole};
pub use directory::{move_to, remove_dir_whole, remove_file, remove_leftovers, remove_leftovers_of, write_dir_whole};
pub use error::FileError;
pub use exists::{exists, is_dir, is_file};
pub use hash::{Sha256Sum, hex, sha256, sha256_file};
pub use lfs::{LFS_POINTER, is_lfs_pointer, is_lfs_pointer_file, read_text};
pub use line::line_at;
pub use lock::DirLock;
pub use resolved::resolved;
pub use spool::{Span, Spool};
pub use strict_json::strict_json;
pub use sync::create_dirs;
pub use text::TextFile;
pub use whole::{WholeFile, write_whole};
