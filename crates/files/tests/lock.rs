//! One holder of a directory at a time, among threads and among processes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use smpo_files::DirLock;

#[test]
fn a_lock_is_released_when_dropped_and_its_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let first = DirLock::take(&run).unwrap().unwrap();
    assert!(DirLock::take(&run).unwrap().is_none());
    drop(first);
    assert!(run.join(".lock").exists());
    assert!(DirLock::take(&run).unwrap().is_some());
}

#[test]
fn a_lock_that_is_about_to_be_released_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let first = DirLock::take(dir.path()).unwrap().unwrap();
    let release = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(first);
    });
    assert!(DirLock::take(dir.path()).unwrap().is_some());
    release.join().unwrap();
}

/// The race of a lock file that is unlinked on release: B has opened the file and waits, A unlinks it and releases, B
/// locks the unlinked file, C creates and locks a new one.
#[test]
fn a_file_opened_before_a_release_excludes_later_holders() {
    let dir = tempfile::tempdir().unwrap();
    let a = DirLock::take(dir.path()).unwrap().unwrap();
    let b = std::fs::OpenOptions::new().write(true).open(dir.path().join(".lock")).unwrap();
    drop(a);
    b.try_lock().unwrap();
    assert!(DirLock::take(dir.path()).unwrap().is_none(), "two holders");
}

#[test]
fn threads_never_hold_it_together() {
    let dir = tempfile::tempdir().unwrap();
    let (holders, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    if let Some(lock) = DirLock::take(dir.path()).unwrap() {
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                        held.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                }
            });
        }
    });
    assert!(held.load(Ordering::SeqCst) > 0);
}

const HOLD: &str = "SMPO_FILES_HOLD";

/// In a child process: takes the lock of the directory that the variable names, says so, and holds it until its input
/// ends.
#[test]
fn child() {
    if let Some(dir) = std::env::var_os(HOLD) {
        let lock = DirLock::take(Path::new(&dir)).unwrap();
        writeln!(std::io::stderr(), "{}", if lock.is_some() { "held" } else { "busy" }).unwrap();
        std::io::stdin().lines().for_each(drop);
    }
}

#[test]
fn processes_never_hold_it_together_and_a_killed_one_releases_it() {
    let dir = tempfile::tempdir().unwrap();
    let spawn = || {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(HOLD, dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answer = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut answer).unwrap();
        (child, answer)
    };
    let (mut first, answer) = spawn();
    assert_eq!(answer, "held\n");
    let (mut second, answer) = spawn();
    assert_eq!(answer, "busy\n");
    assert!(DirLock::take(dir.path()).unwrap().is_none());
    first.kill().unwrap();
    first.wait().unwrap();
    second.kill().unwrap();
    second.wait().unwrap();
    assert!(DirLock::take(dir.path()).unwrap().is_some());
}
