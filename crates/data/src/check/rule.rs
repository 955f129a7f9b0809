//! The rules: name, severity, problem, remedy.

use serde::{Deserialize, Serialize};
use smpo_chat::TerminatorSource;
use smpo_tokenizer::ChatTokenizer;

use crate::check::tally::Tally;

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Training on this goes wrong, or cannot start: refused by default.
    Error,
    /// Probably a mistake; training continues.
    Warning,
    /// Harmless here, or a matter of choice.
    Note,
}

impl Severity {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident, $id:literal, $severity:ident, $what:literal, $remedy:literal;)+) => {
        /// A rule of the data check.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Rule {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Rule {
            /// Every rule, the gravest first.
            pub const ALL: &'static [Rule] = &[$(Rule::$name,)+];

            /// Its name in reports.
            pub fn id(self) -> &'static str {
                match self { $(Rule::$name => $id,)+ }
            }

            /// Severity of findings.
            pub fn severity(self) -> Severity {
                match self { $(Rule::$name => Severity::$severity,)+ }
            }

            /// Description of the problem.
            pub fn what(self) -> &'static str {
                match self { $(Rule::$name => $what,)+ }
            }

            /// True for a rule that the file breaks as a whole.
            pub(super) fn is_of_the_file(self) -> bool {
                matches!(
                    self,
                    Rule::DamagedFile | Rule::NoRows | Rule::MixedKinds | Rule::LengthBias | Rule::OneLabel
                )
            }

            /// True for a rule that rows break one by one, so that the rest is good without those that do.
            pub fn is_of_rows(self) -> bool {
                !matches!(self, Rule::DamagedFile | Rule::NoRows)
            }

            /// Remedy.
            pub fn remedy(self) -> &'static str {
                match self { $(Rule::$name => $remedy,)+ }
            }
        }
    };
}

