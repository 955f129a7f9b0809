//! Headers that lie: refused with file, field, expected and got, and at no cost in memory.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use smpo_fixtures::{CountingAllocator, Gguf};
use smpo_gguf::{GgufFile, companions, is_gguf};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Memory of reading beside what is in the file: buffers and messages.
const OVERHEAD: usize = 1 << 20;

/// A small file of every kind of metadata.
fn file() -> Gguf {
    let tokens: Vec<String> = ["<unk>", "a", "b", "ab"].map(String::from).to_vec();
    Gguf::new("llama")
        .u32("llama.block_count", 1)
        .f32("llama.rope.freq_base", 1e4)
        .bool("tokenizer.ggml.add_bos_token", false)
        .text("tokenizer.ggml.model", "gpt2")
        .texts("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &[2, 1, 1, 1])
        .texts("tokenizer.ggml.merges", &["a b".to_string()])
        .tensor("one", &[4, 32], 8, vec![7; 4 * 34])
        .tensor("two", &[3], 0, vec![1; 12])
}

fn written(bytes: &[u8], dir: &Path) -> std::path::PathBuf {
    let path = dir.join("m.gguf");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_gguf_file_is_known_by_its_name_or_its_first_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let known = |name: &str, bytes: &[u8]| {
        fs::write(dir.path().join(name), bytes).unwrap();
        is_gguf(&dir.path().join(name)).unwrap()
    };
    assert!(known("m.gguf", b"") && known("m.GGUF", b"any") && known("sha256-1", b"GGUF\x03\0"));
    assert!(!known("short", b"GGU") && !known("other", b"GGML\x03\0"));
    fs::create_dir(dir.path().join("dir.gguf")).unwrap();
    for absent in ["dir.gguf", "none.gguf", "m.gguf/below", &"n".repeat(300)] {
        assert!(!is_gguf(&dir.path().join(absent)).unwrap(), "{absent}");
    }
}

#[cfg(unix)]
#[test]
fn a_path_that_cannot_be_looked_at_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let error = is_gguf(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: cannot look at: ", path.display())), "{error}");
}

fn refusal(file: &Gguf) -> String {
    let dir = tempfile::tempdir().unwrap();
    GgufFile::open(written(&file.bytes(), dir.path())).unwrap_err().to_string()
}

#[test]
fn a_sound_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let read = GgufFile::open(written(&file().bytes(), dir.path())).unwrap();
    assert_eq!(read.architecture().unwrap(), "llama");
    assert_eq!(read.metadata().whole("llama.block_count").unwrap(), Some(1));
    assert_eq!(read.metadata().texts("tokenizer.ggml.tokens").unwrap().unwrap()[3], "ab");
    assert_eq!(read.metadata().numbers("tokenizer.ggml.token_type").unwrap().unwrap(), [2.0, 1.0, 1.0, 1.0]);
    let tensor = read.tensor("one").unwrap();
    assert_eq!((tensor.shape(), tensor.rows(), tensor.row_bytes()), (&[4, 32][..], 4, 34));
    assert_eq!(tensor.bytes_of_rows(1..2).unwrap(), vec![7; 34]);
    assert_eq!(tensor.bytes_of_rows(3..9).unwrap().len(), 34);
    assert_eq!(tensor.dequantise().unwrap().len(), 128);
    assert_eq!(read.tensor("two").unwrap().shape(), [3]);
}

#[test]
fn lies_are_refused_by_field() {
    let long = u64::MAX.to_le_bytes().to_vec();
    let list = |kind: u32, count: u64| [kind.to_le_bytes().as_slice(), &count.to_le_bytes()].concat();
    for (lie, field, expected) in [
        (file().raw("k", 8, long.clone()), "`k`", "bytes that follow"),
        (file().raw("k", 9, list(8, u64::MAX)), "`k`", "bytes that follow"),
        (file().raw("k", 9, list(12, u64::MAX / 8)), "`k`", "bytes that follow"),
        (file().raw("k", 9, list(9, 1 << 60)), "`k`", "bytes that follow"),
        (file().raw("k", 13, vec![]), "`k`", "a type of value from 0 to 12"),
        (file().u32("llama.block_count", 2), "`llama.block_count`", "one value"),
        (file().u32("general.alignment", 24), "`general.alignment`", "power of two"),
        (file().u32("general.alignment", 0), "`general.alignment`", "power of two"),
        (file().tensor("one", &[1], 0, vec![0; 4]), "`one`", "one tensor of this name"),
        (file().tensor("t", &[1], 99, vec![0; 4]), "`t`", "a tensor type of ggml"),
        (file().tensor("t", &[2, 31], 8, vec![0; 68]), "`t`", "rows of whole Q8_0 blocks of 32 values"),
        (file().tensor("t", &[1 << 30, 1 << 30], 0, vec![]), "`t`", "a product below 2^48"),
        (file().tensor("t", &[0, 4], 0, vec![]), "`t`", "sizes above zero"),
        (file().tensor("t", &[1, 1, 1, 1, 1], 0, vec![0; 4]), "`t`", "1 to 4 dimensions"),
        (file().tensor("t", &[1 << 40], 0, vec![0; 64]), "`t`", "data within the file's"),
    ] {
        let refusal = refusal(&lie);
        assert!(refusal.contains("m.gguf: ") && refusal.contains(field), "{field}: {refusal}");
        assert!(refusal.contains(expected), "{expected}: {refusal}");
    }
}

