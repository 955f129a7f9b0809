//! A model that judges completions: one by one with a grade, or two by two in both orders.
//!
//! Every judgement is on disk as soon as it exists, under the hash of its question, so an interrupted run continues, and
//! a judgement of another text, prompt or judge is never taken for it. A reply without a decision is asked for again and
//! in the end counted; it is never guessed.

mod asking;
mod template;
mod verdict;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use smpo_chat::Message;
use smpo_files::sha256;
use smpo_inference::Request;
use smpo_sampling::Sampler;

pub use asking::Judges;
use asking::{Failed, Round};
pub use template::Template;

use crate::journal::Journal;
use crate::{Answered, PairsError};

/// A judge's task.
#[derive(Debug, Clone)]
pub struct Judge {
    /// The judge's model, as it is recorded.
    pub model: String,
    /// Grades or comparisons, and their prompt.
    pub template: Template,
    /// Times that a question is asked until the reply has a decision; the first at temperature 0, later ones at 0.7.
    pub attempts: u32,
    /// Cap on the reply, in tokens.
    pub max_tokens: u32,
    /// Temperature of every question, for models that take no other.
    pub temperature: Option<f64>,
}

/// Grades or comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Each completion gets a grade from 1 to 10.
    #[default]
    Grade,
    /// Each two completions of a prompt are compared, in both orders; a completion's score is the share of its
    /// comparisons that it wins, ties being half. K completions take K·(K − 1) questions.
    Compare,
}

/// Progress of judging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judging {
    /// Questions with a decision.
    pub done: usize,
    /// All questions.
    pub total: usize,
}

/// Something that happens while a judge is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgeEvent<'a> {
    /// A reply has come, or nothing for a moment.
    Progress(Judging),
    /// One of several judges gets no further questions.
    SetAside {
        /// Its name.
        judge: &'a str,
        /// The reason.
        reason: &'a str,
        /// Time until it is asked again; absent for good.
        pause: Option<Duration>,
    },
    /// It answers again.
    Back {
        /// Its name.
        judge: &'a str,
    },
}

/// Judgements of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// Scores by (prompt, sample).
    pub scores: HashMap<(String, u32), f64>,
    /// Questions without a usable reply.
    pub unanswered: usize,
    /// Those of them on which the judge failed.
    pub failures: usize,
    /// The message of one such failure.
    pub failure: Option<String>,
    /// The caller stopped it; judging again resumes.
    pub stopped: bool,
}

/// One question: the completion, or the two that it compares.
struct Question {
    first: usize,
    second: Option<usize>,
    text: String,
    hash: String,
}

