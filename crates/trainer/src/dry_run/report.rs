//! Findings of a dry run, as text and as JSON.

use serde_json::{Value, json};
use smpo_data::{CheckReport, Severity};
use smpo_devices::format_bytes;
use smpo_suggest::counted;

use super::DryRun;
use crate::config::TrainConfig;
use crate::memory::MemoryPlan;

/// Version of the JSON.
const SCHEMA: u32 = 1;

impl DryRun {
    /// Model, loss, data, rows, steps and memory, a line each; the errors are not in it.
    pub fn text(&self, config: &TrainConfig) -> String {
        let mut lines = vec![
            format!("model   {}", config.model_name_or_path.display()),
            format!("loss    {}", config.loss.loss.kind()),
        ];
        for report in &self.data {
            lines.push(format!("data    {}", counts(report)));
        }
        if let Some(rows) = &self.rows {
            let truncated = rows.truncated;
            lines.push(format!(
                "rows    {} to train on, {} held out, {} dropped; {} prompts and {} completions truncated",
                rows.train, rows.held_out, rows.dropped, truncated.prompts, truncated.completions
            ));
            if rows.unfinished.any() {
                lines.push(format!("        {}", rows.unfinished));
            }
            if rows.degenerate.any() {
                lines.push(format!("        {}", rows.degenerate));
            }
        }
        if let Some(steps) = self.steps {
            lines.push(format!("steps   {steps}, of {} each", counted(config.batch_size(), "row")));
        }
        let (total, free) = (format_bytes(self.memory.total()), format_bytes(self.free_memory));
        lines.push(format!("memory  about {total} ({}), {free} free", self.memory.parts()));
        lines.join("\n")
    }

    /// The same for programs, with the configuration and the errors; `rows` and `steps` are null if the rows cannot be
    /// loaded.
    ///
    /// # Panics
    /// If a path of the configuration is not UTF-8.
    pub fn json(&self, config: &TrainConfig) -> Value {
        let MemoryPlan { estimate, reference, tokens, .. } = &self.memory;
        let rows = self.rows.map(|rows| {
            json!({
                "train": rows.train,
                "held_out": rows.held_out,
                "held_out_of_train": rows.held_out_of_train,
                "dropped": rows.dropped,
                "truncated_prompts": rows.truncated.prompts,
                "truncated_completions": rows.truncated.completions,
                "unfinished_chosen": rows.unfinished.chosen,
                "unfinished_rejected": rows.unfinished.rejected,
                "unfinished_dropped": rows.unfinished.dropped_rows,
                "unfinished_grouped": rows.unfinished.grouped,
                "unfinished_dropped_completions": rows.unfinished.dropped_completions,
                "degenerate_groups": rows.degenerate.small + rows.degenerate.tied,
            })
        });
        json!({
            "schema": SCHEMA,
            "config": config,
            "data": self.data,
            "rows": rows,
            "steps": self.steps,
            "memory": {
                "pack_tokens": tokens,
                "weights_bytes": estimate.weights,
                "gradients_bytes": estimate.gradients,
                "optimizer_bytes": estimate.optimizer,
                "activations_bytes": estimate.activations,
                "reference_bytes": reference,
                "total_bytes": self.memory.total(),
                "free_bytes": self.free_memory,
            },
            "errors": self.errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

/// File, rows, and numbers of kinds of errors and warnings.
fn counts(report: &CheckReport) -> String {
    let [errors, warnings] = [Severity::Error, Severity::Warning].map(|severity| report.counted(severity));
    format!("{}: {}, {errors}, {warnings}", report.file, counted(report.rows, "row"))
}
