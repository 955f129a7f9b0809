//! Paths of the results, and commands to continue with.

use std::path::Path;

use smpo_report::wording::shell_word;

use crate::inputs::Inputs;

/// For a terminal. The commands work as they are; people put their own model and data in.
pub fn render(out: &Path, inputs: &Inputs, page: &Path) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "smpo".to_owned());
    let program = shell_word(Path::new(&program));
    let path = |shipped: &str| shell_word(&inputs.path(shipped));
    let (config, suite) = (path("configs/demo/modified.toml"), path("evals/demo.toml"));
    let (model, data) = (path("datasets/demo/base"), path("datasets/demo/preferences.jsonl"));
    let base = shell_word(&out.join("eval/demo/start"));
    let policy = path("evals/gates/demo.toml");
    format!(
        "Leaderboard   {}\nVerdict       {}\n\n\
         Next, on your own model and data (as printed, they use the demo's):\n  \
         {program} train {config} --set model_name_or_path={model} --set dataset={data} --set output_dir=my-run\n  \
         {program} eval my-run/model --suite {suite} --out my-run/eval\n  \
         {program} gate --baseline {base} --candidate my-run/eval --policy {policy}\n",
        page.display(),
        out.join("verdict.json").display(),
    )
}
