//! Ctrl-C: the first stops long work after saving, the second ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// Installs the handler. If the system refuses one, Ctrl-C ends the program.
pub fn install() {
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after the current step; press Ctrl-C again to stop at once");
    });
}

/// The flag that long work reads between steps.
pub fn flag() -> &'static AtomicBool {
    &STOP
}

/// True after Ctrl-C.
pub fn requested() -> bool {
    STOP.load(Ordering::SeqCst)
}
