//! Jobs dealt to workers. `.ci/models` compiles this file too, with threads whose order it chooses.

use std::ops::ControlFlow;

use crate::sync::{AtomicUsize, Ordering, mpsc, thread};

/// Does the jobs `0..count`, each worker on its own thread. `deliver` is called with each job and its result as they finish,
/// on the calling thread; when it breaks, no further job is started, and those in flight are still delivered.
pub(crate) fn deal<W: Send, R: Send>(
    workers: &mut [W],
    count: usize,
    work: impl Fn(&mut W, usize) -> R + Sync,
    mut deliver: impl FnMut(usize, R) -> ControlFlow<()>,
) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, results) = mpsc::channel();
        for worker in workers {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    if job >= count || sender.send((job, work(worker, job))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (job, result) in results {
            if deliver(job, result).is_break() {
                // Past the end for every thread; what has started still arrives.
                next.store(count, Ordering::Relaxed);
            }
        }
    });
}
