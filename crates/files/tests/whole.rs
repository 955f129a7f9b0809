//! Results of a write at paths of every kind.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use smpo_files::{FileError, WholeFile, remove_leftovers, write_dir_whole, write_whole};

/// Names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn missing_parents_are_created_and_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/run.json");
    write_whole(&path, b"one").unwrap();
    write_whole(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(names(path.parent().unwrap()), ["run.json"]);
}

#[test]
fn a_file_dropped_before_its_commit_leaves_the_path_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.json");
    write_whole(&path, b"old").unwrap();
    let mut file = WholeFile::create(&path).unwrap();
    file.write_all(b"half of the n").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["run.json"]);
}

#[test]
fn a_file_that_grows_needs_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let error = WholeFile::create(&dir.path().join("absent/out.jsonl")).unwrap_err().to_string();
    assert!(error.contains("absent/out.jsonl: cannot write: "), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn readers_see_the_old_content_or_the_new() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.prom");
    let contents = [vec![b'a'; 100_000], vec![b'b'; 70_000]];
    write_whole(&path, &contents[0]).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..60 {
                write_whole(&path, &contents[round % 2]).unwrap();
            }
        });
        while !writer.is_finished() {
            let read = fs::read(&path).unwrap();
            assert!(contents.contains(&read), "{} bytes of neither content", read.len());
        }
    });
}

#[test]
fn a_directory_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let error = write_whole(dir.path(), b"x").unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: cannot write: ", dir.path().display())), "{error}");
}

#[test]
fn errors_name_the_operation_and_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    write_whole(&file, b"x").unwrap();
    let error = write_whole(&file.join("below/run.json"), b"x").unwrap_err().to_string();
    assert!(error.contains("file/below/run.json: cannot write: "), "{error}");
    let error = write_dir_whole(&file.join("model"), |_| Ok::<(), FileError>(())).unwrap_err().to_string();
    assert!(error.contains("file/model: cannot follow: ") || error.contains("create the directory"), "{error}");
}

#[test]
fn a_directory_appears_with_everything_in_it_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("runs/model");
    let fill = |staging: &Path| {
        assert!(!model.exists());
        write_whole(&staging.join("weights/0"), b"w")
    };
    write_dir_whole(&model, fill).unwrap();
    assert_eq!(fs::read(model.join("weights/0")).unwrap(), b"w");

    let other = dir.path().join("runs/other");
    let failing = |staging: &Path| {
        write_whole(&staging.join("weights/0"), b"w")?;
        write_whole(&staging.join("weights/0/below"), b"w")
    };
    write_dir_whole(&other, failing).unwrap_err();
    let full = write_dir_whole(&model, |staging| write_whole(&staging.join("x"), b"x")).unwrap_err().to_string();
    assert!(full.contains("model: cannot rename a temporary directory to: "), "{full}");
    assert_eq!(names(&dir.path().join("runs")), ["model"]);
    assert_eq!(names(&model), ["weights"]);
}

