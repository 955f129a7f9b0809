//! Progress of an evaluation on standard error.

use smpo_eval::Event;
use smpo_results::FidelityInfo;

use crate::progress::{Progress, Stage, duration};

/// Largest difference of two engines in float32, in nats, that is no reason to look closer.
const CROSS_CHECK: f64 = 1e-2;

/// Bars and lines of one evaluation.
pub struct Display<'a> {
    progress: &'a Progress,
    name: &'a str,
    stage: Option<(&'static str, Stage)>,
    /// The first failure was told.
    failing: bool,
}

impl<'a> Display<'a> {
    /// Lines start with the model's name.
    pub fn new(progress: &'a Progress, name: &'a str) -> Self {
        Display { progress, name, stage: None, failing: false }
    }

    /// Prints a line.
    pub fn say(&self, line: &str) {
        self.progress.say(&format!("{}: {line}", self.name));
    }

    /// Shows an event.
    pub fn show(&mut self, event: Event) {
        match event {
            Event::Of { worker, event } => self.show_of(&worker, *event),
            Event::Waiting => {}
            Event::Disagree { names, servers } => {
                let servers: Vec<String> =
                    servers.iter().map(|(server, names)| format!("{server} {}", smpo_suggest::list(names))).collect();
                self.say(&format!(
                    "warning: the servers give different names of their {names}: {}; samples of different \
                     models do not belong together",
                    servers.join(", ")
                ));
            }
            Event::Shares(shares) => {
                let shares: Vec<String> =
                    shares.iter().map(|(worker, samples)| format!("{worker} {samples}")).collect();
                self.say(&format!("samples: {}", shares.join(", ")));
            }
            Event::Unchecked => self.say("fidelity not checked: the engine reports no log-probs that match token ids"),
            Event::Compared(FidelityInfo { reference, tokens, mean, p95, max, .. }) => {
                let differs = if max > CROSS_CHECK { "warning: " } else { "" };
                self.say(&format!(
                    "{differs}|Δ log-prob| to {reference} over {tokens} tokens: mean {mean:.1e}, 95th percentile \
                     {p95:.1e}, max {max:.1e} nats"
                ));
            }
            Event::Sequential => {
                self.say("one request at a time, since concurrent ones were not checked; --concurrency N allows more");
            }
            Event::Failed { failed, total } => {
                self.say(&format!("the engine failed on {failed} of {total} samples; the same command retries them"));
            }
            Event::OtherModel { requested, answered } => {
                self.say(&format!("warning: asked for {requested:?}, the server answers as {answered:?}"));
            }
            Event::OwnDefaults(fields) => self.say(&format!(
                "warning: the server refuses {}; its own defaults apply to them, which run.json records",
                fields.join(", ")
            )),
            Event::FinishRemarks(remarks) => {
                let remarks: Vec<String> =
                    remarks.iter().map(|(remark, samples)| format!("{remark} ({samples} samples)")).collect();
                self.say(&format!("warning: finish reasons that do not tell an end: {}", remarks.join("; ")));
            }
            Event::Sampling(state) => {
                if let Some(error) = state.last_error.as_deref().filter(|_| !self.failing) {
                    self.failing = true;
                    self.say(&format!("a sample failed: {error}"));
                }
                let mut speed = format!("{:.0} tokens/s", state.tokens_per_second);
                if state.failed > 0 {
                    speed.push_str(&format!(", {} failed", state.failed));
                }
                self.update("", state.done, state.total, &speed);
            }
            Event::Standing { set_aside: None, .. } => self.say("it answers again and is back"),
            Event::Standing { set_aside: Some(reason), pause: None } => self.say(&format!("out of this run: {reason}")),
            Event::Standing { set_aside: Some(reason), pause: Some(pause) } => {
                let seconds = pause.as_secs_f64().ceil();
                self.say(&format!("set aside: {reason}; it is asked again in {}", duration(seconds)));
            }
            Event::Reward { done, total } => self.update(": rewards", done, total, ""),
            Event::Gold { done, total } => self.update(": gold answers", done, total, ""),
            Event::HeldOut { done, total } => self.update(": held-out pairs", done, total, ""),
        }
    }

    /// Shows an event of one of several servers or devices.
    fn show_of(&mut self, worker: &str, event: Event) {
        let mut display = Display::new(self.progress, worker);
        display.show(event);
    }

    fn update(&mut self, part: &'static str, done: usize, total: usize, message: &str) {
        if self.stage.as_ref().is_none_or(|(name, _)| *name != part) {
            self.stage = Some((part, self.progress.stage(&format!("{}{part}", self.name), total as u64)));
        }
        if let Some((_, stage)) = &self.stage {
            stage.update(done as u64, message);
            if done == total {
                stage.finish(message);
            }
        }
    }
}
