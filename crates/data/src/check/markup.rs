//! Marks of turns, as chat templates write them, in the text of an answer.

/// Marks that no text has by chance.
const ANYWHERE: [&str; 14] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|start_header_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
];
/// Marks that say something only at the end: `</s>` is HTML too.
const AT_END: [&str; 5] = ["</s>", "<eos>", "\n\nHuman:", "\n\nUser:", "\n\n### Instruction:"];

/// The first mark of a turn in an answer.
pub(super) fn mark_in(answer: &str) -> Option<&'static str> {
    let trimmed = answer.trim_end();
    let may_hold = answer.contains("<|") || answer.contains("_turn>") || answer.contains("INST]");
    let anywhere = ANYWHERE.into_iter().filter(|_| may_hold).find(|mark| answer.contains(mark));
    anywhere.or_else(|| AT_END.into_iter().find(|mark| trimmed.ends_with(mark)))
}

#[cfg(test)]
mod tests {
    use super::mark_in;

    #[test]
    fn marks_are_found_where_they_are_no_text() {
        for (answer, mark) in [
            ("a</s>\n", Some("</s>")),
            ("a<|eot_id|>", Some("<|eot_id|>")),
            ("a [/INST] b", Some("[/INST]")),
            ("a\n\nHuman:", Some("\n\nHuman:")),
            ("<s>struck</s> out", None),
            ("Human: a", None),
            ("a <b> [1] |", None),
        ] {
            assert_eq!(mark_in(answer), mark, "{answer:?}");
        }
    }
}
