//! The commands that follow a finished run.

use std::path::Path;

use smpo_report::wording::shell_word;
use smpo_trainer::TrainConfig;

/// Suite of the first look at a model.
const SUITE: &str = "ood-smoke";

/// Commands that work as they are printed, a line each.
pub fn steps(config: &TrainConfig, model: &Path) -> String {
    let run = |name: &str| shell_word(&config.output_dir.join(name));
    let (trained, start) = (shell_word(model), shell_word(&config.model_name_or_path));
    let mut commands = match config.labels() {
        Some(_) => vec![format!("smpo reward score {trained} FILE.jsonl")],
        None => vec![
            format!("smpo eval {trained} --suite {SUITE} --out {}", run("eval")),
            format!("smpo eval {start} --suite {SUITE} --out {}", run("eval-before")),
            format!("smpo gate --baseline {} --candidate {} --policy smoke", run("eval-before"), run("eval")),
        ],
    };
    commands.push(format!("smpo plot {} --out {}", shell_word(&config.output_dir), run("curves.html")));
    format!("Next:\n  {}", commands.join("\n  "))
}
