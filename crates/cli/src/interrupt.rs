//! Ctrl-C: the first stops long work after saving, the second ends the program at once.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// Installs the handler once there is work that reads the flag: before, and in commands without such work, Ctrl-C ends
/// the program, as it does if the system refuses a handler.
fn install() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let _ = ctrlc::set_handler(|| {
            if STOP.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            crate::output::note("\nstopping after the current step; press Ctrl-C again to stop at once");
        });
    });
}

/// The flag that long work reads between steps.
pub fn flag() -> &'static AtomicBool {
    install();
    &STOP
}

/// True after Ctrl-C.
pub fn requested() -> bool {
    flag().load(Ordering::SeqCst)
}
