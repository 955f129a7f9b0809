//! Command blocks.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use assert_cmd::cargo::cargo_bin;
use smpo_fixtures::markdown::{Fence, fences};
use smpo_fixtures::repository;

use crate::world::World;
use crate::{Page, current, pages};

/// Reasons for which a block is not run, with their meaning.
const NEEDS: [(&str, &str); 6] = [
    ("needs-gpu", "an NVIDIA GPU"),
    ("needs-mpi", "an MPI library, and a program built with it"),
    ("needs-model", "a real model: its output is shown"),
    ("needs-python", "packages of Python; python/tests has tests of the same calls"),
    ("needs-server", "a server"),
    ("needs-time", "minutes to hours: builds, tests, studies, the whole demo"),
];

/// Start of each page's script. A verdict is a result, not a failure of the command: 1 and 3 go on.
const PROLOGUE: &str = r#"set -euo pipefail
smpo() {
  local code=0
  command smpo "$@" || code=$?
  case $1/$code in
    gate/1 | gate/3 | run/1 | run/3 | demo/1 | demo/3) echo "(exit code $code)" ;;
    *) return $code ;;
  esac
}
"#;

/// Command blocks of a page.
fn commands(page: &Page) -> Vec<Fence> {
    fences(&page.text)
        .into_iter()
        .filter(|fence| matches!(fence.language.as_str(), "sh" | "console" | "bash"))
        .collect()
}

/// The script of a page: blocks that run, each announced; `None` without any.
fn script(page: &Page) -> Option<String> {
    let mut script = String::from(PROLOGUE);
    let blocks: Vec<Fence> = commands(page).into_iter().filter(|block| block.classes.is_empty()).collect();
    for block in &blocks {
        let _ = write!(script, "echo '=== {}:{}'\n{}", page.name, block.line, block.text);
    }
    (!blocks.is_empty()).then_some(script)
}

/// Runs a page's script in a directory; the end of its output where it fails.
fn run(page: &Page, script: &str, dir: &Path) -> Result<(), String> {
    let program = cargo_bin("smpo");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .args(["-c", script])
        .current_dir(dir)
        .env("PATH", format!("{}:{path}", program.parent().unwrap().display()))
        .env("HOME", dir.join("home"))
        .env("HF_HUB_OFFLINE", "1")
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let tail =
        |text: &str| text.lines().rev().take(25).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
    Err(format!("{}: {}\n{}\n{}", page.name, output.status, tail(&said[0]), tail(&said[1])))
}

#[test]
fn every_command_block_runs_or_says_what_it_needs() {
    let pages = pages();
    let world = World::new();
    let scripts: Vec<(&Page, String)> = pages.iter().filter_map(|page| Some((page, script(page)?))).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((page, script)) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let dir = world.copy(&page.name);
                    let started = std::time::Instant::now();
                    if let Err(failure) = run(page, script, dir.path()) {
                        failures.lock().unwrap().push(failure);
                    }
                    println!("{}: {:.1} s", page.name, started.elapsed().as_secs_f64());
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn blocks_that_do_not_run_are_listed() {
    let (mut listed, mut run) = (String::new(), 0);
    for page in pages() {
        for block in commands(&page) {
            let [class] = block.classes.as_slice() else {
                assert!(block.classes.is_empty(), "{}:{}: expected one reason", page.name, block.line);
                assert_ne!(block.language, "console", "{}:{}: expected `sh`, or a reason", page.name, block.line);
                run += 1;
                continue;
            };
            assert!(NEEDS.iter().any(|(known, _)| known == class), "{}:{}: {class:?}", page.name, block.line);
            let first = block.text.lines().next().unwrap_or_default();
            let _ = writeln!(
                listed,
                "{class:13} {}: {}",
                page.name,
                first.split("  #").next().unwrap_or_default().trim_end()
            );
        }
    }
    let mut text = format!(
        "# Command blocks of the book that no test runs: {} of {}. Written by UPDATE_DOCS=1 cargo test --release --workspace \
                            --test book\n",
        listed.lines().count(),
        listed.lines().count() + run
    );
    for (class, meaning) in NEEDS {
        let _ = writeln!(text, "# {class:13} {meaning}");
    }
    current("tests/book/untested.txt", &(text + &listed));
}

/// The tutorial with its real model, in an empty directory and HOME: transcript and times to standard output.
///
/// `SMPO_TUTORIAL_MODEL` is a directory with the GGUF file that the tutorial names, `SMPO_TUTORIAL_PROGRAM` one with an `smpo` to take in
/// place of the one that was built with this test: that of an installed wheel.
#[test]
#[ignore = "needs SmolLM2-135M-Instruct, 20 minutes of CPU time"]
fn the_tutorial_with_its_real_model() {
    let model =
        std::env::var("SMPO_TUTORIAL_MODEL").expect("SMPO_TUTORIAL_MODEL: a directory with the tutorial's GGUF file");
    let page = pages().into_iter().find(|page| page.name == "docs/tutorial.md").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = "SmolLM2-135M-Instruct.Q4_1.gguf";
    std::os::unix::fs::symlink(Path::new(&model).join(file), dir.path().join(file)).unwrap();
    std::fs::copy(repository().join("datasets/tutorial/pairs.jsonl"), dir.path().join("pairs.jsonl")).unwrap();
    let mut script = String::from(PROLOGUE) + "exec 2>&1\n";
    for block in commands(&page).iter().filter(|block| block.classes.is_empty()) {
        let quoted = block.text.replace('\'', r"'\''");
        let _ = write!(script, "SECONDS=0; echo '$ {quoted}'\n{}\necho \"[$SECONDS s]\"\n", block.text);
    }
    let program = match std::env::var("SMPO_TUTORIAL_PROGRAM") {
        Ok(installed) => installed.into(),
        Err(_) => cargo_bin("smpo").parent().unwrap().to_owned(),
    };
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let home = tempfile::tempdir().unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).current_dir(dir.path()).env("PATH", path).env("HOME", home.path());
    assert!(bash.status().unwrap().success());
}

#[test]
fn blocks_of_data_are_what_they_say() {
    for page in pages() {
        for block in fences(&page.text) {
            let refused = match block.language.as_str() {
                "toml" => block.text.parse::<toml::Table>().err().map(|error| error.to_string()),
                "json" => serde_json::from_str::<serde_json::Value>(&block.text).err().map(|error| error.to_string()),
                _ => None,
            };
            assert!(refused.is_none(), "{}:{}: {}", page.name, block.line, refused.unwrap_or_default());
        }
    }
}
