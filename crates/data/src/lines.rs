//! A text file as raw rows: the lines of a JSONL file or the elements of one JSON list, one at a time.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use smpo_files::TextFile;

use crate::read_error::{Location, Problem, ReadError};

/// Maximum bytes of a row: far above any conversation, below what would exhaust a machine.
const MAX_ROW: usize = 1 << 30;

/// UTF-8's, as some editors and `utf-8-sig` write it at the start of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Raw rows with the line each begins on.
pub(crate) struct RawRows {
    input: TextFile,
    path: Arc<Path>,
    layout: Option<Layout>,
    /// The line that the next byte is on.
    line: u64,
    row: Vec<u8>,
    done: bool,
    /// Bytes of a row at most.
    limit: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Lines,
    List,
}

impl RawRows {
    pub fn new(file: File, path: Arc<Path>) -> Result<Self, ReadError> {
        match TextFile::new(file) {
            Ok(input) => {
                let (layout, row) = (None, Vec::new());
                Ok(Self { input, path, layout, line: 1, row, done: false, limit: MAX_ROW })
            }
            Err(error) => Err(ReadError { location: Location { path, line: 0 }, problem: Problem::Io(error) }),
        }
    }

    /// Share of the file's bytes that has been read, 0 to 1; 0 for a pipe.
    pub fn share(&self) -> f64 {
        self.input.share()
    }

    #[cfg(test)]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The next row that is not blank, with its place.
    pub fn next(&mut self) -> Option<Result<(Location, &[u8]), ReadError>> {
        if self.done {
            return None;
        }
        let found = match self.layout {
            Some(layout) => Ok(layout),
            None => self.detect(),
        };
        let step = found.and_then(|layout| {
            self.layout = Some(layout);
            match layout {
                Layout::Lines => self.next_line(),
                Layout::List => self.next_element(),
            }
        });
        match step {
            Ok(Some(line)) => Some(Ok((self.at(line), &self.row))),
            Ok(None) => {
                self.done = true;
                None
            }
            Err(error) => {
                self.done = !error.is_row();
                Some(Err(error))
            }
        }
    }

    fn at(&self, line: u64) -> Location {
        Location { path: self.path.clone(), line }
    }

    fn fail(&self, line: u64, problem: Problem) -> ReadError {
        ReadError { location: self.at(line), problem }
    }

    fn io(&self, error: io::Error) -> ReadError {
        self.fail(self.line, Problem::Io(error))
    }

    /// Steps over white space; a list begins with `[`, anything else is lines.
    fn detect(&mut self) -> Result<Layout, ReadError> {
        self.skip_white_space()?;
        match self.peek()? {
            Some(b'[') => {
                self.input.consume(1);
                Ok(Layout::List)
            }
            _ => Ok(Layout::Lines),
        }
    }

    fn peek(&mut self) -> Result<Option<u8>, ReadError> {
        loop {
            match self.input.fill_buf() {
                Ok(buffer) => return Ok(buffer.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io(error)),
            }
        }
    }

