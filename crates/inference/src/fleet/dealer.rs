//! The state of a run on a fleet.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::member::{Finished, Job, Member, Standing, Task, Trial};
use super::{Admission, Ending, Marks, News, Patience, Supervisor, Verdict};
use crate::{Completion, Fault, InferenceError, Request};

/// Longest time between two calls of [`Supervisor::waiting`].
const TICK: Duration = Duration::from_millis(200);
/// Failures of one request beyond one for each worker, before its result is an error: it may be what brings them down.
const FURTHER_TRIES: usize = 3;

/// Deals requests to members.
pub(super) struct Dealer<'a> {
    members: Vec<Member>,
    requests: &'a Arc<[Request]>,
    patience: &'a Patience,
    supervisor: &'a mut dyn Supervisor,
    /// The first request that was never dealt.
    fresh: usize,
    /// Requests to be tried again.
    returned: VecDeque<usize>,
    marks: HashMap<usize, Marks>,
    delivered: usize,
    /// Samples in flight.
    in_flight: usize,
    stopped: bool,
    /// The last success of any worker.
    last_good: Instant,
}

impl<'a> Dealer<'a> {
    pub fn new(
        members: Vec<Member>,
        requests: &'a Arc<[Request]>,
        patience: &'a Patience,
        supervisor: &'a mut dyn Supervisor,
    ) -> Self {
        Dealer {
            members,
            requests,
            patience,
            supervisor,
            fresh: 0,
            returned: VecDeque::new(),
            marks: HashMap::new(),
            delivered: 0,
            in_flight: 0,
            stopped: false,
            last_good: Instant::now(),
        }
    }

    pub fn run(mut self, results: &Receiver<Finished>) -> Ending {
        if self.requests.is_empty() {
            return Ending::Complete;
        }
        for worker in 0..self.members.len() {
            match self.members[worker].has_room() {
                true => self.admit(worker, false),
                false => self.put_out(worker, "it has no generator".into(), false),
            }
        }
        loop {
            if !self.stopped {
                self.call_back();
                self.hand_out();
            }
            if let Some(ending) = self.ending() {
                return ending;
            }
            match results.recv_timeout(TICK) {
                Ok(finished) => self.take(finished),
                Err(RecvTimeoutError::Timeout) => self.stopped |= self.supervisor.waiting().is_break(),
                // A member keeps its threads, so there are none only where there are no members.
                Err(RecvTimeoutError::Disconnected) => return Ending::NoneLeft,
            }
        }
    }

    /// Lets a worker in, at once or by a trial.
    fn admit(&mut self, worker: usize, returning: bool) {
        match self.supervisor.trial(worker, returning) {
            Admission::Trial(requests) if !requests.is_empty() => {
                self.members[worker].at_once = usize::MAX;
                self.members[worker].standing = Standing::OnTrial(Trial::new(requests, returning));
            }
            Admission::Trial(_) => self.put_in_service(worker, usize::MAX, returning),
            Admission::Free(at_once) => self.put_in_service(worker, at_once, returning),
        }
    }

    fn put_in_service(&mut self, worker: usize, at_once: usize, returning: bool) {
        let member = &mut self.members[worker];
        member.standing = Standing::InService;
        member.at_once = at_once.max(1);
        member.failures_in_a_row = 0;
        if returning {
            for marks in self.marks.values_mut() {
                marks.failed.remove(&worker);
            }
            self.supervisor.news(News::Back { worker });
        }
    }

    /// Asks those again whose pause is over, once nothing of theirs is in flight.
    fn call_back(&mut self) {
        let now = Instant::now();
        for worker in 0..self.members.len() {
            let member = &self.members[worker];
            if matches!(member.standing, Standing::Aside(until) if until <= now) && member.busy() == 0 {
                self.admit(worker, true);
            }
        }
    }

    /// One request to each that has room, until nobody has or nothing is left.
    fn hand_out(&mut self) {
        loop {
            let mut given = false;
            for worker in 0..self.members.len() {
                given |= self.members[worker].has_room() && self.hand_to(worker);
            }
            if !given {
                return;
            }
        }
    }

    fn hand_to(&mut self, worker: usize) -> bool {
        let job = match &mut self.members[worker].standing {
            Standing::OnTrial(trial) if !trial.is_over() => trial.left.pop().map(Job::Trial),
            Standing::InService => self.pick(worker).map(|index| Job::Sample(index, self.requests.clone())),
            _ => None,
        };
        let Some(job) = job else { return false };
        self.in_flight += usize::from(matches!(job, Job::Sample(..)));
        self.members[worker].give(job)
    }

    /// The next request for a worker: one that failed elsewhere, else a fresh one.
    fn pick(&mut self, worker: usize) -> Option<usize> {
        let marks = &self.marks;
        let may = |index: &usize| marks.get(index).is_none_or(|marks| !marks.has(worker));
        if let Some(place) = self.returned.iter().position(may) {
            return self.returned.remove(place);
        }
        let index = self.fresh;
        self.fresh += usize::from(index < self.requests.len());
        (index < self.requests.len()).then_some(index)
    }

    fn take(&mut self, Finished { worker, seat, task, result }: Finished) {
        self.members[worker].free(seat);
        match task {
            Task::Sample(index) => {
                self.in_flight -= 1;
                match result {
                    Ok(completion) => self.succeeded(index, worker, completion),
                    Err(error) => self.failed(index, worker, error),
                }
            }
            Task::Trial(request) => self.tried(worker, request, result),
        }
    }

