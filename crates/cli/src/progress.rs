//! Progress on standard error: bars on a terminal, a plain line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::note;

/// Progress display of a command.
pub struct Progress {
    bars: Option<MultiProgress>,
    /// Columns of the terminal.
    columns: usize,
}

/// One stage with a known number of units.
pub struct Stage {
    name: String,
    total: AtomicU64,
    bar: Option<ProgressBar>,
    /// Columns that are left for a message beside the bar.
    beside: usize,
    last_line: Mutex<Instant>,
    /// Time and number of the first unit reported: the speed is measured from there.
    first: Mutex<Option<(Instant, u64)>>,
}

/// Minimum time between two lines of a stage in a log.
const PLAIN_INTERVAL: Duration = Duration::from_secs(15);

/// Columns of a bar without its message, beside the bar's own width: name, spaces, `12345/12345` and the time.
const FRAME: usize = 26 + 1 + 1 + 11 + 1 + 4 + 1;

/// Width of the bar itself in a terminal that wide.
fn bar_width(columns: usize) -> usize {
    columns.saturating_sub(FRAME).clamp(4, 24)
}

impl Progress {
    /// Bars when standard error is a terminal.
    pub fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Progress { bars, columns: usize::from(console::Term::stderr().size().1) }
    }

    /// Prints a line above any bars.
    pub fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => {
                let _ = bars.println(line);
            }
            None => note(line),
        }
    }

    /// Starts a stage of `total` units.
    pub fn stage(&self, name: &str, total: u64) -> Stage {
        let width = bar_width(self.columns);
        let bar = self.bars.as_ref().map(|bars| {
            let template =
                format!("{{prefix:<26}} {{bar:{width}.cyan/dim}} {{pos:>5}}/{{len:<5}} {{elapsed:>4}} {{msg}}");
            let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = bars.add(ProgressBar::new(total));
            bar.set_style(style);
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Stage {
            name: name.to_owned(),
            total: total.into(),
            bar,
            beside: self.columns.saturating_sub(FRAME + width),
            last_line: Mutex::new(Instant::now()),
            first: Mutex::new(None),
        }
    }
}

impl Stage {
    /// Sets the number of units, where it is known only later.
    pub fn resize(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
    }

    /// Moves to `done` units, with a short message (loss, tokens/s…); the remaining time follows it.
    pub fn update(&self, done: u64, message: &str) {
        let parts = [message, &self.remaining(done)];
        let message = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ");
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(self.placed(&message));
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.elapsed() >= PLAIN_INTERVAL {
            *last = Instant::now();
            note(&format!("{}: {done}/{} {message}", self.name, self.total.load(Ordering::Relaxed)));
        }
    }

    /// Remaining time at the speed so far; empty before the second unit.
    fn remaining(&self, done: u64) -> String {
        let mut first = self.first.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (since, at) = *first.get_or_insert_with(|| (Instant::now(), done));
        let total = self.total.load(Ordering::Relaxed);
        if done <= at || done >= total {
            return String::new();
        }
        let left = since.elapsed().as_secs_f64() / (done - at) as f64 * (total - done) as f64;
        remaining(left)
    }

    /// Ends the stage; what remains is one line.
    pub fn finish(&self, message: &str) {
        let message = if message.is_empty() { "done" } else { message };
        match &self.bar {
            Some(bar) => bar.finish_with_message(self.placed(message)),
            None => note(&format!("{}: {message}", self.name)),
        }
    }

    fn placed(&self, message: &str) -> String {
        placed(message, self.beside)
    }
}

/// A time as text, such as `12m`.
pub fn duration(seconds: f64) -> String {
    format!("{:#}", indicatif::HumanDuration(Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// A remaining time as text, such as `12m left`.
pub fn remaining(seconds: f64) -> String {
    format!("{} left", duration(seconds))
}

/// A message beside its bar where it fits into the columns there, else on a line of its own below.
fn placed(message: &str, columns: usize) -> String {
    if message.chars().count() <= columns { message.to_owned() } else { format!("\n  {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        let message = "loss 1.015  margin 1.37  EOS rejected -16.59  32607 tok/s  59s left  49.0 MiB";
        for columns in [60, 80, 100, 140, 200] {
            let width = bar_width(columns);
            let frame = FRAME + width;
            let shown = placed(message, columns.saturating_sub(frame));
            let (beside, below) = shown.split_once('\n').unwrap_or((&shown, ""));
            assert!(frame + beside.len() <= columns, "{columns}");
            assert!(below.len() <= columns.max(80), "{columns}: {}", below.len());
        }
        assert!(placed("done", 80 - FRAME - bar_width(80)) == "done");
    }
}
