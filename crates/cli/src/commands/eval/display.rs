//! Progress of an evaluation on standard error.

use std::time::Duration;

use smpo_eval::{Disagreement, Event};
use smpo_results::FidelityInfo;

use crate::progress::{Progress, Stage, duration};

/// Largest difference of two engines in float32, in nats, that is no reason to look closer.
const CROSS_CHECK: f64 = 1e-2;

/// The words for a server that was set aside and is no longer.
pub const BACK: &str = "it answers again and is back";

/// The words for a server or device that gets no further requests, for a time or for good.
pub fn set_aside(reason: &str, pause: Option<Duration>) -> String {
    match pause {
        None => format!("out of this run: {reason}"),
        Some(pause) => {
            format!("set aside: {reason}; it is asked again in {}", duration(pause.as_secs_f64().ceil()))
        }
    }
}

/// The words for a server that answers under another name than was asked for.
pub fn other_model(requested: &str, answered: &str) -> String {
    format!("warning: asked for {requested:?}, the server answers as {answered:?}")
}

/// The words for servers of one run that give different names of something of theirs.
pub fn disagree(results: &str, Disagreement { names, servers }: &Disagreement) -> String {
    let servers: Vec<String> =
        servers.iter().map(|(server, names)| format!("{server} {}", smpo_suggest::list(names))).collect();
    format!(
        "warning: the servers give different names of their {names}: {}; {results} of different models do not belong together",
        servers.join(", ")
    )
}

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
            Event::Disagree(found) => self.say(&disagree("samples", &found)),
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
                self.say(&format!(
                    "the engine failed on {failed} of {total} samples; the same command retries them (a prompt that is too \
                     long fails again)"
                ));
            }
            Event::OtherModel { requested, answered } => self.say(&other_model(&requested, &answered)),
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
            Event::Standing { set_aside: None, .. } => self.say(BACK),
            Event::Standing { set_aside: Some(reason), pause } => self.say(&set_aside(&reason, pause)),
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