impl Judge {
    /// Judges all completions that did not fail, each generator on its own thread. `journal` is the file of judgements.
    /// When `on_event` breaks, replies in flight are still kept.
    ///
    /// # Errors
    /// The journal cannot be read or written, the judge fails over and over, or no judge of several is left.
    pub fn judge(
        &self,
        completions: &[Answered<'_>],
        judges: &mut Judges,
        journal: &Path,
        on_event: &mut dyn FnMut(JudgeEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Judged, PairsError> {
        let questions = self.questions(completions);
        let mut journal = Journal::open(journal)?;
        let mut stopped = false;
        let mut failed: BTreeMap<String, Failed> = BTreeMap::new();
        let distinct: HashSet<&str> = questions.iter().map(|question| question.hash.as_str()).collect();
        for attempt in 0..self.attempts.max(1) {
            // equal completions make equal questions, which are asked once
            let mut once = HashSet::new();
            let asked = |question: &&Question| {
                journal.verdict(&question.hash).is_none()
                    && failed.get(&question.hash).is_none_or(|failed| !failed.lasting)
                    && once.insert(question.hash.clone())
            };
            let open: Vec<&Question> = questions.iter().filter(asked).collect();
            if open.is_empty() || stopped {
                break;
            }
            let done = distinct.iter().filter(|hash| journal.verdict(hash).is_some()).count();
            let requests = open.iter().map(|question| self.request(question, attempt)).collect();
            let mut round = Round::new(self.template.mode(), &open, (done, distinct.len()), &mut journal, on_event);
            judges.ask(requests, &mut round)?;
            stopped = round.stopped;
            failed.extend(round.failed.into_iter().map(|failed| (failed.question.clone(), failed)));
        }
        let verdicts: Vec<Option<f64>> = questions.iter().map(|question| journal.verdict(&question.hash)).collect();
        let unanswered = verdicts.iter().filter(|verdict| verdict.is_none()).count();
        failed.retain(|question, _| journal.verdict(question).is_none());
        let failures = questions.iter().filter(|question| failed.contains_key(&question.hash)).count();
        let failure = failed.into_values().next().map(|failed| failed.reason);
        let scores = self.scores(completions, &questions, &verdicts);
        Ok(Judged { scores, unanswered, failures, failure, stopped })
    }

    fn request(&self, question: &Question, attempt: u32) -> Request {
        Request {
            prompt_id: question.hash.clone(),
            sample: attempt,
            messages: vec![Message::user(question.text.clone())],
            sampler: match (self.temperature, attempt) {
                (Some(temperature), _) => Sampler::temperature(temperature),
                (None, 0) => Sampler::greedy(),
                (None, _) => Sampler::temperature(0.7),
            },
            max_tokens: self.max_tokens,
            seed: 0,
            extra_body: Default::default(),
        }
    }

    fn questions(&self, completions: &[Answered<'_>]) -> Vec<Question> {
        let question = |first: usize, second: Option<usize>| {
            let text = self.template.fill(&completions[first], second.map(|second| &completions[second]));
            let hash = sha256(format!("{}\n{text}", self.model).as_bytes());
            Question { first, second, text, hash }
        };
        let alive: Vec<usize> = (0..completions.len()).filter(|&index| !completions[index].failed()).collect();
        if self.template.mode() == Mode::Grade {
            return alive.into_iter().map(|index| question(index, None)).collect();
        }
        // samples of one prompt stand together
        let prompt = |index: usize| &completions[index].first.prompt_id;
        let mut questions = Vec::new();
        for (place, &a) in alive.iter().enumerate() {
            let others = alive[place + 1..].iter().copied().take_while(|&b| prompt(a) == prompt(b));
            for b in others.filter(|&b| !completions[a].same_text(&completions[b])) {
                questions.extend([question(a, Some(b)), question(b, Some(a))]);
            }
        }
        questions
    }

    fn scores(
        &self,
        completions: &[Answered<'_>],
        questions: &[Question],
        verdicts: &[Option<f64>],
    ) -> HashMap<(String, u32), f64> {
        let mut sums = vec![(0.0, 0u32); completions.len()];
        let mut add = |index: usize, value: f64| {
            sums[index].0 += value;
            sums[index].1 += 1;
        };
        match self.template.mode() {
            Mode::Grade => {
                for (question, verdict) in questions.iter().zip(verdicts) {
                    if let Some(grade) = verdict {
                        add(question.first, *grade);
                    }
                }
            }
            Mode::Compare => {
                // The two orders of a pair stand side by side; contradicting each other they make a tie.
                for (both, verdicts) in questions.chunks_exact(2).zip(verdicts.chunks_exact(2)) {
                    if let ([Question { first, second: Some(second), .. }, _], [Some(there), Some(back)]) =
                        (both, verdicts)
                    {
                        let won = (there + 1.0 - back) / 2.0;
                        add(*first, won);
                        add(*second, 1.0 - won);
                    }
                }
            }
        }
        let scored = completions.iter().zip(sums).filter(|(_, (_, count))| *count > 0);
        scored
            .map(|(one, (sum, count))| ((one.first.prompt_id.clone(), one.first.sample), sum / f64::from(count)))
            .collect()
    }
}
