//! Ctrl-C: the first asks long work to save and stop, the second ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// Installs the handler. Where the system refuses one, Ctrl-C keeps its usual meaning.
pub fn install() {
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after the current step; press Ctrl-C again to stop at once");
    });
}

/// The flag that long work looks at between steps.
pub fn flag() -> &'static AtomicBool {
    &STOP
}

/// Whether Ctrl-C has been pressed.
pub fn requested() -> bool {
    STOP.load(Ordering::SeqCst)
}
