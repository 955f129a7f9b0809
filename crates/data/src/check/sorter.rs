//! Sorting of more events than memory should hold: sorted runs in a temporary file, merged in the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::FileExt;

/// Events that are held in memory.
const HELD: usize = 1 << 18;
/// Bytes of each run that are read ahead.
const AHEAD: usize = 16 << 10;

/// A row under a key. Sorted by key, then in the order of the rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Event {
    pub key: u64,
    /// Place of the row among all rows.
    pub row: u64,
    pub line: u64,
    /// Hash of the row's content, and of the same with its sides swapped.
    pub content: u64,
    pub swapped: Option<u64>,
    /// A text for the report.
    pub text: String,
}

/// Collects events and gives them sorted.
#[derive(Debug)]
pub(super) struct Sorter {
    held: Vec<Event>,
    /// Events that are held at most.
    room: usize,
    file: Option<File>,
    /// Ends of the runs in the file.
    ends: Vec<u64>,
}

impl Default for Sorter {
    fn default() -> Self {
        Self { held: Vec::new(), room: HELD, file: None, ends: Vec::new() }
    }
}

impl Sorter {
    #[cfg(test)]
    pub fn with_room(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    pub fn push(&mut self, event: Event) -> io::Result<()> {
        self.held.push(event);
        if self.held.len() >= self.room { self.flush() } else { Ok(()) }
    }

    /// Writes what is held as one more run.
    fn flush(&mut self) -> io::Result<()> {
        self.held.sort_unstable();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        let mut out = BufWriter::new(file);
        self.held.drain(..).try_for_each(|event| event.write(&mut out))?;
        out.flush()?;
        let end = out.get_mut().stream_position()?;
        self.ends.push(end);
        Ok(())
    }

    /// Calls `take` with the events of each key, ascending, one by one.
    pub fn sorted(mut self, mut take: impl FnMut(Event)) -> io::Result<()> {
        self.held.sort_unstable();
        let Some(file) = &self.file else {
            self.held.into_iter().for_each(take);
            return Ok(());
        };
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let mut runs: Vec<_> = starts.zip(&self.ends).map(|(at, &end)| Run::new(file, at, end)).collect();
        let mut next = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            next.extend(run.next()?.map(|event| Reverse((event, number))));
        }
        let mut held = self.held.into_iter();
        next.extend(held.next().map(|event| Reverse((event, runs.len()))));
        while let Some(Reverse((event, number))) = next.pop() {
            take(event);
            let following = match runs.get_mut(number) {
                Some(run) => run.next()?,
                None => held.next(),
            };
            next.extend(following.map(|event| Reverse((event, number))));
        }
        Ok(())
    }
}

/// A sorted part of the file.
struct Run<'a>(BufReader<Part<'a>>);

impl<'a> Run<'a> {
    fn new(file: &'a File, at: u64, end: u64) -> Self {
        Run(BufReader::with_capacity(AHEAD, Part { file, at, end }))
    }

    fn next(&mut self) -> io::Result<Option<Event>> {
        use std::io::BufRead;
        if self.0.fill_buf()?.is_empty() { Ok(None) } else { Event::read(&mut self.0).map(Some) }
    }
}

/// Bytes of a file that others read too.
struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(bytes.len());
        let read = self.file.read_at(&mut bytes[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Event {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let swapped = (u64::from(self.swapped.is_some()), self.swapped.unwrap_or(0));
        let numbers = [self.key, self.row, self.line, self.content, swapped.0, swapped.1, self.text.len() as u64];
        numbers.iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))?;
        out.write_all(self.text.as_bytes())
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut number = || -> io::Result<u64> {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes)?;
            Ok(u64::from_le_bytes(bytes))
        };
        let [key, row, line, content, has_swapped, swapped, length] =
            [number()?, number()?, number()?, number()?, number()?, number()?, number()?];
        let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        from.read_exact(&mut text)?;
        let text = String::from_utf8(text).map_err(io::Error::other)?;
        Ok(Self { key, row, line, content, swapped: (has_swapped == 1).then_some(swapped), text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_in_a_file_give_what_one_sort_gives() {
        let event = |row: u64| Event {
            key: row * 7919 % 31,
            row,
            line: row / 2,
            content: row.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            swapped: row.is_multiple_of(3).then_some(row),
            text: "é".repeat((row % 5) as usize),
        };
        let events: Vec<Event> = (0..1000).map(event).collect();
        let mut expected = events.clone();
        expected.sort();
        for room in [7, 100, 999, 1000, 1001] {
            let mut sorter = Sorter::with_room(room);
            events.iter().cloned().try_for_each(|event| sorter.push(event)).unwrap();
            let mut found = Vec::new();
            sorter.sorted(|event| found.push(event)).unwrap();
            assert!(found == expected, "room for {room}");
        }
    }
}
