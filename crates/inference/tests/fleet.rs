//! Requests on a fleet of scripted workers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use smpo_chat::Message;
use smpo_inference::fleet::{Admission, Ending, News, Patience, Supervisor, Verdict, Worker, deal};
use smpo_inference::{Completion, EngineInfo, Generator, InferenceError, Request, Sampler};

/// Behaviour of one generator: from the number of requests that its worker has had to an answer.
type Behaviour = Arc<dyn Fn(usize, &Request) -> Result<Completion, InferenceError> + Send + Sync>;

struct Played {
    behaviour: Behaviour,
    asked: Arc<AtomicUsize>,
}

impl Generator for Played {
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        (self.behaviour)(self.asked.fetch_add(1, Ordering::SeqCst), request)
    }

    fn engine(&self) -> EngineInfo {
        EngineInfo { name: "played".into(), version: String::new(), dtype: None, device: String::new() }
    }
}

fn worker(
    seats: usize,
    behaviour: impl Fn(usize, &Request) -> Result<Completion, InferenceError> + Send + Sync + 'static,
) -> Worker {
    let (behaviour, asked) = (Arc::new(behaviour) as Behaviour, Arc::new(AtomicUsize::new(0)));
    let seat = || Box::new(Played { behaviour: behaviour.clone(), asked: asked.clone() }) as Box<dyn Generator>;
    Worker { name: String::new(), generators: (0..seats).map(|_| seat()).collect() }
}

fn answer(request: &Request) -> Result<Completion, InferenceError> {
    Ok(Completion::new(format!("about {}", request.prompt_id)))
}

fn http(request: &Request, status: Option<u16>, fatal: bool) -> InferenceError {
    InferenceError::Http {
        prompt_id: request.prompt_id.clone(),
        sample: 0,
        url: "http://x".into(),
        status,
        attempts: 1,
        message: "scripted".into(),
        fatal,
        pause: None,
    }
}

fn requests(count: usize) -> Arc<[Request]> {
    (0..count).map(|index| request(&format!("p{index}"))).collect()
}

fn request(prompt_id: &str) -> Request {
    Request {
        prompt_id: prompt_id.into(),
        sample: 0,
        messages: vec![Message::user("hi")],
        sampler: Sampler::greedy(),
        max_tokens: 8,
        seed: 0,
        extra_body: Default::default(),
    }
}

fn patience() -> Patience {
    let [first_pause, longest_pause, give_up] = [10, 40, 60].map(Duration::from_millis);
    Patience { failures: 3, first_pause, longest_pause, give_up }
}

/// Records everything; `tried` workers have a trial of three requests, and `foreign` ones fail theirs.
#[derive(Default)]
struct Book {
    results: BTreeMap<usize, (usize, Result<String, String>)>,
    news: Vec<News>,
    tried: bool,
    foreign: BTreeSet<usize>,
    at_once: Option<usize>,
    stop_after: Option<usize>,
    waited: usize,
    refused: Arc<AtomicBool>,
}

impl Supervisor for Book {
    fn trial(&mut self, _: usize, returning: bool) -> Admission {
        match self.tried || returning {
            true => Admission::Trial((0..3).map(|index| request(&format!("trial{index}"))).collect()),
            false => Admission::Free(self.at_once.unwrap_or(usize::MAX)),
        }
    }

    fn verdict(&mut self, worker: usize, completions: &[(Arc<Request>, Completion)]) -> Verdict {
        assert_eq!(completions.len(), 3);
        match self.foreign.contains(&worker) {
            true => {
                self.refused.store(true, Ordering::SeqCst);
                Verdict::Refused("another model".into())
            }
            false => Verdict::Admitted(self.at_once.unwrap_or(usize::MAX)),
        }
    }

