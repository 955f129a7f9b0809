//! Several generators on one list of requests.

use std::ops::ControlFlow;

use crate::dealt::deal;
use crate::{Completion, Generator, InferenceError, Request};

/// Completes every request, each generator on its own thread. `deliver` is called with the request's index and its
/// result as they finish, on the calling thread; when it breaks, no further request is started, those in
/// flight are still delivered, and the call returns.
///
/// Requests start in order and finish in any; what they draw depends on neither (`smpo_sampling::Noise`).
pub fn generate_each<G: Generator>(
    generators: &mut [G],
    requests: &[Request],
    deliver: impl FnMut(usize, Result<Completion, InferenceError>) -> ControlFlow<()>,
) {
    deal(generators, requests.len(), |generator, index| generator.generate(&requests[index]), deliver);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::{EngineInfo, Sampler, Scripted};
    use smpo_chat::Message;

    fn requests(count: usize) -> Vec<Request> {
        (0..count)
            .map(|index| Request {
                prompt_id: format!("p{index}"),
                sample: 0,
                messages: vec![Message::user("hi")],
                sampler: Sampler::greedy(),
                max_tokens: 8,
                seed: 0,
                extra_body: Default::default(),
            })
            .collect()
    }

    #[test]
    fn every_request_is_answered_once_whatever_fails() {
        let script = (0..40).fold(Scripted::new(), |script, index| match index % 7 {
            3 => script.failure(format!("p{index}"), "scripted failure"),
            _ => script.text(format!("p{index}"), format!("answer {index}")),
        });
        let mut generators = vec![script.clone(), script.clone(), script];
        let mut seen = vec![0; 40];
        generate_each(&mut generators, &requests(40), |index, result| {
            seen[index] += 1;
            match result {
                Ok(completion) => assert_eq!(completion.text, format!("answer {index}")),
                Err(error) => assert_eq!(index % 7, 3, "{error}"),
            }
            ControlFlow::Continue(())
        });
        assert_eq!(seen, [1; 40]);
    }

    struct Counting<'a>(&'a AtomicUsize);

    impl Generator for Counting<'_> {
        fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            thread::sleep(std::time::Duration::from_millis(1));
            Scripted::new().text(&request.prompt_id, "x").generate(request)
        }
        fn engine(&self) -> EngineInfo {
            Scripted::new().engine()
        }
    }

    #[test]
    fn breaking_starts_nothing_more_and_loses_nothing_started() {
        let started = AtomicUsize::new(0);
        let mut delivered = 0;
        generate_each(&mut [Counting(&started), Counting(&started)], &requests(500), |_, _| {
            delivered += 1;
            if delivered < 5 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert_eq!(delivered, started.load(Ordering::SeqCst));
        assert!(delivered < 50, "{delivered} of 500 ran after the break");
    }
}
