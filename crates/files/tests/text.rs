//! Text files in every packing and encoding people have them in.

use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;

use smpo_files::{FileError, TextFile, append, write_whole};

const TEXT: &str = "{\"prompt\": \"Wie geht es, Müller?\"}\r\n{\"completion\": \"naïve — 👍\"}\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn utf16(text: &str, mark: bool, unit: impl Fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().fold(if mark { unit(0xfeff).to_vec() } else { Vec::new() }, |mut bytes, code| {
        bytes.extend(unit(code));
        bytes
    })
}

fn read(bytes: &[u8]) -> Result<String, FileError> {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("rows");
    std::fs::write(&path, bytes).unwrap();
    let mut text = String::new();
    TextFile::open(&path)?.read_to_string(&mut text).map_err(FileError::at(&path, "read"))?;
    Ok(text)
}

#[test]
fn the_same_text_comes_out_of_every_packing_and_encoding() {
    let encodings = [
        TEXT.as_bytes().to_vec(),
        [b"\xef\xbb\xbf", TEXT.as_bytes()].concat(),
        utf16(TEXT, true, u16::to_le_bytes),
        utf16(TEXT, true, u16::to_be_bytes),
        utf16(TEXT, false, u16::to_le_bytes),
        utf16(TEXT, false, u16::to_be_bytes),
    ];
    for (index, encoded) in encodings.iter().enumerate() {
        let (head, tail) = encoded.split_at(encoded.len() / 2);
        for bytes in [encoded.clone(), gzip(encoded), zstd(encoded), [gzip(head), gzip(tail)].concat()] {
            assert_eq!(read(&bytes).unwrap(), TEXT, "encoding {index}");
        }
    }
}

#[test]
fn short_files_are_text_too() {
    for text in ["", "a", "ab", "abc", "\0\0\0\0"] {
        assert_eq!(read(text.as_bytes()).unwrap(), text);
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_once() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let packed = gzip(TEXT.as_bytes());
    std::thread::scope(|scope| {
        scope.spawn(move || packed.chunks(1).for_each(|byte| writer.write_all(byte).unwrap()));
        let file = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
        let mut text = String::new();
        TextFile::new(file).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, TEXT);
    });
}

#[test]
fn damage_and_foreign_packings_are_named() {
    let noise: Vec<u8> = (0..50_000u64).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    for (bytes, words) in [
        (gzip(&noise)[..2000].to_vec(), "the gzip stream is damaged or ends early"),
        (zstd(&noise)[..2000].to_vec(), "the zstd stream is damaged or ends early"),
        (b"PK\x03\x04zip".to_vec(), "a zip archive"),
        (gzip(&[&[b'a'; 257][..], b"ustar\0more"].concat()), "a tar archive; unpack it first"),
        (b"\xff\xfe\0\0a\0\0\0".to_vec(), "UTF-32"),
    ] {
        let error = read(&bytes).unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_small_stream_of_endless_text_ends_in_an_error() {
    let bomb = zstd(&vec![b' '; 400 << 20]);
    assert!(bomb.len() < 1 << 20);
    let error = read(&bomb).unwrap_err().to_string();
    assert!(error.contains("unpacks to more than 500 times its size"), "{error}");
}

#[cfg(unix)]
#[test]
fn an_append_adds_and_follows_links() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("a/summary.md"), dir.path().join("link.md"));
    append(&file, b"one\n").unwrap();
    append(&file, b"two\n").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    append(&link, b"three\n").unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\ntwo\nthree\n");
    assert!(link.is_symlink());
    append(std::path::Path::new("/dev/null"), b"gone").unwrap();
    write_whole(&link, b"new").unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"new");
}
