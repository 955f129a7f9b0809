//! The shim, compiled once, and calls of `smpo` under it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A kind of fault, as `shim.c` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub &'static str);

impl Kind {
    /// True if the process ends by a signal in place of an exit code.
    pub fn kills(self) -> bool {
        self.0 == "kill" || self.0.starts_with("power")
    }

    /// True if the call goes well in the end, and so does the command.
    pub fn is_harmless(self) -> bool {
        matches!(self.0, "short" | "eintr") || self.0.starts_with("clock")
    }
}

/// The shared library, compiled into the build's directory for tests.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-shim-{}.so", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&library).arg(source);
        let status = compiler.args(["-ldl", "-lpthread"]).status().expect("a C compiler");
        assert!(status.success(), "the shim does not compile");
        library
    })
}

/// A call that the shim met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Name of the function.
    pub name: String,
    /// File or directory, absolute.
    pub path: String,
}

/// The calls of a file that the shim wrote.
fn calls(file: &Path) -> Vec<Call> {
    let text = fs::read(file).unwrap_or_default();
    let call = |line: &str| {
        let (name, path) = line.split_once('\t').unwrap();
        Call { name: name.to_owned(), path: path.to_owned() }
    };
    String::from_utf8_lossy(&text).lines().map(call).collect()
}

/// A command below the shim, which has its own files in `scratch`.
pub struct Shim<'a> {
    /// Directories whose calls are counted, `:` between them.
    pub below: String,
    /// An empty directory on the same filesystem.
    pub scratch: &'a Path,
}

impl Shim<'_> {
    fn command(&self, mut command: Command, kind: Option<Kind>) -> Command {
        command.env("LD_PRELOAD", library()).env("SMPO_FAULT_BELOW", &self.below);
        if let Some(kind) = kind {
            command.env("SMPO_FAULT_KIND", kind.0);
        }
        command
    }

    /// The calls of a command that a kind of fault meets.
    pub fn count(&self, command: Command, kind: Option<Kind>) -> (Vec<Call>, Output) {
        let log = self.scratch.join("calls");
        let _ = fs::remove_file(&log);
        let output = self.command(command, kind).env("SMPO_FAULT_LOG", &log).output().unwrap();
        (calls(&log), output)
    }

    /// Runs a command whose `at`th call, from 1, meets the fault, and the call; none if it made fewer.
    pub fn run(&self, command: Command, kind: Kind, at: usize) -> (Option<Call>, Output) {
        let (fired, keep) = (self.scratch.join("fired"), self.scratch.join("keep"));
        let _ = (fs::remove_file(&fired), fs::remove_dir_all(&keep));
        fs::create_dir_all(&keep).unwrap();
        let mut command = self.command(command, Some(kind));
        command.env("SMPO_FAULT_AT", at.to_string()).env("SMPO_FAULT_FIRED", &fired).env("SMPO_FAULT_KEEP", &keep);
        let output = command.output().unwrap();
        (calls(&fired).into_iter().next(), output)
    }
}