#[test]
fn other_files_are_called_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let said = |bytes: &[u8]| GgufFile::open(written(bytes, dir.path())).unwrap_err().to_string();
    assert!(said(b"version https://git-lfs").contains("a Git LFS pointer"));
    assert!(said(b"<!DOCTYPE html>").contains("a page of HTML"));
    assert!(said(b"PK\x03\x04").contains("expected \"GGUF\", got \"PK"));
    assert!(said(b"GG").contains("magic number"));
    assert!(said(&[b"GGUF".as_slice(), &1u32.to_le_bytes()].concat()).contains("version 1 is not read"));
    assert!(said(&[b"GGUF".as_slice(), &3u32.to_be_bytes()].concat()).contains("big-endian"));
    assert!(said(&[b"GGUF".as_slice(), &9u32.to_le_bytes()].concat()).contains("expected 2 or 3, got 9"));
}

#[test]
fn data_of_two_tensors_is_not_shared() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = file().bytes();
    // The offset of the second tensor, its last field: that of the first.
    let name = bytes.windows(3).rposition(|window| window == b"two").unwrap();
    bytes[name + 3 + 4 + 8 + 4..][..8].copy_from_slice(&0u64.to_le_bytes());
    let refusal = GgufFile::open(written(&bytes, dir.path())).unwrap_err().to_string();
    assert!(refusal.contains("expected data of its own, got bytes of"), "{refusal}");
}

#[test]
fn a_split_model_is_opened_by_any_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = |number: u32| dir.path().join(format!("m-0000{number}-of-00002.gguf"));
    let [first, second] = file().split_in_two();
    fs::write(path(1), &first).unwrap();
    let absent = GgufFile::open(path(1)).unwrap_err().to_string();
    assert!(
        absent.contains("expected all 2 parts of the model in one directory, got no m-00002-of-00002.gguf"),
        "{absent}"
    );
    fs::write(path(2), &second).unwrap();
    for number in [1, 2] {
        let read = GgufFile::open(path(number)).unwrap();
        assert_eq!((read.part_count(), read.architecture().unwrap()), (2, "llama"));
        assert_eq!(read.tensors().count(), 2);
        assert_eq!(read.tensor("two").unwrap().dequantise().unwrap().len(), 3);
    }
    // Parts by another name, in the wrong order, of another model.
    fs::write(dir.path().join("m.gguf"), &first).unwrap();
    assert!(GgufFile::open(dir.path().join("m.gguf")).unwrap_err().to_string().contains("`split.count`"));
    fs::write(path(2), &first).unwrap();
    assert!(GgufFile::open(path(1)).unwrap_err().to_string().contains("`split.no`: expected 1"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Bytes changed, cut and grown: no panic, and no memory beyond the file.
    #[test]
    fn mutations_cost_nothing(
        changes in proptest::collection::vec((0.0..1.0f64, any::<u8>()), 0..8),
        large in proptest::option::of(0.0..1.0f64),
        cut in proptest::option::of(0.0..1.0f64),
    ) {
        let mut bytes = file().bytes();
        let place = |share: f64, length: usize| (share * length as f64) as usize;
        for (share, value) in changes {
            let at = place(share, bytes.len());
            bytes[at] = value;
        }
        // A large number where there may be a count or a length.
        if let Some(share) = large {
            let at = place(share, bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&(u64::MAX / 3).to_le_bytes());
        }
        if let Some(share) = cut {
            bytes.truncate(place(share, bytes.len()));
        }
        let dir = tempfile::tempdir().unwrap();
        let path = written(&bytes, dir.path());
        let (peak, _) = ALLOCATOR.peak(|| {
            if let Ok(file) = GgufFile::open(&path) {
                file.tensors().for_each(|tensor| drop(tensor.dequantise()));
                let _ = companions(&path);
            }
        });
        prop_assert!(peak <= bytes.len() + OVERHEAD, "{peak} bytes for a file of {}", bytes.len());
    }
}
