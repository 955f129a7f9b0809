//! SHA-256 of bytes and files.

#[test]
fn hashes_are_sha256() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(smpo_files::sha256(b"abc"), abc);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    smpo_files::write_whole(&path, b"abc").unwrap();
    assert_eq!(smpo_files::sha256_file(&path).unwrap(), abc);
    let error = smpo_files::sha256_file(&dir.path().join("absent")).unwrap_err().to_string();
    assert!(error.contains("absent: cannot open: "), "{error}");
}
