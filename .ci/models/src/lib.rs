//! The files that `crates/native` and `crates/inference` compile, with shuttle's locks and threads in place of the standard
//! library's: each test runs its body thousands of times, under other orders of its threads.
//!
//!     cargo test --release --manifest-path .ci/models/Cargo.toml
#![cfg(test)]

#[path = "../../../crates/inference/src/dealt.rs"]
mod dealt;
#[path = "../../../crates/native/src/queue.rs"]
mod queue;

/// The names of `crate::sync` in both crates.
mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use shuttle::sync::atomic::{AtomicUsize, Ordering};
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, mpsc};
    pub(crate) use shuttle::thread;
}

use std::ops::ControlFlow;

use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

use dealt::deal;
use queue::Queue;

/// Schedules of each model.
const SCHEDULES: usize = 20_000;

fn check(model: impl Fn() + Send + Sync + 'static) {
    shuttle::check_pct(model, SCHEDULES, 3);
}

/// A worker as `crates/native/src/worker.rs` has it: it waits where it has nothing, and takes what has room beside what it has.
fn work(queue: &Queue<usize>, room: usize, done: &Mutex<Vec<usize>>) {
    loop {
        let mut running: Vec<usize> = Vec::new();
        while running.len() < 2 {
            let alone = running.is_empty();
            let left = room.saturating_sub(running.iter().sum());
            let Some(job) = queue.pop(alone, |job| alone || *job <= left) else { break };
            running.push(job);
        }
        if running.is_empty() {
            return;
        }
        done.lock().unwrap().extend(running);
    }
}

#[test]
fn every_job_is_done_once_and_every_worker_ends() {
    check(|| {
        let (queue, done) = (Arc::new(Queue::default()), Arc::new(Mutex::new(Vec::new())));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (queue, done) = (queue.clone(), done.clone());
                thread::spawn(move || work(&queue, 4, &done))
            })
            .collect();
        let callers: Vec<_> = [[1, 5], [3, 2]]
            .into_iter()
            .map(|jobs| {
                let queue = queue.clone();
                thread::spawn(move || jobs.into_iter().for_each(|job| queue.push(job)))
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        queue.close();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        let mut done = done.lock().unwrap().clone();
        done.sort_unstable();
        assert_eq!(done, [1, 2, 3, 5]);
    });
}

/// A caller that waits for its own job, as `generate` does, before anybody closes the queue.
#[test]
fn no_job_waits_for_another() {
    check(|| {
        let (queue, done) = (Arc::new(Queue::default()), Arc::new(Mutex::new(Vec::new())));
        let worker = {
            let (queue, done) = (queue.clone(), done.clone());
            thread::spawn(move || work(&queue, 1, &done))
        };
        let callers: Vec<_> = (1..3)
            .map(|job| {
                let (queue, done) = (queue.clone(), done.clone());
                thread::spawn(move || {
                    queue.push(job);
                    while !done.lock().unwrap().contains(&job) {
                        thread::yield_now();
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        queue.close();
        worker.join().unwrap();
    });
}

#[test]
fn every_job_is_delivered_once() {
    check(|| {
        let mut delivered = vec![0; 4];
        deal(
            &mut [0, 0, 0],
            4,
            |worker, job| *worker += job,
            |job, ()| {
                delivered[job] += 1;
                ControlFlow::Continue(())
            },
        );
        assert_eq!(delivered, [1; 4]);
    });
}

#[test]
fn after_a_break_what_has_started_is_delivered_and_nothing_else_starts() {
    check(|| {
        let (started, mut delivered) = (AtomicUsize::new(0), 0);
        deal(
            &mut [(), ()],
            6,
            |(), _| started.fetch_add(1, Ordering::SeqCst),
            |_, _| {
                delivered += 1;
                if delivered < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        );
        assert_eq!(delivered, started.load(Ordering::SeqCst));
    });
}
