//! Properties of the data that the demo relies on.

use std::collections::HashSet;

use smpo_synth::words::{CLOSERS, has_filler};
use std::io::Read;

use smpo_synth::{Family, demo, ood, preference, sft};

#[test]
fn data_are_a_pure_function_of_the_seed() {
    assert_eq!(sft::instructions(1, 50), sft::instructions(1, 50));
    assert_ne!(sft::instructions(1, 50), sft::instructions(2, 50));
    assert_eq!(preference::pairs(1, 20), preference::pairs(1, 20));
    assert_eq!(ood::prompts(1, 48), ood::prompts(1, 48));
}

#[test]
fn pairs_differ_in_filler_and_nothing_else_decides() {
    let pairs = preference::pairs(5, 400);
    for pair in &pairs {
        assert!(has_filler(&pair.rejected) && !has_filler(&pair.chosen), "{pair:?}");
        assert!(CLOSERS.iter().any(|closer| pair.chosen.ends_with(closer)), "{pair:?}");
    }
    assert_eq!(pairs.iter().collect::<HashSet<_>>().len(), pairs.len());
    for family in [Family::Describe, Family::List, Family::Steps] {
        assert!(pairs.iter().filter(|pair| pair.family == family).count() > 30, "{}", family.name());
    }
}

#[test]
fn rejected_answers_can_be_longer_of_equal_length_or_cut() {
    let words = |text: &str| text.split(' ').count();
    let mean = |side: fn(&preference::Pair) -> &str, pairs: &[preference::Pair]| {
        pairs.iter().map(|pair| words(side(pair))).sum::<usize>() as f64 / pairs.len() as f64
    };
    for (name, rejected) in preference::Rejected::ALL {
        let pairs = preference::pairs_against(rejected, 5, 300);
        assert!(pairs.iter().all(|pair| has_filler(&pair.rejected) && !has_filler(&pair.chosen)));
        let ratio = mean(|pair| &pair.rejected, &pairs) / mean(|pair| &pair.chosen, &pairs);
        let cut = rejected == preference::Rejected::Cut;
        let expected = match name {
            "shortest" => 0.3..0.8,
            "equal" => 0.8..1.25,
            _ => 1.1..3.0,
        };
        assert!(expected.contains(&ratio), "{name}: {ratio}");
        assert!(pairs.iter().all(|pair| pair.finished != cut && pair.rejected.ends_with('.') != cut), "{name}");
    }
}

#[test]
fn the_suite_is_distinct_mixed_and_unseen_in_pairs() {
    let suite = ood::prompts(7, 240);
    let asked: HashSet<&str> = suite.iter().map(|prompt| prompt.prompt.as_str()).collect();
    assert_eq!(asked.len(), 240);
    assert_eq!(suite.iter().filter(|prompt| prompt.family == Family::Closed).count(), 80);
    assert_eq!(suite.iter().filter(|prompt| prompt.family == Family::Day).count(), 60);
    for pair in preference::pairs(5, 2000) {
        assert!(!asked.contains(pair.prompt.as_str()), "{}", pair.prompt);
    }
}

#[test]
fn the_base_mix_has_every_family() {
    let instructions = sft::instructions(3, 2000);
    for (family, least) in [
        (Family::Closed, 600),
        (Family::Describe, 350),
        (Family::List, 140),
        (Family::Steps, 140),
        (Family::Story, 100),
        (Family::Day, 90),
        (Family::Poem, 90),
    ] {
        let count = instructions.iter().filter(|i| i.family == family).count();
        assert!(count >= least, "{}: {count}", family.name());
    }
}

#[test]
fn the_shipped_files_are_what_the_generator_makes() {
    let shipped = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    assert!(shipped("preferences.jsonl") == demo::pairs_jsonl("pref", &demo::pairs()).as_bytes());
    assert!(shipped("held_out.jsonl") == demo::pairs_jsonl("held", &demo::held_out()).as_bytes());
    assert!(shipped("ood.jsonl") == demo::ood_jsonl(&demo::prompts()).as_bytes());
    let mut sft = String::new();
    flate2::read::GzDecoder::new(shipped("sft.jsonl.gz").as_slice()).read_to_string(&mut sft).unwrap();
    assert!(sft == demo::sft_jsonl(&demo::instructions()));
}
