//! Parquet files as pyarrow writes them read as the same rows in JSON lines do; damaged ones are errors.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use smpo_data::{count_rows, records};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet")
}

#[test]
fn every_shape_reads_as_it_does_from_json_lines() {
    for name in ["strings", "nested", "kto", "binary", "messages"] {
        let read = |extension: &str| {
            let path = folder().join(format!("{name}.{extension}"));
            assert_eq!(count_rows(&path).unwrap(), 7);
            records(path)
                .unwrap()
                .map(|row| row.unwrap())
                .map(|row| (row.location.line, row.record))
                .collect::<Vec<_>>()
        };
        let (columns, lines) = (read("parquet"), read("jsonl"));
        assert_eq!(columns.len(), 7, "{name}");
        assert_eq!(columns, lines, "{name}: rows in three row groups, numbered as lines are");
    }
}

#[test]
fn a_bad_row_has_its_number_and_the_next_is_read() {
    let path = folder().join("bad_row.parquet");
    let rows: Vec<_> = records(&path).unwrap().collect();
    assert_eq!(rows.len(), 2);
    let error = rows[0].as_ref().unwrap_err().to_string();
    assert_eq!(error, format!("{}:1: `rejected` is null; give it a value, or leave the row out", path.display()));
    assert!(rows[1].is_ok());
}

#[test]
fn a_file_that_ends_early_is_an_error() {
    let bytes = std::fs::read(folder().join("nested.parquet")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.parquet");
    for length in [4, 11, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = records(&path).err().expect("an error").to_string();
        assert!(error.contains("cut.parquet: cannot read this Parquet file further"), "{error}");
        assert!(count_rows(&path).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_gives_rows_or_errors_and_an_end(
        name in prop_oneof![Just("strings"), Just("nested"), Just("kto")],
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = std::fs::read(folder().join(format!("{name}.parquet"))).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("damaged.parquet");
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(rows) = records(&path) {
            prop_assert!(rows.take(1000).count() < 1000);
        }
    }
}
