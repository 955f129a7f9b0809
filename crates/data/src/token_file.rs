//! A data file as entries: read from the token cache, or parsed, tokenised and checked once.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, BufWriter, Cursor, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use smpo_files::WholeFile;
use smpo_tokenizer::ChatTokenizer;

use crate::cache::{self, TokenCache};
use crate::columns::Columns;
use crate::dataset_error::DatasetError;
use crate::preparation::Preparation;
use crate::read_error::{Location, Problem, ReadError};
use crate::reader::{Layout, Located, records_with};
use crate::record::Record;
use crate::tokenized_record::Entry;

/// Rows that are tokenised in parallel between two calls of the progress callback; bounds memory.
const CHUNK: usize = 1024;

/// Progress over a data file that is parsed, checked and tokenised.
#[derive(Debug, Clone, Copy)]
pub struct FileProgress<'a> {
    /// The data file.
    pub file: &'a Path,
    /// Rows so far.
    pub rows: u64,
    /// Share of the file so far, 0 to 1; 0 for a pipe.
    pub share: f64,
}

/// A data file whose entries can be read in order.
#[derive(Debug)]
pub(crate) struct TokenFile {
    path: Arc<Path>,
    lines: Lines,
}

/// Storage of the entries, as JSON lines.
#[derive(Debug)]
enum Lines {
    /// An entry of the token cache.
    Cached(PathBuf),
    /// A temporary file without a name, for entries that are not cached.
    Unnamed(File),
    /// Memory, for pipes and where no file can be written.
    Memory(Vec<u8>),
}

/// A data file after its first reading.
#[derive(Debug)]
pub(crate) struct Opened {
    pub file: TokenFile,
    /// Rows that were tokenised; 0 where they came from the cache.
    pub tokenized: u64,
    /// True if the data file was parsed.
    pub parsed: bool,
    /// Error of writing the cache; the entries are good all the same.
    pub write_error: Option<io::Error>,
}

/// Reason why a data file was not read to its end.
enum Stop {
    /// The progress callback asked for it.
    Interrupted,
    /// An error, of the file or of the visitor.
    Error(DatasetError),
    /// The entries cannot be written.
    Write(io::Error),
}

impl From<DatasetError> for Stop {
    fn from(error: DatasetError) -> Self {
        Stop::Error(error)
    }
}

/// Receiver of every entry of a data file, in order.
pub(crate) trait Visitor {
    /// Called before the first entry; again where a file is read from the beginning because the cache cannot be written.
    fn begin(&mut self);

    /// Called with each entry.
    fn entry(&mut self, entry: &Entry) -> Result<(), DatasetError>;

    /// Called with the error that ends the file early.
    fn damage(&mut self, error: ReadError) -> Result<(), DatasetError>;
}

/// The tokenizer, cache and progress callback that data files are opened with.
pub(crate) struct Opener<'a> {
    pub tokenizer: &'a ChatTokenizer,
    pub fingerprint: &'a str,
    pub preparation: &'a Preparation,
    /// Names of the columns of the file that is opened next.
    pub columns: Columns,
    pub cache: &'a TokenCache,
    pub on_progress: &'a mut dyn FnMut(FileProgress<'_>) -> ControlFlow<()>,
}

