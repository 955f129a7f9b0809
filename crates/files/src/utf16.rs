//! UTF-16 read as UTF-8.

use std::io::{self, ErrorKind, Read};

/// Order of the two bytes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    /// The low byte first, as PowerShell's `>` writes.
    Little,
    /// The high byte first.
    Big,
}

/// UTF-16 text as UTF-8 bytes: lone surrogates, and half a unit at the end, become U+FFFD.
pub(crate) struct Utf16Reader<R> {
    input: R,
    order: ByteOrder,
    /// A unit that was read to see whether it completes a pair, and does not.
    pending: Option<u16>,
    /// Encoded bytes that did not fit the caller's buffer.
    left: Vec<u8>,
}

impl<R: Read> Utf16Reader<R> {
    /// `input` is buffered: it is read two bytes at a time.
    pub(crate) fn new(input: R, order: ByteOrder) -> Self {
        Utf16Reader { input, order, pending: None, left: Vec::new() }
    }

    /// The next unit; half of one at the end is a lone surrogate, so that it is not lost silently.
    fn unit(&mut self) -> io::Result<Option<u16>> {
        if let Some(unit) = self.pending.take() {
            return Ok(Some(unit));
        }
        let mut bytes = [0; 2];
        let mut have = 0;
        while have < 2 {
            match self.input.read(&mut bytes[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Ok(Some(0xdfff)),
                Ok(read) => have += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(match self.order {
            ByteOrder::Little => u16::from_le_bytes(bytes),
            ByteOrder::Big => u16::from_be_bytes(bytes),
        }))
    }

    fn next_char(&mut self) -> io::Result<Option<char>> {
        let Some(first) = self.unit()? else { return Ok(None) };
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(Some(char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER)));
        }
        let Some(second) = self.unit()? else { return Ok(Some(char::REPLACEMENT_CHARACTER)) };
        let pair = char::decode_utf16([first, second]).next().and_then(Result::ok);
        if pair.is_none() {
            self.pending = Some(second);
        }
        Ok(Some(pair.unwrap_or(char::REPLACEMENT_CHARACTER)))
    }
}

impl<R: Read> Read for Utf16Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left.len() < buffer.len() {
            let Some(character) = self.next_char()? else { break };
            self.left.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        let read = self.left.len().min(buffer.len());
        buffer[..read].copy_from_slice(&self.left[..read]);
        self.left.drain(..read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(units: &[u16], order: ByteOrder, extra: &[u8]) -> String {
        let bytes = |unit: &u16| match order {
            ByteOrder::Little => unit.to_le_bytes(),
            ByteOrder::Big => unit.to_be_bytes(),
        };
        let mut bytes: Vec<u8> = units.iter().flat_map(bytes).collect();
        bytes.extend_from_slice(extra);
        let mut text = String::new();
        Utf16Reader::new(&bytes[..], order).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn text_comes_back_in_either_order() {
        let text = "Gut, danke — naïve 👍 \u{10ffff}\n";
        let units: Vec<u16> = text.encode_utf16().collect();
        for order in [ByteOrder::Little, ByteOrder::Big] {
            assert_eq!(read(&units, order, &[]), text);
        }
    }

    #[test]
    fn what_is_no_character_is_replaced_and_nothing_else_is_lost() {
        let damaged = [0x61, 0xd83d, 0x62, 0xdc00, 0xd83d, 0xd83d, 0xde00, 0xd800];
        assert_eq!(read(&damaged, ByteOrder::Little, &[]), "a\u{fffd}b\u{fffd}\u{fffd}😀\u{fffd}");
        assert_eq!(read(&[0x61], ByteOrder::Big, &[0x20]), "a\u{fffd}");
    }
}
