//! Names in messages: suggestions for mistyped ones, and lists. One rule and one wording for all.

/// The known name nearest to `given`: within an edit distance (Damerau–Levenshtein) of a third of its letters, or with a
/// common start (Jaro–Winkler above 0.9: `qwen2_moe` for `qwen2`). Ignores case.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    let like = |known: &str| {
        let known = known.to_lowercase();
        let edits = strsim::damerau_levenshtein(&given, &known);
        let letters = known.chars().count().max(given.chars().count());
        let similarity = strsim::jaro_winkler(&given, &known);
        (edits <= letters / 3 || similarity > 0.9).then_some((edits, similarity))
    };
    let near = known.into_iter().filter_map(|known| Some((like(known)?, known)));
    // Fewest edits; among equals the most similar start.
    near.min_by(|((edits, likeness), _), ((other, than), _)| edits.cmp(other).then(than.total_cmp(likeness)))
        .map(|(_, known)| known)
}

/// ` (did you mean X?)`, the end of a message or of a part of it; empty when no name is near.
pub fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(given, known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

/// `a`, `a and b`, `a, b and c`; empty without names.
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    let join = |names: &[S]| names.iter().map(S::as_ref).collect::<Vec<_>>().join(", ");
    match names {
        [start @ .., last] if !start.is_empty() => format!("{} and {}", join(start), last.as_ref()),
        names => join(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_their_and_before_the_last() {
        assert_eq!(list::<&str>(&[]), "");
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b"]), "a and b");
        assert_eq!(list(&["a".to_owned(), "b".to_owned(), "c".to_owned()]), "a, b and c");
    }

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["cap", "sampler", "samples_per_prompt", "qwen2", "min_log_prob", "metric"];
        for (given, expected) in [
            ("cpa", Some("cap")),
            ("smapler", Some("sampler")),
            ("samples_per_promt", Some("samples_per_prompt")),
            ("qwen2_moe", Some("qwen2")),
            ("MIN_LOGPROB", Some("min_log_prob")),
            ("metrics", Some("metric")),
            ("xyz", None),
            ("temperature", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, known), expected, "{given}");
        }
        assert_eq!(nearest("a", []), None);
    }

    #[test]
    fn of_equally_near_names_the_one_that_begins_alike_is_meant() {
        assert_eq!(nearest("eval_step", ["val_steps", "eval_steps"]), Some("eval_steps"));
        assert_eq!(did_you_mean("eval_step", ["eval_steps"]), " (did you mean `eval_steps`?)");
        assert_eq!(did_you_mean("eval_step", ["seed"]), "");
    }
}