    fn finished(&mut self, index: usize, worker: usize, result: Result<Completion, InferenceError>) -> ControlFlow<()> {
        let result = result.map(|completion| completion.text).map_err(|error| error.to_string());
        assert!(self.results.insert(index, (worker, result)).is_none(), "{index} twice");
        match self.stop_after {
            Some(most) if self.results.len() >= most => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn news(&mut self, news: News) {
        self.news.push(news);
    }

    fn waiting(&mut self) -> ControlFlow<()> {
        self.waited += 1;
        ControlFlow::Continue(())
    }
}

impl Book {
    fn by(&self, worker: usize) -> usize {
        self.results.values().filter(|(by, result)| *by == worker && result.is_ok()).count()
    }

    fn failed(&self) -> usize {
        self.results.values().filter(|(_, result)| result.is_err()).count()
    }
}

fn run(workers: Vec<Worker>, count: usize, mut book: Book) -> (Ending, Book) {
    let ending = deal(workers, &requests(count), &patience(), &mut book);
    (ending, book)
}

#[test]
fn the_slow_one_gets_fewer_and_everything_is_done_once() {
    let paced = |millis: u64| {
        worker(2, move |_, request: &Request| {
            std::thread::sleep(Duration::from_millis(millis));
            answer(request)
        })
    };
    let (ending, book) = run(vec![paced(1), paced(60)], 200, Book::default());
    assert_eq!((ending, book.results.len(), book.failed()), (Ending::Complete, 200, 0));
    assert!(book.by(1) > 0 && book.by(1) * 4 < book.by(0), "{} {}", book.by(0), book.by(1));
    for (index, (_, result)) in &book.results {
        assert_eq!(result.as_ref().ok(), Some(&format!("about p{index}")));
    }
}

#[test]
fn another_model_takes_no_request_and_a_hanging_trial_holds_up_nobody() {
    let foreign = Arc::new(Mutex::new(Vec::new()));
    let seen = foreign.clone();
    let other = worker(2, move |_, request: &Request| {
        seen.lock().expect("whole").push(request.prompt_id.clone());
        answer(request)
    });
    let mute = worker(2, |_, request: &Request| {
        std::thread::sleep(Duration::from_secs(20));
        answer(request)
    });
    let book = Book { tried: true, foreign: [1].into(), ..Book::default() };
    let refused = book.refused.clone();
    // The last requests wait for the verdict: a run that ends before it has no news.
    let patient = worker(2, move |asked, request: &Request| {
        let begun = Instant::now();
        while asked > 40 && !refused.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(4) {
            std::thread::sleep(Duration::from_millis(1));
        }
        answer(request)
    });
    let started = Instant::now();
    let (ending, book) = run(vec![patient, other, mute], 50, book);
    assert_eq!((ending, book.by(0)), (Ending::Complete, 50));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(foreign.lock().expect("whole").iter().all(|id| id.starts_with("trial")));
    assert_eq!(book.news, [News::SetAside { worker: 1, reason: "another model".into(), pause: None, again: false }]);
}

#[test]
fn who_fails_is_set_aside_and_comes_back() {
    // It fails from its tenth request to its fifteenth.
    let flaky = worker(1, |asked, request: &Request| {
        std::thread::sleep(Duration::from_millis(2));
        if (10..15).contains(&asked) { Err(http(request, Some(500), false)) } else { answer(request) }
    });
    let steady = worker(1, |_, request: &Request| {
        std::thread::sleep(Duration::from_millis(10));
        answer(request)
    });
    let (ending, book) = run(vec![flaky, steady], 150, Book::default());
    assert_eq!((ending, book.failed(), book.results.len()), (Ending::Complete, 0, 150));
    assert!(matches!(book.news[0], News::SetAside { worker: 0, pause: Some(_), again: false, .. }), "{:?}", book.news);
    assert!(book.news.contains(&News::Back { worker: 0 }), "{:?}", book.news);
    assert!(book.by(0) > 30, "{} of 150", book.by(0));
}

#[test]
fn a_request_fails_only_where_everybody_fails_on_it() {
    let picky = |odd: usize| {
        worker(2, move |_, request: &Request| {
            let number: usize = request.prompt_id.trim_start_matches(char::is_alphabetic).parse().expect("a number");
            match number {
                // too long for everybody, refused by one, cursed for everybody
                7 => Err(http(request, Some(400), false)),
                21 => Err(http(request, Some(500), false)),
                _ if number % 2 == odd => Err(http(request, Some(413), false)),
                _ => answer(request),
            }
        })
    };
    let (ending, book) = run(vec![picky(0), picky(1)], 40, Book::default());
    let failed: Vec<usize> =
        book.results.iter().filter(|(_, (_, result))| result.is_err()).map(|(index, _)| *index).collect();
    assert_eq!((ending, failed), (Ending::Complete, vec![7, 21]));
    assert!(book.news.is_empty(), "{:?}", book.news);
}

#[test]
fn the_end_without_anybody_left_leaves_the_rest_open() {
    let dying = |after: usize| {
        worker(2, move |asked, request: &Request| {
            std::thread::sleep(Duration::from_millis(1));
            if asked >= after { Err(http(request, None, false)) } else { answer(request) }
        })
    };
    let (ending, book) = run(vec![dying(5), dying(9)], 100, Book::default());
    assert_eq!((ending, book.results.len(), book.failed()), (Ending::NoneLeft, 14, 0));
    // Who was never there is not waited for.
    let started = Instant::now();
    let patience = Patience { first_pause: Duration::from_secs(50), ..patience() };
    let mut book = Book::default();
    assert_eq!(deal(vec![dying(0), dying(0)], &requests(9), &patience, &mut book), Ending::NoneLeft);
    assert!(started.elapsed() < Duration::from_secs(5) && book.results.is_empty());
    let (ending, _) = run(vec![worker(0, |_, request| answer(request))], 3, Book::default());
    assert_eq!(ending, Ending::NoneLeft);
}

#[test]
fn a_request_that_brings_every_worker_down_ends_as_an_error() {
    let fragile = || {
        worker(1, |_, request: &Request| match request.prompt_id.as_str() {
            "p3" => Err(http(request, None, false)),
            _ => answer(request),
        })
    };
    let patience = Patience { failures: 1, ..patience() };
    let mut book = Book::default();
    let ending = deal(vec![fragile(), fragile()], &requests(30), &patience, &mut book);
    assert_eq!((ending, book.results.len(), book.failed()), (Ending::Complete, 30, 1));
    assert!(book.results[&3].1.is_err());
}

#[test]
fn a_panic_is_a_failure() {
    let panics = worker(2, |_, _: &Request| panic!("scripted"));
    let mut book = Book::default();
    let patience = Patience { failures: 1, ..patience() };
    let ending = deal(vec![panics, worker(1, |_, request| answer(request))], &requests(20), &patience, &mut book);
    assert_eq!((ending, book.by(1)), (Ending::Complete, 20));
    assert!(matches!(&book.news[0], News::SetAside { worker: 0, reason, .. } if reason.contains("it panicked")));
}

#[test]
fn a_break_loses_nothing_started() {
    let started = Arc::new(AtomicUsize::new(0));
    let counted = started.clone();
    let works = worker(2, move |_, request: &Request| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        answer(request)
    });
    let (ending, book) = run(vec![works], 300, Book { stop_after: Some(20), ..Book::default() });
    assert_eq!(ending, Ending::Stopped);
    assert_eq!(book.by(0), started.load(Ordering::SeqCst));
    assert!(book.results.len() < 40, "{}", book.results.len());
}

#[test]
fn the_number_of_requests_in_flight_is_bounded() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (in_flight, seen) = (now.clone(), most.clone());
    let counted = worker(8, move |_, request: &Request| {
        seen.fetch_max(in_flight.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
        in_flight.fetch_sub(1, Ordering::SeqCst);
        answer(request)
    });
    let (ending, _) = run(vec![counted], 100, Book { at_once: Some(3), ..Book::default() });
    assert_eq!((ending, most.load(Ordering::SeqCst)), (Ending::Complete, 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Workers fail at random; as long as one is steady every request has its one right answer.
    #[test]
    fn chaos_loses_nothing(seed in any::<u64>(), workers in 2usize..5, count in 1usize..60) {
        let chaotic = |number: u64| worker(2, move |asked, request: &Request| {
            let roll = (seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(asked as u64 * 2 + 1) >> 61;
            match roll {
                0 => Err(http(request, None, false)),
                1 => Err(http(request, Some(503), false)),
                2 => Err(http(request, Some(400), false)),
                _ => answer(request),
            }
        });
        let mut all: Vec<Worker> = (1..workers).map(|number| chaotic(number as u64)).collect();
        all.push(worker(1, |_, request| answer(request)));
        let mut book = Book { ..Book::default() };
        // A trial of a chaotic worker may lose requests to refusals.
        let mut lenient = Lenient(&mut book);
        let ending = deal(all, &requests(count), &patience(), &mut lenient);
        prop_assert_eq!(ending, Ending::Complete);
        prop_assert_eq!(book.results.len(), count);
        for (index, (_, result)) in &book.results {
            prop_assert!(result.as_ref().is_ok_and(|text| *text == format!("about p{index}")), "{:?}", result);
        }
    }
}

/// Admits whatever number of trial requests was answered.
struct Lenient<'a>(&'a mut Book);

impl Supervisor for Lenient<'_> {
    fn trial(&mut self, worker: usize, returning: bool) -> Admission {
        self.0.trial(worker, returning)
    }

    fn verdict(&mut self, _: usize, _: &[(Arc<Request>, Completion)]) -> Verdict {
        Verdict::Admitted(2)
    }

    fn finished(&mut self, index: usize, worker: usize, result: Result<Completion, InferenceError>) -> ControlFlow<()> {
        self.0.finished(index, worker, result)
    }

    fn news(&mut self, news: News) {
        self.0.news(news);
    }

    fn waiting(&mut self) -> ControlFlow<()> {
        self.0.waiting()
    }
}
