//! Text files as people have them, read as UTF-8: plain, gzip or zstd; UTF-8 or UTF-16, with a byte order mark or
//! without.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use crate::FileError;
use crate::lfs::{self, LFS_POINTER};
use crate::utf16::{ByteOrder, Utf16Reader};

/// Bytes of a buffer between two stages.
const BUFFER: usize = 1 << 16;

/// Unpacked bytes from which a stream is held to [`MAX_RATIO`]: repetitive text packs well, endless text is an attack.
pub(crate) const UNBOUNDED: u64 = 256 << 20;

/// Unpacked bytes of one packed byte at most. Answers that all loop reach about 100; gzip itself ends at 1,032.
pub(crate) const MAX_RATIO: u64 = 500;

/// Mark of a tar archive, and its place.
const TAR_MARK: (usize, &[u8]) = (257, b"ustar");

/// The text of a file as UTF-8 bytes without a byte order mark, unpacked while it is read.
///
/// Packing and encoding are told by the first bytes, not by the name. Bytes that are no UTF-8 come through as they are;
/// lone surrogates of UTF-16 become U+FFFD. Works on pipes: nothing is read twice.
pub struct TextFile {
    input: Box<dyn BufRead + Send>,
    /// Bytes read from the file so far, packed ones where it is packed.
    read: Arc<AtomicU64>,
    /// Bytes of the file; 0 for a pipe.
    bytes: u64,
}

impl std::fmt::Debug for TextFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextFile").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl TextFile {
    /// Opens a text file.
    ///
    /// # Errors
    /// When it cannot be opened or its first bytes cannot be read.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let file = File::open(path).map_err(FileError::at(path, "open"))?;
        TextFile::new(file).map_err(FileError::at(path, "read"))
    }

    /// The text of an open file.
    ///
    /// # Errors
    /// When its first bytes cannot be read, it is a zip or tar archive, or a Git LFS pointer.
    pub fn new(file: File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let read = Arc::new(AtomicU64::new(0));
        let (start, file) = peek(Counted { file, read: read.clone() }, lfs::START.len())?;
        if lfs::is_lfs_pointer(&start) {
            return Err(invalid(LFS_POINTER.into()));
        }
        let input: Box<dyn BufRead + Send> = match Packing::of(&start) {
            None => decoded(file)?,
            Some(Packing::Gzip) => {
                let file = BufReader::with_capacity(BUFFER, file);
                decoded(Unpacked::new("gzip", MultiGzDecoder::new(file), read.clone()))?
            }
            Some(Packing::Zstd) => {
                decoded(Unpacked::new("zstd", zstd::stream::read::Decoder::new(file)?, read.clone()))?
            }
            Some(Packing::Zip) => return Err(invalid("a zip archive; unpack it first".into())),
        };
        Ok(TextFile { input, read, bytes })
    }

    /// Share of the file's bytes that has been read, 0 to 1; 0 for a pipe.
    pub fn share(&self) -> f64 {
        match self.bytes {
            0 => 0.0,
            bytes => (self.read.load(Ordering::Relaxed) as f64 / bytes as f64).min(1.0),
        }
    }
}

impl Read for TextFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl BufRead for TextFile {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
    }
}

pub(crate) fn invalid(problem: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem)
}

/// The first `count` bytes, fewer where there are no more, and a reader of all.
fn peek<R: Read>(mut input: R, count: usize) -> io::Result<(Vec<u8>, impl Read + use<R>)> {
    let mut start = Vec::new();
    input.by_ref().take(count as u64).read_to_end(&mut start)?;
    Ok((start.clone(), Cursor::new(start).chain(input)))
}

/// A packed format, by its first bytes.
enum Packing {
    Gzip,
    Zstd,
    Zip,
}

impl Packing {
    fn of(start: &[u8]) -> Option<Self> {
        match start {
            [0x1f, 0x8b, ..] => Some(Packing::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zstd),
            [b'P', b'K', 3, 4, ..] => Some(Packing::Zip),
            _ => None,
        }
    }
}

/// The text of unpacked bytes, as UTF-8 without a byte order mark.
fn decoded(input: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let (start, mut input) = peek(input, TAR_MARK.0 + TAR_MARK.1.len())?;
    if start.get(TAR_MARK.0..).is_some_and(|rest| rest == TAR_MARK.1) {
        return Err(invalid("a tar archive; unpack it first (`tar xf`), and give its files or their directory".into()));
    }
    let (mark, order) = match start[..] {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
            return Err(invalid("UTF-32 text; write it as UTF-8, for instance with `iconv -f UTF-32 -t UTF-8`".into()));
        }
        [0xff, 0xfe, ..] => (2, Some(ByteOrder::Little)),
        [0xfe, 0xff, ..] => (2, Some(ByteOrder::Big)),
        [0xef, 0xbb, 0xbf, ..] => (3, None),
        // without a mark: rows begin with ASCII
        [first, 0, ..] if first != 0 => (0, Some(ByteOrder::Little)),
        [0, second, ..] if second != 0 => (0, Some(ByteOrder::Big)),
        _ => (0, None),
    };
    io::copy(&mut input.by_ref().take(mark), &mut io::sink())?;
    let input = BufReader::with_capacity(BUFFER, input);
    Ok(match order {
        Some(order) => Box::new(BufReader::with_capacity(BUFFER, Utf16Reader::new(input, order))),
        None => Box::new(input),
    })
}

/// A file that counts the bytes read from it.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// An unpacked stream whose errors name the packing, and which ends in one where it unpacks to more than any text does.
struct Unpacked<R> {
    packing: &'static str,
    input: R,
    packed: Arc<AtomicU64>,
    unpacked: u64,
}

impl<R> Unpacked<R> {
    fn new(packing: &'static str, input: R, packed: Arc<AtomicU64>) -> Self {
        Unpacked { packing, input, packed, unpacked: 0 }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let packing = self.packing;
        let read = match self.input.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            read => read.map_err(|error| {
                invalid(format!("the {packing} stream is damaged or ends early ({error}); fetch the file again"))
            })?,
        };
        self.unpacked += read as u64;
        if self.unpacked > UNBOUNDED && self.unpacked / MAX_RATIO > self.packed.load(Ordering::Relaxed) {
            return Err(invalid(format!(
                "the {packing} stream unpacks to more than {MAX_RATIO} times its size, as no text does; if it is wanted, \
                 unpack it first"
            )));
        }
        Ok(read)
    }
}
