//! Cached tokens are the tokens that would be made, or they are not used.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use smpo_chat::{ChatTemplate, Message};
use smpo_data::{Cached, Location, PreferencePair, Row, TokenCache, TokenizedPair};
use smpo_tokenizer::ChatTokenizer;

fn golden(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/golden").join(model)
}

fn tokenizer(model: &str) -> ChatTokenizer {
    ChatTokenizer::from_model_dir(golden(model)).unwrap()
}

fn pairs() -> Vec<Row<PreferencePair>> {
    (0..5)
        .map(|n| Row {
            location: Location { path: Path::new("pairs.jsonl").into(), line: n + 1 },
            record: PreferencePair {
                id: n.to_string(),
                prompt: vec![Message::user(format!("question {n}"))],
                chosen: vec![Message::assistant("yes")],
                rejected: vec![Message::assistant("no")],
            },
        })
        .collect()
}

fn tokens(cache: &TokenCache, model: &ChatTokenizer, pairs: &[Row<PreferencePair>]) -> Cached<TokenizedPair> {
    cache.tokenize(model, pairs, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn ids(cached: Cached<TokenizedPair>) -> Vec<TokenizedPair> {
    cached.rows.into_iter().map(Result::unwrap).collect()
}

#[test]
fn the_second_time_the_rows_are_found_and_equal() {
    let dir = tempfile::tempdir().unwrap();
    let cache = TokenCache::new(dir.path().join("tokens"));
    let mut made = Vec::new();
    let mut count = |rows| {
        made.push(rows);
        ControlFlow::Continue(())
    };
    let first = cache.tokenize(&tokenizer("chatml"), &pairs(), &mut count).unwrap();
    assert!(!first.found && first.not_kept.is_none());
    let second = cache.tokenize(&tokenizer("chatml"), &pairs(), &mut count).unwrap();
    assert!(second.found);
    assert_eq!(made, [5]);
    assert_eq!(ids(first), ids(second));
}

#[test]
fn work_that_is_broken_off_keeps_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = TokenCache::new(dir.path());
    assert!(cache.tokenize(&tokenizer("chatml"), &pairs(), &mut |_| ControlFlow::Break(())).is_none());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn whatever_shapes_the_tokens_is_part_of_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let cache = TokenCache::new(dir.path());
    let found = |tokenizer: &ChatTokenizer, pairs: &[Row<PreferencePair>]| tokens(&cache, tokenizer, pairs).found;
    let model = tokenizer("chatml");
    assert!(!found(&model, &pairs()));
    assert!(found(&model, &pairs()));

    let mut other = pairs();
    other[3].record.rejected[0].content.push('!');
    assert!(!found(&model, &other), "a text");
    let mut other = pairs();
    other.swap(0, 1);
    assert!(!found(&model, &other), "the order");
    let mut other = pairs();
    other[0].record.id.push('x');
    assert!(!found(&model, &other), "an id");
    assert!(!found(&tokenizer("phi"), &pairs()), "the tokenizer");

    let source = model.template().source().replace("'<|im_start|>'", "'<|im_start|>a '");
    let template = ChatTemplate::from_source(source, "other.jinja").unwrap();
    assert!(!found(&ChatTokenizer::with_template(golden("chatml"), template).unwrap(), &pairs()), "the template");
    let template = ChatTemplate::from_model_dir(golden("chatml")).unwrap().with_variable("enable_thinking", true);
    assert!(!found(&ChatTokenizer::with_template(golden("chatml"), template).unwrap(), &pairs()), "a variable");
}

#[test]
fn a_damaged_file_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = TokenCache::new(dir.path());
    let model = tokenizer("chatml");
    let good = ids(tokens(&cache, &model, &pairs()));
    let path = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&path).unwrap();
    for length in [0, 1, bytes.len() / 2, bytes.len() - 2] {
        fs::write(&path, &bytes[..length]).unwrap();
        let again = tokens(&cache, &model, &pairs());
        assert!(!again.found, "cut to {length}");
        assert_eq!(ids(again), good);
    }
    let digit = bytes.iter().rposition(|&byte| byte == b']').unwrap() - 1;
    let mut changed = bytes.clone();
    changed[digit] = if changed[digit] == b'1' { b'2' } else { b'1' };
    fs::write(&path, &changed).unwrap();
    assert!(!tokens(&cache, &model, &pairs()).found, "a changed id");
    assert_eq!(fs::read(&path).unwrap(), bytes, "and the file is mended");
}

#[test]
fn rows_that_fail_fail_again_and_templates_that_write_the_date_are_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let cache = TokenCache::new(dir.path());
    let mut bad = pairs();
    bad[2].record.prompt.clear();
    for found in [false, true] {
        let cached = tokens(&cache, &tokenizer("chatml"), &bad);
        assert_eq!(cached.found, found);
        assert!(cached.rows[2].is_err() && cached.rows[3].is_ok());
    }
    let kept = fs::read_dir(dir.path()).unwrap().count();
    let dated = format!("{{{{ strftime_now('%Y') }}}}{}", tokenizer("chatml").template().source());
    let template = ChatTemplate::from_source(dated, "dated.jinja").unwrap();
    tokens(&cache, &ChatTokenizer::with_template(golden("chatml"), template).unwrap(), &pairs());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), kept);
}

#[test]
fn a_folder_that_cannot_be_written_costs_nothing_but_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let cached = tokens(&TokenCache::new(file.join("below")), &tokenizer("chatml"), &pairs());
    assert!(cached.not_kept.is_some());
    assert_eq!(cached.rows.iter().filter(|row| row.is_ok()).count(), 5);
}
