//! Names of speakers, as ShareGPT, LLaMA-Factory, ms-swift and others write them.

/// Meaning of a speaker's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// A role of chat templates.
    Role(&'static str),
    /// The assistant, with a tool call as JSON in place of text.
    Call,
}

const SPEAKERS: &[(&str, Speaker)] = &[
    ("user", Speaker::Role("user")),
    ("assistant", Speaker::Role("assistant")),
    ("system", Speaker::Role("system")),
    ("tool", Speaker::Role("tool")),
    ("human", Speaker::Role("user")),
    ("prompter", Speaker::Role("user")),
    ("gpt", Speaker::Role("assistant")),
    ("chatgpt", Speaker::Role("assistant")),
    ("bot", Speaker::Role("assistant")),
    ("model", Speaker::Role("assistant")),
    ("ai", Speaker::Role("assistant")),
    ("bing", Speaker::Role("assistant")),
    ("observation", Speaker::Role("tool")),
    ("function_response", Speaker::Role("tool")),
    ("tool_response", Speaker::Role("tool")),
    ("function_call", Speaker::Call),
    ("tool_call", Speaker::Call),
];

/// The speaker of a name, in any case; `None` for a role of the template's own.
pub(super) fn speaker(name: &str) -> Option<Speaker> {
    SPEAKERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, speaker)| *speaker)
}