impl Opener<'_> {
    /// Passes every entry of a data file to `visitor`: from the cache, or parsed and tokenised, and cached then. `None`
    /// when interrupted.
    pub fn open(&mut self, path: &Path, visitor: &mut dyn Visitor) -> Result<Option<Opened>, DatasetError> {
        match self.read(path.into(), visitor) {
            Ok(opened) => Ok(Some(opened)),
            Err(Stop::Interrupted) => Ok(None),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Write(source)) => Err(DatasetError::Tokens { file: path.to_path_buf(), source }),
        }
    }

    fn read(&mut self, path: Arc<Path>, visitor: &mut dyn Visitor) -> Result<Opened, Stop> {
        let stamp = Stamp::of(&path)?;
        let entry = match &stamp {
            Some(_) if cache::is_cacheable(self.tokenizer) => Some(
                self.cache
                    .entry(&path, self.fingerprint, self.preparation, &self.columns)
                    .map_err(|error| unreadable(&path, error))?,
            ),
            _ => None,
        };
        if let Some(entry) = &entry
            && let Some(lines) = cache::open_entry(entry)
            && visit(lines, visitor)?
        {
            let file = TokenFile { path, lines: Lines::Cached(entry.clone()) };
            return Ok(Opened { file, tokenized: 0, parsed: false, write_error: None });
        }
        let written = match (&entry, &stamp) {
            (Some(entry), _) => self.write_entry(&path, entry, visitor),
            (None, Some(_)) => self.write_unnamed(&path, visitor),
            // read once only: a write that fails half-way could not be made good
            (None, None) => self.write_memory(&path, visitor),
        };
        let (written, write_error) = match written {
            Err(Stop::Write(error)) => (self.write_memory(&path, visitor)?, Some(error)),
            written => (written?, None),
        };
        if stamp != Stamp::of(&path)? {
            return Err(DatasetError::Changed { file: path.to_path_buf() }.into());
        }
        let (lines, tokenized) = written;
        Ok(Opened { file: TokenFile { path, lines }, tokenized, parsed: true, write_error })
    }

    fn write_entry(&mut self, path: &Arc<Path>, entry: &Path, visitor: &mut dyn Visitor) -> Result<(Lines, u64), Stop> {
        std::fs::create_dir_all(self.cache.dir()).map_err(Stop::Write)?;
        let file = WholeFile::create(entry).map_err(|error| Stop::Write(error.source))?;
        let mut out = Hashed { out: BufWriter::new(file), hash: Sha256::new() };
        let (tokenized, whole) = self.tokenize(path, &mut out, visitor)?;
        if whole {
            let Hashed { mut out, hash } = out;
            out.write_all(cache::seal(hash).as_bytes()).map_err(Stop::Write)?;
            let file = out.into_inner().map_err(|error| Stop::Write(error.into_error()))?;
            file.commit().map_err(|error| Stop::Write(error.source))?;
        }
        // a damaged file leaves no entry, and nothing reads the rows of one
        Ok((Lines::Cached(entry.to_path_buf()), tokenized))
    }

    fn write_unnamed(&mut self, path: &Arc<Path>, visitor: &mut dyn Visitor) -> Result<(Lines, u64), Stop> {
        let dir = self.cache.dir();
        let file = std::fs::create_dir_all(dir).and_then(|()| tempfile::tempfile_in(dir)).map_err(Stop::Write)?;
        let mut out = BufWriter::new(file);
        let (tokenized, _) = self.tokenize(path, &mut out, visitor)?;
        let file = out.into_inner().map_err(|error| Stop::Write(error.into_error()))?;
        Ok((Lines::Unnamed(file), tokenized))
    }

    fn write_memory(&mut self, path: &Arc<Path>, visitor: &mut dyn Visitor) -> Result<(Lines, u64), Stop> {
        let mut memory = Vec::new();
        let (tokenized, _) = self.tokenize(path, &mut memory, visitor)?;
        Ok((Lines::Memory(memory), tokenized))
    }

    /// Parses, tokenises and checks a data file; returns the rows tokenised, and true if it could be read to its end.
    fn tokenize(
        &mut self,
        path: &Arc<Path>,
        out: &mut dyn Write,
        visitor: &mut dyn Visitor,
    ) -> Result<(u64, bool), Stop> {
        visitor.begin();
        let layout = Layout { columns: self.columns.clone(), reading: self.preparation.reading };
        let mut rows = records_with(path, layout).map_err(DatasetError::from)?;
        let (mut read, mut tokenized) = (0, 0);
        loop {
            let chunk: Vec<_> = rows.by_ref().take(CHUNK).collect();
            if chunk.is_empty() {
                return Ok((tokenized, true));
            }
            let (tokenizer, preparation) = (self.tokenizer, self.preparation);
            let lines: Vec<_> = chunk.into_par_iter().map(|row| line(row, tokenizer, preparation)).collect();
            for line in lines {
                let (entry, line) = match line {
                    Ok(line) => line,
                    Err(damage) => {
                        visitor.damage(damage)?;
                        return Ok((tokenized, false));
                    }
                };
                visitor.entry(&entry)?;
                read += 1;
                tokenized += u64::from(entry.record.is_ok());
                out.write_all(&line).map_err(Stop::Write)?;
            }
            let progress = FileProgress { file: path, rows: read, share: rows.share() };
            if (self.on_progress)(progress).is_break() {
                return Err(Stop::Interrupted);
            }
        }
    }
}

