//! Questions on their way to a judge: one engine, or several servers that share them.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use smpo_inference::fleet::{Admission, Ending, News, Patience, Supervisor, Verdict, Worker, deal};
use smpo_inference::{Completion, EngineInfo, Fault, Generator, InferenceError, Request, generate_each};

use super::{JudgeEvent, Judging, Mode, Question, verdict};
use crate::PairsError;
use crate::journal::{Journal, Line};

/// Failures in a row after which judging gives up.
const MAX_FAILURES_IN_A_ROW: usize = 20;

/// The engines of a judge: one, or several that share its questions.
pub struct Judges {
    names: Vec<String>,
    /// Of each worker.
    generators: Vec<Vec<Shared>>,
    patience: Patience,
    /// For each worker the last reason for which it was set aside.
    reasons: Vec<String>,
}

/// A generator that is asked in several rounds, each with threads of its own.
#[derive(Clone)]
struct Shared(Arc<Mutex<Box<dyn Generator>>>);

impl Generator for Shared {
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).generate(request)
    }

    fn engine(&self) -> EngineInfo {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).engine()
    }
}

impl Judges {
    /// Engines of one model.
    pub fn new(workers: Vec<Worker>, patience: Patience) -> Self {
        let reasons = vec![String::new(); workers.len()];
        let share = |one| Shared(Arc::new(Mutex::new(one)));
        let (names, generators) = workers
            .into_iter()
            .map(|Worker { name, generators }| (name, generators.into_iter().map(share).collect::<Vec<_>>()))
            .unzip();
        Self { names, generators, patience, reasons }
    }

    /// Asks for all requests once.
    pub(super) fn ask(&mut self, requests: Vec<Request>, asking: &mut Round<'_, '_>) -> Result<(), PairsError> {
        if let [generators] = &mut self.generators[..] {
            generate_each(generators, &requests, |index, result| asking.take(index, result));
        } else {
            let workers = self.names.iter().zip(&self.generators).map(|(name, generators)| Worker {
                name: name.clone(),
                generators: generators.iter().map(|one| Box::new(one.clone()) as Box<dyn Generator>).collect(),
            });
            let mut fleet = Fleet { round: asking, names: &self.names, reasons: &mut self.reasons };
            let ending = deal(workers.collect(), &requests.into(), &self.patience, &mut fleet);
            if ending == Ending::NoneLeft && asking.outcome.is_ok() {
                let judges = self.names.iter().cloned().zip(self.reasons.iter().cloned()).collect();
                return Err(PairsError::NoJudgeLeft { judges, done: asking.done, total: asking.total });
            }
        }
        std::mem::replace(&mut asking.outcome, Ok(()))
    }
}

/// A question on which the judge failed.
pub(super) struct Failed {
    pub question: String,
    pub reason: String,
    /// It would fail on it again.
    pub lasting: bool,
}

/// One round of open questions.
pub(super) struct Round<'a, 'q> {
    pub mode: Mode,
    pub open: &'a [&'q Question],
    pub journal: &'a mut Journal,
    /// Questions with a decision, before this round and now.
    before: usize,
    pub done: usize,
    pub total: usize,
    pub on_event: &'a mut dyn FnMut(JudgeEvent<'_>) -> ControlFlow<()>,
    /// The caller stopped it.
    pub stopped: bool,
    /// Questions on which the judge failed.
    pub failed: Vec<Failed>,
    failures: usize,
    outcome: Result<(), PairsError>,
}

impl<'a, 'q> Round<'a, 'q> {
    pub fn new(
        mode: Mode,
        open: &'a [&'q Question],
        (done, total): (usize, usize),
        journal: &'a mut Journal,
        on_event: &'a mut dyn FnMut(JudgeEvent<'_>) -> ControlFlow<()>,
    ) -> Self {
        let failed = Vec::new();
        let before = done;
        Self {
            mode,
            open,
            journal,
            before,
            done,
            total,
            on_event,
            stopped: false,
            failed,
            failures: 0,
            outcome: Ok(()),
        }
    }

    fn tell(&mut self, event: JudgeEvent<'_>) -> ControlFlow<()> {
        let flow = (self.on_event)(event);
        self.stopped |= flow.is_break();
        flow
    }

    /// Keeps the decision of a reply.
    fn take(&mut self, index: usize, result: Result<Completion, InferenceError>) -> ControlFlow<()> {
        match result {
            Ok(completion) => {
                self.failures = 0;
                // a reply that was cut may still have changed its mind
                let whole = completion.finish.ended() != Some(false);
                if let Some(verdict) = verdict::of_reply(self.mode, &completion.text).filter(|_| whole) {
                    self.done += 1;
                    let line = Line { question: self.open[index].hash.clone(), verdict, reply: completion.text };
                    if let Err(error) = self.journal.append([line]) {
                        self.outcome = Err(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            Err(last) => {
                self.failures += 1;
                let lasting = matches!(last.fault(), Fault::Request | Fault::Refused);
                self.failed.push(Failed { question: self.open[index].hash.clone(), reason: last.reason(), lasting });
                let fatal = last.is_fatal() && self.done == self.before;
                if (fatal || self.failures >= MAX_FAILURES_IN_A_ROW) && self.outcome.is_ok() {
                    self.outcome = Err(PairsError::Judge { count: self.failures, last });
                    return ControlFlow::Break(());
                }
            }
        }
        self.tell(JudgeEvent::Progress(Judging { done: self.done, total: self.total }))
    }
}

/// A round on several servers.
struct Fleet<'a, 'b, 'q> {
    round: &'a mut Round<'b, 'q>,
    names: &'a [String],
    reasons: &'a mut [String],
}

impl Supervisor for Fleet<'_, '_, '_> {
    fn trial(&mut self, _: usize, _: bool) -> Admission {
        // The judge's model cannot be checked: no weights of it are here.
        Admission::Free(usize::MAX)
    }

    fn verdict(&mut self, _: usize, _: &[(Arc<Request>, Completion)]) -> Verdict {
        Verdict::Admitted(usize::MAX)
    }

    fn finished(&mut self, index: usize, _: usize, result: Result<Completion, InferenceError>) -> ControlFlow<()> {
        self.round.take(index, result)
    }

    fn news(&mut self, news: News) {
        // Standing changes between replies; the next one asks whether to go on.
        let _ = match news {
            News::SetAside { again: true, pause: Some(_), .. } => ControlFlow::Continue(()),
            News::SetAside { worker, reason, pause, .. } => {
                self.reasons[worker].clone_from(&reason);
                self.round.tell(JudgeEvent::SetAside { judge: &self.names[worker], reason: &reason, pause })
            }
            News::Back { worker } => self.round.tell(JudgeEvent::Back { judge: &self.names[worker] }),
        };
    }

    fn waiting(&mut self) -> ControlFlow<()> {
        let Round { done, total, .. } = *self.round;
        self.round.tell(JudgeEvent::Progress(Judging { done, total }))
    }
}
