//! One completion of a file.

use smpo_chat::Content;
use smpo_results::{FinishReason, Message};
use smpo_sampling::{Evidence, Reported};

use crate::json_rows::Row;

/// One completion, as far as its file tells it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Record {
    pub model: Option<String>,
    pub id: Option<String>,
    pub sample: Option<u32>,
    pub slice: Option<String>,
    pub messages: Vec<Message>,
    pub reference: Option<String>,
    pub closed: bool,
    pub language: Option<String>,
    pub reasoning: Option<String>,
    pub completion: String,
    pub token_ids: Option<Vec<u32>>,
    pub logps: Option<Vec<f32>>,
    pub terminator_logps: Option<Vec<f32>>,
    pub unknown_ids: Option<u32>,
    pub finish_reason: FinishReason,
    /// See [`smpo_sampling::Finish::remark`].
    pub finish_remark: Option<String>,
    pub tokens: Option<u32>,
    pub cap: Option<u32>,
    pub error: Option<String>,
}

impl Record {
    /// A completion; everything else is unknown.
    pub fn new(completion: impl Into<String>) -> Self {
        Record { completion: completion.into(), ..Record::default() }
    }

    /// Text with its reasoning.
    pub fn written(content: Content) -> Self {
        Record { reasoning: content.reasoning, ..Record::new(content.text) }
    }

    /// No completion: the engine that the file comes from failed.
    pub fn failed(error: impl Into<String>) -> Self {
        Record::new("").fail(error)
    }

    /// True where there is no completion.
    pub fn is_failed(&self) -> bool {
        self.finish_reason == FinishReason::Error
    }

    /// The same request, failed.
    pub fn fail(self, error: impl Into<String>) -> Self {
        Record { finish_reason: FinishReason::Error, error: Some(error.into()), ..self }
    }

    /// With the end that some fields report, weighed against the record's own tokens and cap; as it is where they
    /// report none.
    pub fn finished(self, fields: &Row) -> Self {
        let reported = Reported::of_fields(fields);
        if reported == Reported::default() {
            return self;
        }
        let evidence = Evidence { tokens: self.tokens, cap: self.cap, ..Evidence::default() };
        let finish = reported.weigh(&evidence);
        if finish.reason == FinishReason::Error {
            return self.fail("its finish reason is an error");
        }
        Record { finish_reason: finish.reason, finish_remark: finish.remark, ..self }
    }
}
