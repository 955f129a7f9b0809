//! The lines of a text file, read one by one.

use std::io::BufRead;
use std::path::Path;

use smpo_files::Sha256Sum;

use super::encoding::Damage;
use crate::input_error::InputError;

/// The lines of a file, with the hash of all its bytes and the damage to them.
pub(super) struct Lines<'a> {
    pub path: &'a Path,
    input: Box<dyn BufRead + 'a>,
    number: usize,
    sha256: Sha256Sum,
    damage: Damage,
}

impl<'a> Lines<'a> {
    pub fn new(path: &'a Path, input: Box<dyn BufRead + 'a>) -> Self {
        Lines { path, input, number: 0, sha256: Sha256Sum::default(), damage: Damage::default() }
    }

    /// The next line with its number and its end, U+FFFD in place of what is no UTF-8.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next(&mut self) -> Result<Option<(usize, String)>, InputError> {
        let mut bytes = Vec::new();
        let read = self.input.read_until(b'\n', &mut bytes);
        read.map_err(|source| InputError::Io { path: self.path.to_owned(), source })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        self.sha256.add(&bytes);
        Ok(Some((self.number, self.damage.replace(self.number, bytes))))
    }

    /// Reads what is left: SHA-256 of all bytes, and a remark on those that are no UTF-8.
    ///
    /// # Errors
    /// When the file cannot be read, or is in another encoding.
    pub fn finish(mut self) -> Result<(String, Option<String>), InputError> {
        while self.next()?.is_some() {}
        let remark = self.damage.remark();
        let remark = remark.map_err(|foreign| InputError::line(self.path, foreign.line, foreign.to_string()))?;
        Ok((self.sha256.hex(), remark))
    }
}
