//! Names on one line, cut where they are alike.

use std::collections::HashMap;

use super::line;

/// Characters of a model's name in tables and headlines.
pub const NAME: usize = 60;
/// Characters of a name that are looked at.
const LONGEST: usize = 4096;

/// The names on one line each, cut to at most `limit` characters so that names that differ still differ: in the middle,
/// or else around the first character in which they differ.
pub fn apart(names: &[&str], limit: usize) -> Vec<String> {
    // hostile names may be megabytes: what lies further back is not looked at
    let whole: Vec<String> = names.iter().map(|name| line(&name.chars().take(LONGEST).collect::<String>())).collect();
    let middle: Vec<String> = whole.iter().map(|name| in_the_middle(name, limit)).collect();
    let mut alike: HashMap<&str, Vec<usize>> = HashMap::new();
    middle.iter().enumerate().for_each(|(index, name)| alike.entry(name).or_default().push(index));
    let clash =
        |index: usize| alike[middle[index].as_str()].iter().copied().find(|&other| whole[other] != whole[index]);
    let shown = |index: usize| match clash(index) {
        None => middle[index].clone(),
        Some(other) => around_difference(&whole[index], &whole[other], limit),
    };
    (0..names.len()).map(shown).collect()
}

/// Keeps the beginning and the longer end: versions and sizes stand at the end of a model's name.
fn in_the_middle(name: &str, limit: usize) -> String {
    let characters: Vec<char> = name.chars().collect();
    if characters.len() <= limit {
        return name.to_owned();
    }
    let head = limit.saturating_sub(1) / 3;
    let tail = limit.saturating_sub(1) - head;
    let (start, end) = (&characters[..head], &characters[characters.len() - tail..]);
    start.iter().chain(['…'].iter()).chain(end).collect()
}

/// Keeps the stretch that begins shortly before the first difference.
fn around_difference(name: &str, other: &str, limit: usize) -> String {
    let differs = name.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let start = differs.saturating_sub(limit / 4);
    let total = name.chars().count();
    let room = limit.saturating_sub(2);
    let mut shown: String = name.chars().skip(start).take(room).collect();
    if start > 0 {
        shown.insert(0, '…');
    }
    if start + room < total {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_stay_and_long_ones_keep_their_ends() {
        assert_eq!(apart(&["sft", "smpo"], 24), ["sft", "smpo"]);
        assert_eq!(
            apart(&["suzume-llama-3-8b-multilingual-orpo-half", "suzume-llama-3-8b-multilingual-orpo-full"], 24),
            ["suzume-…ingual-orpo-half", "suzume-…ingual-orpo-full"]
        );
    }

    #[test]
    fn names_that_differ_never_look_alike() {
        let (long, filler) = ("x".repeat(40), "y".repeat(60));
        for (a, b) in [
            (format!("{long}A{filler}"), format!("{long}B{filler}")),
            (format!("A{long}{filler}"), format!("B{long}{filler}")),
            (format!("{long}{filler}A"), format!("{long}{filler}B")),
            (format!("{long}{filler}"), format!("{long}y{filler}")),
            ("model-8b-multi-lingual-long-v1".into(), "model-8B-multi-lingual-long-v1".into()),
        ] {
            for limit in [12, 24, 40] {
                let [one, two] = &apart(&[&a, &b], limit)[..] else { panic!("two names") };
                assert!(one.chars().count() <= limit && two.chars().count() <= limit, "{one} {two}");
                assert_ne!(one, two, "{a} and {b} at {limit}");
            }
        }
        assert_eq!(apart(&["same", "same"], 3), ["…me", "…me"]);
    }
}
