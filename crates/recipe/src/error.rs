//! Errors of recipes.

use std::path::PathBuf;

use smpo_files::FileError;

/// Errors of reading and running a recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read, or a record cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a recipe.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// File.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Expected and got.
        problem: String,
    },
    /// The recipe contradicts itself.
    #[error("{}: {problem}", path.display())]
    Whole {
        /// File.
        path: PathBuf,
        /// Expected and got.
        problem: String,
    },
    /// A stage's command would be refused.
    #[error("{}: stage {stage}: {problem}", path.display())]
    Stage {
        /// The recipe.
        path: PathBuf,
        /// Name of the stage.
        stage: String,
        /// The command's own message.
        problem: String,
    },
    /// A stage failed.
    #[error("stage {stage} failed ({status}); its output: {}\n{tail}", log.display())]
    Failed {
        /// Name of the stage.
        stage: String,
        /// Exit status.
        status: String,
        /// File with its output.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// The command could not be started.
    #[error("stage {stage}: cannot start {}: {source}", program.display())]
    Start {
        /// Name of the stage.
        stage: String,
        /// The program.
        program: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// Another process runs the recipe.
    #[error("{}: another smpo runs a recipe in this directory; wait for it or choose another `out`", out.display())]
    Locked {
        /// Output directory.
        out: PathBuf,
    },
    /// Stages of an earlier call are still running.
    #[error("stage {stage} of an earlier call is still running as process {pid}; wait for it, or stop it")]
    StillRunning {
        /// Name of the stage.
        stage: String,
        /// The process.
        pid: u32,
    },
}