/// The entry of a row with its line in the cache, or the error that ends the file.
fn line(
    row: Result<Located<Record>, ReadError>,
    tokenizer: &ChatTokenizer,
    preparation: &Preparation,
) -> Result<(Entry, Vec<u8>), ReadError> {
    let entry = match row {
        Ok(row) => Entry::new(row, tokenizer, preparation),
        Err(error) if error.is_row() => Entry::unreadable(&error),
        Err(error) => return Err(error),
    };
    let mut line = serde_json::to_vec(&entry).unwrap_or_default();
    line.push(b'\n');
    Ok((entry, line))
}

/// Passes the entries of a cached file to `visitor`; false where a line is not one.
fn visit(mut lines: impl BufRead, visitor: &mut dyn Visitor) -> Result<bool, Stop> {
    visitor.begin();
    loop {
        let Ok(chunk) = next_lines(&mut lines, CHUNK) else { return Ok(false) };
        if chunk.is_empty() {
            return Ok(true);
        }
        let entries: Vec<Result<Entry, _>> = chunk.par_iter().map(|line| serde_json::from_slice(line)).collect();
        for entry in entries {
            let Ok(entry) = entry else { return Ok(false) };
            visitor.entry(&entry)?;
        }
    }
}

fn next_lines(lines: &mut impl BufRead, most: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut chunk = Vec::new();
    while chunk.len() < most {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        chunk.push(line);
    }
    Ok(chunk)
}

impl TokenFile {
    pub fn path(&self) -> Arc<Path> {
        self.path.clone()
    }

    /// Passes the entries that `wanted` is true for to `visit`, in order, each with its index.
    ///
    /// # Errors
    /// Those of `visit`, or when the entries can no longer be read.
    pub fn read(
        &mut self,
        wanted: impl Fn(usize) -> bool,
        mut visit: impl FnMut(usize, Entry) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        let path = self.path.clone();
        let cached = match &self.lines {
            Lines::Cached(path) => Some(path.clone()),
            Lines::Unnamed(_) | Lines::Memory(_) => None,
        };
        let lost = |error: io::Error| {
            let source = match &cached {
                Some(cached) => io::Error::new(error.kind(), format!("{}: {error}", cached.display())),
                None => error,
            };
            DatasetError::Tokens { file: path.to_path_buf(), source }
        };
        let mut lines: Box<dyn BufRead + '_> = match &mut self.lines {
            Lines::Cached(path) => {
                let gone = || io::Error::other("gone or no longer readable");
                Box::new(cache::open_entry(path).ok_or_else(gone).map_err(lost)?)
            }
            Lines::Unnamed(file) => {
                file.seek(SeekFrom::Start(0)).map_err(lost)?;
                Box::new(BufReader::with_capacity(1 << 16, file))
            }
            Lines::Memory(bytes) => Box::new(Cursor::new(bytes.as_slice())),
        };
        let mut first = 0;
        loop {
            let chunk = next_lines(&mut lines, CHUNK).map_err(lost)?;
            if chunk.is_empty() {
                return Ok(());
            }
            let read = chunk.len();
            let chunk: Vec<(usize, Vec<u8>)> = (first..).zip(chunk).filter(|(index, _)| wanted(*index)).collect();
            let entries: Vec<(usize, Result<Entry, _>)> =
                chunk.par_iter().map(|(index, line)| (*index, serde_json::from_slice(line))).collect();
            for (index, entry) in entries {
                visit(index, entry.map_err(|error| lost(error.into()))?)?;
            }
            first += read;
        }
    }
}

/// Bytes that are hashed as they are written.
struct Hashed<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Size and time of a regular file, by which a change is noticed while it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// `None` for a pipe.
    fn of(path: &Arc<Path>) -> Result<Option<Self>, Stop> {
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
        let regular = Some(metadata).filter(Metadata::is_file);
        Ok(regular.map(|metadata| Stamp { bytes: metadata.len(), modified: metadata.modified().ok() }))
    }
}

fn unreadable(path: &Arc<Path>, error: io::Error) -> Stop {
    let location = Location { path: path.clone(), line: 0 };
    Stop::Error(ReadError { location, problem: Problem::Io(error) }.into())
}