    fn succeeded(&mut self, index: usize, worker: usize, completion: Completion) {
        let first_pause = self.patience.first_pause;
        let member = &mut self.members[worker];
        member.failures_in_a_row = 0;
        member.pause = first_pause;
        self.good(worker);
        self.marks.remove(&index);
        self.deliver(index, worker, Ok(completion));
    }

    /// Something was completed: hope for everybody.
    fn good(&mut self, worker: usize) {
        self.last_good = Instant::now();
        self.members[worker].answered = true;
        for member in &mut self.members {
            member.given_up = false;
        }
    }

    fn failed(&mut self, index: usize, worker: usize, error: InferenceError) {
        let fault = error.fault();
        if fault == Fault::Request {
            return self.deliver(index, worker, Err(error));
        }
        let marks = self.marks.entry(index).or_default();
        marks.tries += 1;
        match fault {
            Fault::Refused => marks.refused.insert(worker),
            _ => marks.failed.insert(worker),
        };
        let member = &mut self.members[worker];
        if member.is_in_service() && fault != Fault::Refused {
            member.failures_in_a_row += 1;
            let enough = member.failures_in_a_row >= self.patience.failures || error.requested_pause().is_some();
            if fault == Fault::Lasting {
                self.put_out(worker, error.reason(), false);
            } else if enough {
                self.set_aside(worker, &error, false);
            }
        }
        let members = &self.members;
        let mut left = (0..members.len()).filter(|worker| !members[*worker].is_out()).peekable();
        let marks = self.marks.entry(index).or_default();
        let hopeless = left.peek().is_some() && left.all(|worker| marks.refused.contains(&worker));
        if hopeless || marks.tries >= members.len() + FURTHER_TRIES {
            self.marks.remove(&index);
            return self.deliver(index, worker, Err(error));
        }
        marks.last = Some((worker, error));
        self.returned.push_back(index);
    }

    fn deliver(&mut self, index: usize, worker: usize, result: Result<Completion, InferenceError>) {
        self.delivered += 1;
        self.stopped |= self.supervisor.finished(index, worker, result).is_break();
    }

    fn set_aside(&mut self, worker: usize, error: &InferenceError, again: bool) {
        let Patience { longest_pause, give_up, .. } = *self.patience;
        let member = &mut self.members[worker];
        let requested = error.requested_pause();
        let pause = requested.unwrap_or_default().max(member.pause);
        member.standing = Standing::Aside(Instant::now() + pause);
        member.pause = (member.pause * 2).min(longest_pause);
        // Who never answered is not waited for by a run that has nobody else; who asks for an hour neither.
        member.given_up = !member.answered
            || requested.is_some_and(|pause| pause > longest_pause)
            || (again && self.last_good.elapsed() >= give_up);
        self.supervisor.news(News::SetAside { worker, reason: error.reason(), pause: Some(pause), again });
    }

    fn put_out(&mut self, worker: usize, reason: String, again: bool) {
        self.members[worker].standing = Standing::Out;
        self.supervisor.news(News::SetAside { worker, reason, pause: None, again });
    }

    /// An answer of a trial; the last one decides.
    fn tried(&mut self, worker: usize, request: Arc<Request>, result: Result<Completion, InferenceError>) {
        let member = &mut self.members[worker];
        let busy = member.busy();
        let Standing::OnTrial(trial) = &mut member.standing else { return };
        match result {
            Ok(completion) => trial.completions.push((request, completion)),
            Err(error) if matches!(error.fault(), Fault::Request | Fault::Refused) => {}
            Err(error) => trial.failure = Some(trial.failure.take().unwrap_or(error)),
        }
        if busy > 0 || !trial.is_over() {
            return;
        }
        let Trial { completions, failure, returning, .. } = std::mem::replace(trial, Trial::new(Vec::new(), false));
        match failure {
            Some(error) if error.fault() == Fault::Lasting => self.put_out(worker, error.reason(), returning),
            Some(error) => self.set_aside(worker, &error, returning),
            None => match self.supervisor.verdict(worker, &completions) {
                Verdict::Admitted(at_once) => {
                    self.good(worker);
                    self.put_in_service(worker, at_once, returning);
                }
                Verdict::Refused(reason) => self.put_out(worker, reason, returning),
            },
        }
    }

    /// The end, if nothing more is to be expected.
    fn ending(&mut self) -> Option<Ending> {
        if self.delivered == self.requests.len() {
            return Some(Ending::Complete);
        }
        if self.in_flight > 0 {
            return None;
        }
        if self.stopped {
            return Some(Ending::Stopped);
        }
        let on_trial = self.members.iter().any(|member| matches!(member.standing, Standing::OnTrial(_)));
        if on_trial || self.awaits_somebody() {
            return None;
        }
        if !self.members.iter().any(Member::is_in_service) {
            return Some(Ending::NoneLeft);
        }
        // What is left has failed on everybody in service.
        while let Some(index) = self.returned.pop_front() {
            if let Some((worker, error)) = self.marks.remove(&index).and_then(|marks| marks.last) {
                self.deliver(index, worker, Err(error));
            }
        }
        Some(if self.delivered == self.requests.len() { Ending::Complete } else { Ending::NoneLeft })
    }

    /// True if somebody who was set aside may come back and do something.
    fn awaits_somebody(&self) -> bool {
        let refused = |index, worker| self.marks.get(index).is_some_and(|marks| marks.refused.contains(&worker));
        self.members.iter().enumerate().any(|(worker, member)| {
            let aside = matches!(member.standing, Standing::Aside(_)) && !member.given_up;
            let useful = self.fresh < self.requests.len() || self.returned.iter().any(|index| !refused(index, worker));
            aside && useful
        })
    }
}