#[test]
fn leftovers_of_killed_processes_are_removed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join(".step-3.x1y2z3.partial");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("weights"), b"half").unwrap();
    fs::write(dir.path().join(".run.json.a1b2c3.partial"), b"{").unwrap();
    for kept in ["run.json", ".lock", "mine.partial"] {
        fs::write(dir.path().join(kept), b"x").unwrap();
    }
    remove_leftovers(dir.path()).unwrap();
    assert_eq!(names(dir.path()), [".lock", "mine.partial", "run.json"]);
    remove_leftovers(&dir.path().join("absent")).unwrap();
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn permissions_of_an_existing_file_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join("run.json"), dir.path().join("new.json"));
        write_whole(&path, b"old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write_whole(&path, b"new").unwrap();
        assert_eq!(mode(&path), 0o640);
        // A new file gets the permissions that any program's new file gets, a directory those of a directory.
        write_whole(&new, b"new").unwrap();
        fs::write(dir.path().join("plain"), b"").unwrap();
        assert_eq!(mode(&new), mode(&dir.path().join("plain")));
        let model = dir.path().join("model");
        write_dir_whole(&model, |_| Ok::<(), FileError>(())).unwrap();
        fs::create_dir(dir.path().join("plain_dir")).unwrap();
        assert_eq!(mode(&model), mode(&dir.path().join("plain_dir")));
    }

    #[test]
    fn a_symbolic_link_stays_and_its_target_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        fs::create_dir_all(&here).unwrap();
        fs::create_dir_all(&there).unwrap();
        fs::write(there.join("verdict.json"), b"old").unwrap();
        symlink("../there/verdict.json", here.join("second")).unwrap();
        symlink("second", here.join("first")).unwrap();
        let mut file = WholeFile::create(&here.join("first")).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(names(&here), ["first", "second"], "the temporary file is in the target's directory");
        assert_eq!(fs::read(there.join("verdict.json")).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!(fs::read(there.join("verdict.json")).unwrap(), b"new");
        assert_eq!(names(&there), ["verdict.json"]);
        assert!(here.join("first").is_symlink() && here.join("second").is_symlink());
    }

    #[test]
    fn a_dangling_symbolic_link_stays_and_its_target_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("latest.json");
        symlink("deep/run.json", &link).unwrap();
        write_whole(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(dir.path().join("deep/run.json")).unwrap(), b"new");

        let model = dir.path().join("model");
        symlink("disk/model", &model).unwrap();
        write_dir_whole(&model, |staging| write_whole(&staging.join("weights"), b"w")).unwrap();
        assert!(model.is_symlink());
        assert_eq!(names(&dir.path().join("disk")), ["model"]);
        assert_eq!(fs::read(dir.path().join("disk/model/weights")).unwrap(), b"w");
    }

    #[test]
    fn a_cycle_of_symbolic_links_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("a");
        symlink("a", &link).unwrap();
        write_whole(&link, b"x").unwrap_err();
        write_dir_whole(&link, |_| Ok::<(), FileError>(())).unwrap_err();
        assert!(link.is_symlink());
    }

    #[test]
    fn a_device_is_written_through() {
        write_whole(Path::new("/dev/null"), b"nothing").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("null");
        symlink("/dev/null", &link).unwrap();
        write_whole(&link, b"nothing").unwrap();
        assert!(link.is_symlink());
        assert_eq!(names(dir.path()), ["null"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_named() {
        let error = write_whole(Path::new("/dev/full"), b"x").unwrap_err().to_string();
        assert!(error.starts_with("/dev/full: cannot write: "), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_directory_that_takes_no_files_is_named() {
        // Nobody, root included, creates files there.
        let error = write_whole(Path::new("/proc/self/run.json"), b"x").unwrap_err().to_string();
        assert!(error.starts_with("/proc/self/run.json: cannot write: "), "{error}");
        let error = write_dir_whole(Path::new("/proc/self/model"), |_| Ok::<(), FileError>(())).unwrap_err();
        assert!(error.to_string().starts_with("/proc/self/model: cannot write: "), "{error}");
    }

    #[test]
    fn a_pipe_is_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write_whole(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(names(dir.path()), ["pipe"]);
    }

    const WRITE_TO: &str = "SMPO_FILES_WRITE_TO";

    /// In a child process: writes to the path that the variable names, between two lines of its own.
    #[test]
    fn child() {
        if let Some(path) = std::env::var_os(WRITE_TO) {
            let mut out = std::io::stdout();
            writeln!(out, "before").unwrap();
            write_whole(Path::new(&path), b"whole\n").unwrap();
            writeln!(out, "after").unwrap();
        }
    }

    /// Standard output of the child after the test harness's own lines.
    fn output_of_child(write_to: &Path, stdout: &Path) -> String {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "unix::child", "--nocapture", "--test-threads=1"])
            .env(WRITE_TO, write_to)
            .stdout(fs::File::create(stdout).unwrap())
            .status()
            .unwrap();
        assert!(status.success());
        let text = fs::read_to_string(stdout).unwrap();
        let start = text.find("before").unwrap();
        text[start..].lines().take(3).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn standard_output_is_written_through_even_where_it_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        for path in ["/dev/stdout", "/dev/fd/1"] {
            assert_eq!(output_of_child(Path::new(path), &out), "before\nwhole\nafter\n", "{path}");
        }
        let link = dir.path().join("link");
        symlink("/dev/stdout", &link).unwrap();
        assert_eq!(output_of_child(&link, &out), "before\nwhole\nafter\n");
        assert_eq!(names(dir.path()), ["link", "out"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_descriptor_is_appended_to() {
        use std::os::fd::AsRawFd;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, b"before\n").unwrap();
        let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        write_whole(&PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd())), b"whole\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before\nwhole\n");
        assert_eq!(names(dir.path()), ["log"]);
    }
}