    fn skip_white_space(&mut self) -> Result<(), ReadError> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() {
                break;
            }
            self.line += u64::from(byte == b'\n');
            self.input.consume(1);
        }
        Ok(())
    }

    fn next_line(&mut self) -> Result<Option<u64>, ReadError> {
        loop {
            let begun = self.line;
            self.row.clear();
            let limit = self.limit as u64 + 1;
            let read = match self.input.by_ref().take(limit).read_until(b'\n', &mut self.row) {
                Ok(read) => read,
                Err(error) => return Err(self.io(error)),
            };
            if read == 0 {
                return Ok(None);
            }
            if self.row.last() == Some(&b'\n') {
                self.row.pop();
                self.line += 1;
            } else if self.row.len() > self.limit {
                self.skip_line()?;
                return Err(self.fail(begun, Problem::TooLong { limit: self.limit }));
            }
            if self.row.last() == Some(&b'\r') {
                self.row.pop();
            }
            // `cat` of files that begin with one
            if self.row.starts_with(BYTE_ORDER_MARK) {
                self.row.drain(..BYTE_ORDER_MARK.len());
            }
            if !self.row.trim_ascii().is_empty() {
                if self.row.trim_ascii() == b"{" {
                    let got = "an object over several lines; write each on one line".to_string();
                    return Err(self.fail(begun, Problem::NotRows { got }));
                }
                return Ok(Some(begun));
            }
        }
    }

    fn skip_line(&mut self) -> Result<(), ReadError> {
        loop {
            let (length, ended) = match self.input.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(buffer) => match buffer.iter().position(|&byte| byte == b'\n') {
                    Some(at) => (at + 1, true),
                    None => (buffer.len(), false),
                },
                Err(error) => return Err(self.io(error)),
            };
            self.input.consume(length);
            if ended {
                self.line += 1;
                return Ok(());
            }
        }
    }

    /// One element of the list: brackets are counted outside strings, the element itself is parsed later.
    fn next_element(&mut self) -> Result<Option<u64>, ReadError> {
        self.skip_white_space()?;
        match self.peek()? {
            Some(b',') => {
                self.input.consume(1);
                self.skip_white_space()?;
            }
            Some(b']') => {
                self.input.consume(1);
                self.skip_white_space()?;
                return match self.peek()? {
                    None => Ok(None),
                    Some(_) => {
                        let got = "more text after the end of the list".to_string();
                        Err(self.fail(self.line, Problem::NotRows { got }))
                    }
                };
            }
            _ => {}
        }
        let begun = self.line;
        self.row.clear();
        let mut scan = ElementScan::default();
        loop {
            let taken = match self.input.fill_buf() {
                Ok([]) => {
                    let got = "a list that ends early".to_string();
                    return Err(self.fail(self.line, Problem::NotRows { got }));
                }
                Ok(buffer) => {
                    let length = scan.advance(buffer);
                    self.line += buffer[..length].iter().filter(|&&byte| byte == b'\n').count() as u64;
                    self.row.extend_from_slice(&buffer[..length]);
                    length
                }
                Err(error) => return Err(self.io(error)),
            };
            self.input.consume(taken);
            if scan.ended {
                return Ok(Some(begun));
            }
            if self.row.len() > self.limit {
                let got = format!("a row of more than {} bytes", self.limit);
                return Err(self.fail(begun, Problem::NotRows { got }));
            }
        }
    }
}

/// Finds the end of a list element: the first comma or closing bracket at its own level.
#[derive(Default)]
struct ElementScan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    ended: bool,
}

impl ElementScan {
    /// Bytes of the buffer that belong to the element.
    fn advance(&mut self, buffer: &[u8]) -> usize {
        for (at, &byte) in buffer.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b',' | b']' if self.depth == 0 => {
                    self.ended = true;
                    return at;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::RawRows;
    use std::fs::File;
    use std::io::Write;

    fn rows(bytes: &[u8], limit: usize) -> Vec<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let opened = File::open(file.path()).unwrap();
        let mut raw = RawRows::new(opened, file.path().into()).unwrap().with_limit(limit);
        let mut out = Vec::new();
        while let Some(row) = raw.next() {
            out.push(match row {
                Ok((at, bytes)) => format!("{} {}", at.line, String::from_utf8_lossy(bytes).trim()),
                Err(error) => format!("{} {}", error.location.line, error.problem),
            });
        }
        out
    }

    #[test]
    fn lines_keep_their_numbers_over_blank_ones_and_crlf() {
        assert_eq!(rows(b"\xef\xbb\xbf\n{\"a\":1}\r\n\n  \n{\"b\":2}", 100), ["2 {\"a\":1}", "5 {\"b\":2}"]);
    }

    #[test]
    fn files_that_were_put_together_keep_no_byte_order_marks() {
        let text = b"\xef\xbb\xbf{\"a\":1}\n\xef\xbb\xbf{\"b\":2}\n\xef\xbb\xbf\n{\"c\":3}";
        assert_eq!(rows(text, 100), ["1 {\"a\":1}", "2 {\"b\":2}", "4 {\"c\":3}"]);
    }

    #[test]
    fn list_elements_keep_the_line_they_begin_on() {
        let text = b" [\n {\"a\": \"],}\\\"\"},\n {\"b\":\n [1, 2]}\n]\n";
        assert_eq!(rows(text, 100), ["2 {\"a\": \"],}\\\"\"}", "3 {\"b\":\n [1, 2]}"]);
    }

    #[test]
    fn a_list_that_ends_early_or_goes_on_is_an_error() {
        assert_eq!(
            rows(b"[{\"a\":1},\n{\"b\"", 100),
            ["1 {\"a\":1}", "2 expected JSON lines or one JSON list of objects, got a list that ends early"]
        );
        assert!(rows(b"[1] x", 100)[1].contains("more text after the end"));
        assert!(rows(b"[]", 100).is_empty());
    }

    #[test]
    fn a_line_past_the_limit_is_an_error_and_the_next_is_read() {
        let found = rows(b"{\"a\":1}\n{\"too\":\"long for this\"}\n{\"b\":2}\n", 10);
        assert_eq!(found, ["1 {\"a\":1}", "2 a row of more than 10 bytes; expected at most that", "3 {\"b\":2}"]);
    }
}
