//! TensorBoard's event files.
//!
//! A file is a sequence of TFRecords, each an `Event` in protobuf's wire format:
//!
//! ```text
//! length: u64, little-endian · masked crc32c of it: u32 · bytes · masked crc32c of them: u32
//! Event   { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog session_log = 7 }
//! Summary { repeated Value value = 1 }   Value { string tag = 1; float simple_value = 2 }
//! ```
//!
//! (tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto, tensorflow/core/lib/io/record_writer.h.)

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{TrainError, io};
use crate::record::StepRecord;

/// An open event file.
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Starts a new file in `dir`. It voids `first_step` and later steps of older files, which an interrupted run left.
    pub(crate) fn create(dir: &Path, first_step: u64) -> Result<Self, TrainError> {
        fs::create_dir_all(dir).map_err(io(dir, "create"))?;
        // Two files of the same second, or of a clock that was set back, get names that sort in the order of creation.
        let second = newest(dir)?.max(now() as u64);
        let name = |count: u64| format!("{PREFIX}{second:010}.smpo.{count}");
        let free = (0..).map(|count| dir.join(name(count))).find(|path| !path.exists());
        let path = free.unwrap_or_else(|| dir.join(name(0)));
        let file = File::create_new(&path).map_err(io(&path, "create"))?;
        let mut events = EventFile { path, file };
        events.write(&event(0, |bytes| text(bytes, 3, "brain.Event:2")))?;
        // SessionLog.START, upon which TensorBoard drops later steps of older files.
        events.write(&event(first_step, |bytes| message(bytes, 7, |log| number(log, 1, 1))))?;
        Ok(events)
    }

    /// Writes a step's metrics.
    pub(crate) fn append(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        let figures = record.figures();
        let bytes = event(record.step, |bytes| {
            message(bytes, 5, |summary| {
                for (name, value) in figures.iter().chain([&("epoch".into(), record.epoch)]) {
                    message(summary, 1, |entry| {
                        text(entry, 1, name);
                        key(entry, 2, 5);
                        entry.extend((*value as f32).to_le_bytes());
                    });
                }
            });
        });
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TrainError> {
        self.file.write_all(&framed(bytes)).map_err(io(&self.path, "write"))
    }
}

/// First part of a file's name; the second of its creation follows.
const PREFIX: &str = "events.out.tfevents.";

/// The latest second in the names of a directory's files; 0 without any.
fn newest(dir: &Path) -> Result<u64, TrainError> {
    let mut newest = 0;
    for entry in fs::read_dir(dir).map_err(io(dir, "list"))? {
        let name = entry.map_err(io(dir, "list"))?.file_name();
        let second = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.get(..10)?.parse().ok());
        newest = newest.max(second.unwrap_or(0));
    }
    Ok(newest)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A TFRecord.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(bytes);
    record.extend(masked_crc(bytes).to_le_bytes());
    record
}

/// A checksum that is safe to checksum again (TFRecord's masking).
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn event(step: u64, content: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    key(&mut bytes, 1, 1);
    bytes.extend(now().to_le_bytes());
    number(&mut bytes, 2, step);
    content(&mut bytes);
    bytes
}

/// Field number and wire type: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
fn key(bytes: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(bytes, u64::from(field << 3 | wire_type));
}

fn number(bytes: &mut Vec<u8>, field: u32, value: u64) {
    key(bytes, field, 0);
    varint(bytes, value);
}

fn text(bytes: &mut Vec<u8>, field: u32, value: &str) {
    message(bytes, field, |inner| inner.extend(value.as_bytes()));
}

fn message(bytes: &mut Vec<u8>, field: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    key(bytes, field, 2);
    varint(bytes, inner.len() as u64);
    bytes.extend(inner);
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_sort_in_the_order_of_creation_though_the_clock_is_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let ahead = format!("{PREFIX}{}.smpo.0", now() as u64 + 1_000_000);
        fs::write(dir.path().join(&ahead), b"").unwrap();
        let file = EventFile::create(dir.path(), 1).unwrap();
        assert!(file.path.file_name().unwrap().to_str().unwrap() > ahead.as_str(), "{:?}", file.path);
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        // RFC 3720, B.4: 32 bytes of zeroes.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        // The header of an 18-byte record, as TensorFlow writes it.
        assert_eq!(masked_crc(&24u64.to_le_bytes()).to_le_bytes(), [0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn numbers_are_written_in_groups_of_seven_bits() {
        let mut bytes = Vec::new();
        number(&mut bytes, 2, 300);
        assert_eq!(bytes, [0x10, 0xac, 0x02]);
    }
}