rules! {
    /// The file itself is damaged.
    DamagedFile, "damaged_file", Error,
        "the file cannot be read to its end", "fetch or write the file again";
    /// There is nothing in the file.
    NoRows, "no_rows", Error,
        "the file holds no row", "give a file with one JSON object per line, or a JSON list of objects";
    /// A row cannot be read.
    UnreadableRow, "unreadable_row", Error,
        "rows that cannot be read as a pair, a group, an example, a labelled completion or a text with its label",
        "fix them, or leave them out with `smpo data convert --drop-bad`";
    /// Rows of several kinds in one file.
    MixedKinds, "mixed_kinds", Error,
        "rows of more than one kind in one file", "split the file by kind: pairs, groups, examples, labelled completions";
    /// The row cannot be rendered or tokenised.
    NotRenderable, "not_renderable", Error,
        "rows that the chat template refuses or rewrites",
        "match the roles to the template, or give another `chat_template`";
    /// A completion without words.
    EmptyCompletion, "empty_completion", Error,
        "completions, or answers inside them, without any text: the model learns to answer nothing",
        "drop these rows, or mark an answer that is context only with `\"train\": false`";
    /// Both sides say the same.
    IdenticalSides, "identical_sides", Error,
        "chosen and rejected are the same text: no preference, only noise", "drop these rows";
    /// The template leaves out part of an answer.
    AnswerDropped, "answer_dropped", Error,
        "answers of which the chat template leaves out or rewrites a part: the model is not trained on what the row says",
        "give a `chat_template` that writes all of it, or take that part out of the rows";
    /// Nothing is left of a completion.
    NothingLeft, "nothing_left", Error,
        "rows of which nothing but a terminator is left of a completion: the prompt takes all of `max_length`, the \
         completion was cut before its first word, or none of its answers is scored",
        "lower `max_prompt_length`, raise `max_length`, or drop these rows";
    /// Both sides are the same once they are cut.
    IdenticalWhenCut, "identical_when_cut", Error,
        "chosen and rejected part only after what `max_length` leaves of them: no preference, only noise",
        "raise `max_length`, or drop these rows";
    /// A completion goes on after a terminator.
    TerminatorInside, "terminator_inside", Error,
        "completions that go on after a terminator: the model learns that its turn does not end there",
        "remove the special tokens from the text; the chat template writes them";
    /// BOS in a completion.
    BosInCompletion, "bos_in_completion", Error,
        "completions that contain the BOS token: the text was rendered before, or the template repeats it",
        "store plain text, not rendered text; check the chat template";
    /// The template leaves out part of a prompt.
    PromptDropped, "prompt_dropped", Warning,
        "prompts of which the chat template leaves out a part (a system message, earlier turns, tools, documents, tool \
         calls): the model learns to answer without it",
        "give a `chat_template` that writes it, put system messages before the question \
         (`model_support_system_role = false`), or take that part out of the rows";
    /// A terminator already at the end of the text.
    TerminatorInData, "terminator_in_data", Warning,
        "completions whose text already ends in a terminator (the second one is left out)",
        "store plain text; the chat template writes the terminator";
    /// A special token spelt out in a text.
    SpecialTokenInText, "special_token_in_text", Warning,
        "texts that spell out special tokens, which are then read as such",
        "remove them, unless they are meant";
    /// The completion is cut.
    CompletionTruncated, "completion_truncated", Warning,
        "completions longer than `max_length` allows: they are cut, and count as unfinished",
        "raise `max_length`, or leave these rows out with `unfinished = \"drop\"`";
    /// The prompt is cut.
    PromptTruncated, "prompt_truncated", Warning,
        "prompts longer than `max_prompt_length`: they are cut",
        "raise `max_prompt_length` and `max_length`";
    /// A group without a preference.
    DegenerateGroup, "degenerate_group", Warning,
        "groups with fewer than two completions, or with one reward for all: they say nothing, and are left out",
        "sample more completions of these prompts, or score them more finely";
    /// Labelled completions of one label.
    OneLabel, "one_label", Warning,
        "labelled completions that are all desirable, or all undesirable: nothing tells the two apart",
        "give completions of both labels; what is desirable alone is for `loss = \"sft\"`";
    /// Rows that repeat.
    DuplicateRow, "duplicate_row", Warning,
        "rows that say what an earlier row says", "drop the repetitions, unless they are meant as weights";
    /// The same pair with its sides swapped, or the same completion with the other label.
    Contradiction, "contradiction", Warning,
        "pairs whose sides an earlier pair has the other way round, and completions with the opposite label of an earlier one",
        "decide which is right, and drop the other";
    /// The scores of a pair say the reverse.
    ReversedScores, "reversed_scores", Warning,
        "pairs whose chosen side has the lower score of the two", "swap the sides, or drop these rows";
    /// Rows that share an id.
    DuplicateId, "duplicate_id", Warning,
        "rows with the id of an earlier, different row", "give every row its own id";
    /// Damaged text.
    DamagedText, "damaged_text", Warning,
        "texts with U+FFFD or NUL: bytes were lost before this file was written", "read the source again as UTF-8";
    /// Pictures and sound that are not trained on.
    MediaUnread, "media_unread", Warning,
        "rows with columns of images, sound or video, which a text model cannot see: the model learns to answer \
         without them",
        "leave these rows out, unless the text stands by itself";
    /// The turn end is no terminator for others.
    TurnEndUnlisted, "turn_end_unlisted", Warning,
        "the chat template ends turns with a token that neither tokenizer nor generation_config.json calls an end: \
         servers will not stop at it",
        "add its id to `eos_token_id` in generation_config.json";
    /// Arguments of calls that the template quotes once more.
    ArgumentsQuoted, "arguments_quoted", Warning,
        "calls whose arguments are JSON text, which the chat template writes as a quoted string: the model learns to quote them",
        "give the arguments as objects (`json.loads`), unless the model is served so";
    /// The generation prompt opens what the answers do not continue.
    GenerationPrompt, "generation_prompt", Warning,
        "answers that do not begin where the generation prompt ends: the model is trained after another header than it is \
         given when it answers",
        "set `chat_template_kwargs` (`enable_thinking`) as the model is served, or give the answers their reasoning";
    /// The template writes no terminator.
    NoTurnEnd, "no_turn_end", Warning,
        "the chat template ends the assistant's turn without a terminator; the tokenizer's EOS is appended",
        "use the model's own chat template, or check that it serves with this terminator";
    /// Nobody knows how it ended.
    UnclearEnd, "unclear_end", Note,
        "answers with a finish reason that does not say if they were cut: they count as finished",
        "give `finished: false` where an answer was cut";
    /// Marks of another template's turns.
    ForeignMarkup, "foreign_markup", Note,
        "answers that spell out marks of turns, which are learned as text where the model has no such special token",
        "store plain text; the chat template writes the marks of turns";
    /// Keys that nothing reads.
    UnreadKeys, "unread_keys", Note,
        "columns and message keys that nothing reads",
        "nothing to do where they are not part of the conversation";
    /// Padding looks like an end.
    PadIsTerminator, "pad_is_terminator", Note,
        "the pad token is the token that ends turns: trainers that mask padding by its id also mask the end of every \
         completion (this one does not)",
        "nothing to do here; elsewhere, give the tokenizer another `pad_token`";
    /// A completion says that it did not end.
    Unfinished, "unfinished", Note,
        "completions that say that they were cut before their end (`finish_reason`, `finished`): they have no terminator",
        "nothing to do here; `unfinished` says what becomes of them: \"no_terminator\", \"drop\" or \"keep_terminator\"";
    /// The boundary moved.
    BoundaryMerge, "boundary_merge", Note,
        "completions whose first characters merge with the end of the prompt into one token: the model is trained \
         on a prompt that is a token shorter than the one it will be given",
        "trim white space at the start of completions";
    /// One side is much longer.
    LengthBias, "length_bias", Note,
        "chosen sides are, on average, more than 1.5 times as long as rejected ones, or the reverse: length alone \
         separates them",
        "where chosen sides are the longer, keep the terminator (eos_term, or configs/anchored.toml), which losses push \
         down with short rejected ones, or take pairs of like length (docs/choosing.md); watch the length on held-out \
         prompts";
}

/// Adds the findings in the model directory.
pub(crate) fn model_findings(tokenizer: &ChatTokenizer, tally: &mut Tally) {
    let terminators = tokenizer.terminators();
    let Some(primary) = terminators.primary() else { return };
    let name = primary.token.clone().unwrap_or_default();
    if primary.sources == [TerminatorSource::TurnEnd] {
        let listed = terminators.tokens()[1..].join(", ");
        tally.model(Rule::TurnEndUnlisted, format!("the turn ends with {name}; listed: {listed}"));
    }
    if !primary.sources.contains(&TerminatorSource::TurnEnd) {
        tally.model(Rule::NoTurnEnd, format!("{name} is appended"));
    }
    if let Some(pad) = tokenizer.pad()
        && primary.id == Some(pad)
    {
        tally.model(Rule::PadIsTerminator, format!("pad id {pad}"));
    }
}

#[cfg(test)]
mod tests {
    use super::Rule;

    #[test]
    fn names_are_those_that_json_shows() {
        for rule in Rule::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.id());
        }
    }

    #[test]
    fn the_gravest_come_first() {
        assert!(Rule::ALL.is_sorted_by_key(|rule| rule.severity()));
    }
}
