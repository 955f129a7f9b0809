//! "Did you mean".

/// The known name nearest to a mistyped one, when it is at most a third of its letters away.
pub(crate) fn closest<'a, S: AsRef<str> + ?Sized + 'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a S>,
) -> Option<&'a str> {
    let edits = known.into_iter().map(|known| (strsim::damerau_levenshtein(name, known.as_ref()), known.as_ref()));
    edits.filter(|(edits, known)| *edits <= (known.chars().count() / 3).max(1)).min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["cap", "sampler", "samples_per_prompt"];
        for (name, expected) in [
            ("cpa", Some("cap")),
            ("smapler", Some("sampler")),
            ("samples_per_promt", Some(known[2])),
            ("xyz", None),
            ("", None),
        ] {
            assert_eq!(super::closest(name, &known), expected, "{name}");
        }
    }
}
