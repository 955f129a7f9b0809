//! Progress of downloads, for the front of the program.

use std::sync::OnceLock;

/// Progress of a download.
#[derive(Debug, Clone, Copy)]
pub struct Download<'a> {
    /// Path in the repository.
    pub file: &'a str,
    /// Bytes so far.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

type Observer = Box<dyn Fn(Download<'_>) + Send + Sync>;

static OBSERVER: OnceLock<Observer> = OnceLock::new();

/// Shows every download of this process with `observer`; the first one stays.
pub fn observe(observer: impl Fn(Download<'_>) + Send + Sync + 'static) {
    // a second observer would show everything twice
    let _ = OBSERVER.set(Box::new(observer));
}

pub(crate) fn tell(download: Download<'_>) {
    if let Some(observer) = OBSERVER.get() {
        observer(download);
    }
}
