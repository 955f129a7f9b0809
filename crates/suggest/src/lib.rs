//! Names and numbers in messages: suggestions for mistyped names, lists, counts, wrong values. One rule and one wording
//! for all.

/// The known name nearest to `given`: within an edit distance (Damerau–Levenshtein) of a quarter of its letters, or of
/// one where there are three, or with a common start (Jaro–Winkler above 0.9: `qwen2_moe` for `qwen2`). Ignores case.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    let like = |known: &str| {
        let known = known.to_lowercase();
        let edits = strsim::damerau_levenshtein(&given, &known);
        let letters = known.chars().count().max(given.chars().count());
        let similarity = strsim::jaro_winkler(&given, &known);
        let allowed = (letters / 4).max(usize::from(letters >= 3));
        (edits <= allowed || similarity > 0.9).then_some((edits, similarity))
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

/// A count with its noun, plural by adding `s`: `1 row`, `2 rows`.
pub fn counted(n: impl std::fmt::Display, noun: &str) -> String {
    let n = n.to_string();
    let plural = if n == "1" { "" } else { "s" };
    format!("{n} {noun}{plural}")
}

/// serde's words for a value of the wrong type, as `expected …, got …`; another message as it is, with the name that an
/// unknown variant was meant to be.
pub fn expected_and_got(message: &str) -> String {
    let wrong = ["invalid type: ", "invalid value: "].iter().find_map(|start| message.strip_prefix(start));
    if let Some((got, expected)) = wrong.and_then(|rest| rest.rsplit_once(", expected ")) {
        let too_large =
            got.strip_prefix("integer `").is_some_and(|digits| digits.starts_with(|c: char| c.is_ascii_digit()));
        let expected = match expected {
            "u32" if too_large => "a whole number of at most 4294967295",
            "u16" if too_large => "a whole number of at most 65535",
            "u8" if too_large => "a whole number of at most 255",
            "newtype variant" => "a table with one key",
            "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number of 0 or more",
            "isize" | "i64" | "i32" => "a whole number",
            "f64" | "f32" => "a number",
            "path string" => "a path",
            "a sequence" => "a list",
            other if other.starts_with("enum ") => "a name",
            other if other.starts_with("struct ") => "a table",
            other => other,
        };
        let got = match got {
            "sequence" => "a list",
            "map" => "a table",
            "unit variant" => "a name alone",
            other => other,
        };
        return format!("expected {expected}, got {got}");
    }
    // a table in the place of a choice: `{ non_inferior = 0.02, superior = 0.1 }`
    if let Some(found) = message.strip_prefix("wanted exactly 1 element, ") {
        return format!("expected one key, got {}", if found.starts_with("more") { "several" } else { "none" });
    }
    // unknown variant `a`, expected one of `b`, `c`
    let mut quoted = message.split('`').skip(1).step_by(2);
    match quoted.next().filter(|_| message.starts_with("unknown variant")) {
        Some(given) => format!("{message}{}", did_you_mean(given, quoted)),
        None => message.to_owned(),
    }
}

/// [`expected_and_got`], with the name that an unknown field was meant to be.
pub fn in_words(message: &str) -> String {
    // unknown field `a`, expected one of `b`, `c`
    let mut quoted = message.split('`').skip(1).step_by(2);
    match quoted.next().filter(|_| message.starts_with("unknown field")) {
        Some(given) => format!("{message}{}", did_you_mean(given, quoted)),
        None => expected_and_got(message),
    }
}

/// The message of a JSON parser on one line of a file: of its place, which counts within that line, the column alone.
pub fn of_one_line(message: &str) -> String {
    let (what, place) = message.rsplit_once(" at line ").unwrap_or((message, ""));
    let column = place.rsplit_once(" column ").map_or_else(String::new, |(_, column)| format!(" (column {column})"));
    let words = expected_and_got(what);
    // JSON's word for it.
    let is_table = what.starts_with("invalid type: map") || what.contains(", expected struct ");
    if is_table { words.replacen("a table", "an object", 1) + &column } else { words + &column }
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
    fn counts_have_their_noun() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "row")), ["0 rows", "1 row", "2 rows"]);
    }

    #[test]
    fn values_of_the_wrong_type_are_told_without_types() {
        assert_eq!(expected_and_got("invalid type: string \"x\", expected f64"), "expected a number, got string \"x\"");
        assert_eq!(
            expected_and_got("invalid value: integer `-1`, expected usize"),
            "expected a whole number of 0 or more, got integer `-1`"
        );
        assert_eq!(
            expected_and_got("invalid value: integer `5000000000`, expected u32"),
            "expected a whole number of at most 4294967295, got integer `5000000000`"
        );
        assert_eq!(expected_and_got("invalid type: sequence, expected struct Suite"), "expected a table, got a list");
        assert_eq!(
            expected_and_got("invalid type: unit variant, expected newtype variant"),
            "expected a table with one key, got a name alone"
        );
        assert_eq!(expected_and_got("wanted exactly 1 element, more than 1 element"), "expected one key, got several");
        assert_eq!(
            expected_and_got("unknown variant `a_nme`, expected `a_name`"),
            "unknown variant `a_nme`, expected `a_name` (did you mean `a_name`?)"
        );
        assert_eq!(expected_and_got("missing field `x`"), "missing field `x`");
        assert_eq!(
            in_words("unknown field `windo`, expected one of `window`, `steps`"),
            "unknown field `windo`, expected one of `window`, `steps` (did you mean `window`?)"
        );
        assert_eq!(of_one_line("missing field `x` at line 1 column 9"), "missing field `x` (column 9)");
        assert_eq!(
            of_one_line("invalid type: null, expected struct Sample at line 1 column 4"),
            "expected an object, got null (column 4)"
        );
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
            ("map", Some("cap")),
            ("", None),
        ] {
            assert_eq!(nearest(given, known), expected, "{given}");
        }
        assert_eq!(nearest("a", []), None);
        assert_eq!(nearest("closed", ["chosen"]), None);
    }

    #[test]
    fn of_equally_near_names_the_one_that_begins_alike_is_meant() {
        assert_eq!(nearest("eval_step", ["val_steps", "eval_steps"]), Some("eval_steps"));
        assert_eq!(did_you_mean("eval_step", ["eval_steps"]), " (did you mean `eval_steps`?)");
        assert_eq!(did_you_mean("eval_step", ["seed"]), "");
    }
}
