//! Bad input: every row is either read or refused with its line, what was expected and what is there; nothing panics.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use smpo_chat::Message;
use smpo_data::{Dataset, DatasetError, FileProgress, Record, RowKind, Rows, TokenCache, read_pairs, records};
use smpo_tokenizer::ChatTokenizer;
use tempfile::NamedTempFile;

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Every row of a text as `line: kind` or `line: problem`.
fn outcomes(bytes: &[u8]) -> Vec<String> {
    let file = file(bytes);
    records(file.path())
        .unwrap()
        .map(|row| match row {
            Ok(row) => format!("{}: {}", row.location.line, row.record.kind().name()),
            Err(error) => format!("{}: {}", error.location.line, error.problem),
        })
        .collect()
}

fn problem(row: &str) -> String {
    let found = outcomes(row.as_bytes());
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].strip_prefix("1: ").unwrap().to_string()
}

const PAIR: &str = r#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#;

#[test]
fn every_shape_people_store_is_read() {
    let rows = [
        (PAIR, "a preference pair"),
        (
            r#"{"prompt": [{"role": "user", "content": "p"}], "chosen": [{"role": "assistant", "content": "c"}], "rejected": {"role": "assistant", "content": "r"}}"#,
            "a preference pair",
        ),
        (
            r#"{"chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}], "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]}"#,
            "a preference pair",
        ),
        (
            r#"{"prompt": "p", "chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}], "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]}"#,
            "a preference pair",
        ),
        (
            r#"{"chosen": "\n\nHuman: p\n\nAssistant: c", "rejected": "\n\nHuman: p\n\nAssistant: r"}"#,
            "a preference pair",
        ),
        (r#"{"system": "s", "question": "p", "chosen": "c", "rejected": "r"}"#, "a preference pair"),
        (
            r#"{"conversations": [{"from": "human", "value": "p"}], "prompt": [{"from": "human", "value": "p"}], "chosen": {"from": "gpt", "value": "c"}, "rejected": {"from": "gpt", "value": "r"}}"#,
            "a preference pair",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]}"#,
            "an instruction example",
        ),
        (
            r#"{"conversation": [{"role": "user", "content": [{"type": "text", "text": "p"}]}, {"role": "assistant", "content": "c"}]}"#,
            "an instruction example",
        ),
        (r#"{"instruction": "p", "input": "i", "output": "c"}"#, "an instruction example"),
        (r#"{"prompt": "p", "completion": "c"}"#, "an instruction example"),
        (r#"{"prompt": "p", "completion": "c", "label": true}"#, "a labelled completion"),
        (
            r#"{"prompt": [{"role": "user", "content": "p"}], "completion": [{"role": "assistant", "content": "c"}], "label": 0}"#,
            "a labelled completion",
        ),
    ];
    for (row, kind) in rows {
        assert_eq!(outcomes(row.as_bytes()), [format!("1: {kind}")], "{row}");
    }
    let lines = rows.map(|(row, _)| row).join("\n");
    let list = format!("[\n{}\n]", rows.map(|(row, _)| row).join(",\n"));
    assert_eq!(outcomes(lines.as_bytes()).len(), rows.len());
    let from_list = outcomes(list.as_bytes());
    assert_eq!(from_list.len(), rows.len());
    assert!(from_list[0].starts_with("2: ") && from_list[12].starts_with("14: "), "{from_list:?}");
    assert_eq!(outcomes(&gzip(lines.as_bytes())), outcomes(lines.as_bytes()));
}

#[test]
fn shapes_that_say_the_same_read_the_same() {
    let explicit = r#"{"prompt": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}], "chosen": "c", "rejected": "r"}"#;
    let implicit = r#"{"chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "c"}], "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}"#;
    let transcript = r#"{"chosen": "\n\nHuman: p\n\nAssistant: a\n\nHuman: q\n\nAssistant: c", "rejected": "\n\nHuman: p\n\nAssistant: a\n\nHuman: q\n\nAssistant: r"}"#;
    let open_transcript =
        r#"{"prompt": "\n\nHuman: p\n\nAssistant: a\n\nHuman: q\n\nAssistant:", "chosen": "c", "rejected": "r"}"#;
    let file = file([explicit, implicit, transcript, open_transcript].join("\n").as_bytes());
    let pairs = read_pairs(file.path()).unwrap();
    assert_eq!(pairs[0].prompt.len(), 3);
    assert_eq!(pairs[0].chosen, [Message::assistant("c")]);
    for other in &pairs[1..] {
        assert_eq!(*other, pairs[0], "the content's hash is the id, so it is the same too");
    }
}

#[test]
fn two_equal_sides_still_part_before_the_last_turn() {
    let side = r#"[{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]"#;
    let file = file(format!(r#"{{"chosen": {side}, "rejected": {side}}}"#).as_bytes());
    let pairs = read_pairs(file.path()).unwrap();
    assert_eq!(pairs[0].prompt, [Message::user("p")]);
    assert_eq!(pairs[0].chosen, pairs[0].rejected);
}

#[test]
fn ids_are_the_rows_own_or_hashes_of_the_content() {
    let rows = format!(
        "{}\n{}\n{PAIR}\n\n{PAIR}\n",
        r#"{"id": "mine", "prompt": "p", "chosen": "c", "rejected": "r"}"#,
        r#"{"prompt_id": 7, "prompt": "p", "chosen": "c", "rejected": "r"}"#
    );
    let file = file(rows.as_bytes());
    let ids: Vec<_> = read_pairs(file.path()).unwrap().into_iter().map(|pair| pair.id).collect();
    assert_eq!(ids[..2], ["mine", "7"]);
    assert_eq!(ids[2], ids[3]);
    assert_eq!(ids[2], "be3c2ab86b0d3dfb", "a content id never changes between releases");
}

/// Bad rows, each with a part of the message.
const BAD_ROWS: &[(&str, &str)] = &[
    (r#"{"prompt": "p", "rejected": "r"}"#, "expected `chosen`, got only [\"prompt\", \"rejected\"]"),
    (r#"{"prompt": "p", "chosen": null, "rejected": "r"}"#, "`chosen` is null; give it a value"),
    (r#"{"prompt": "p", "chosen": "c", "rejected_response": null}"#, "`rejected_response` is null"),
    (r#"{"prompt": "p", "completion": null, "label": true}"#, "`completion` is null"),
    (r#"{"prompt": null, "completion": "c"}"#, "`prompt` is null"),
    (r#"{"prompt": null, "chosen": "c", "rejected": "r"}"#, "`prompt` is null"),
    (r#"{"prompt": "p", "choosen": "c", "rejected": "r"}"#, "did you mean `chosen` for `choosen`?"),
    (r#"{"prompt": "p"}"#, "`prompt` and `completion`, or a group"),
    (r#"{"text": "t"}"#, "expected a preference pair"),
    (r#"{"mesages": []}"#, "did you mean `messages` for `mesages`?"),
    ("[1, 2]", "expected a JSON object, got a number"),
    ("3", "expected a JSON object, got a number"),
    (
        r#"{"prompt": "p", "chosen": 3, "rejected": "r"}"#,
        "`chosen`: expected a string or a list of messages, got a number",
    ),
    (r#"{"prompt": 3, "chosen": "c", "rejected": "r"}"#, "`prompt`: expected a string or a list of messages"),
    (r#"{"chosen": "c", "rejected": "r"}"#, "and no `prompt`"),
    (
        r#"{"prompt": [], "chosen": "c", "rejected": "r"}"#,
        "`prompt`: roles out of order: expected a prompt that the assistant answers, got no message",
    ),
    (r#"{"prompt": [{"role": "assistant", "content": "p"}], "chosen": "c", "rejected": "r"}"#, "roles out of order"),
    (r#"{"prompt": "p", "chosen": [{"role": "user", "content": "c"}], "rejected": "r"}"#, "roles out of order"),
    (
        r#"{"prompt": "p", "chosen": [], "rejected": "r"}"#,
        "`chosen`: roles out of order: expected to begin and end with an assistant message, got no message",
    ),
    (
        r#"{"messages": [{"role": "assistant", "content": "p"}, {"role": "user", "content": "c"}]}"#,
        "got assistant, user",
    ),
    (r#"{"messages": [{"role": "assistant", "content": "alone"}]}"#, "`messages`: roles out of order"),
    (
        r#"{"messages": [{"content": "p"}]}"#,
        "`messages[0]`: expected a message with `role`, got one with [\"content\"]",
    ),
    (r#"{"messages": [{"role": "user"}]}"#, "expected a message with `content`"),
    (r#"{"messages": [{"role": "", "content": "p"}]}"#, "expected a role such as \"user\""),
    (r#"{"messages": [{"role": 1, "content": "p"}]}"#, "`messages[0].role`: expected a string, got a number"),
    (r#"{"messages": [{"role": "user", "content": null}]}"#, "`messages[0].content`: expected a string, got null"),
    (
        r#"{"messages": [{"role": "user", "content": [{"type": "image"}]}]}"#,
        "`messages[0].content[0]` is \"image\": images, sound and video are not supported",
    ),
    (r#"{"messages": ["p"]}"#, "`messages[0]`: expected a message with `role` and `content`, got a string"),
    (
        r#"{"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "", "tool_calls": [{}]}]}"#,
        "`messages[1].tool_calls[0]`: expected a call of a `function` with its `name`, got an object",
    ),
    (r#"{"prompt": "p", "completion": "c", "label": "yes"}"#, "`label`: expected true or false, got \"yes\""),
    (r#"{"system": 3, "prompt": "p", "chosen": "c", "rejected": "r"}"#, "`system`: expected a string"),
    (r#"{"prompt": "p", "chosen": "c""#, "invalid JSON"),
    ("{\"prompt\": \"\0\"}", "invalid JSON"),
    (
        r#"{"chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}], "rejected": [{"role": "user", "content": "other"}, {"role": "assistant", "content": "r"}]}"#,
        "`chosen` (user \"p\") contradicts `rejected` (user \"other\"); both sides of a pair begin with the same prompt",
    ),
    (
        r#"{"chosen": [{"role": "user", "content": "What do cows eat in winter, when no grass is there? a"}, {"role": "assistant", "content": "c"}], "rejected": [{"role": "user", "content": "What do cows eat in winter, when no grass is there? b"}, {"role": "assistant", "content": "r"}]}"#,
        "(user \"… no grass is there? a\") contradicts `rejected` (user \"… no grass is there? b\")",
    ),
    (
        r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "Agent", "value": "a"}]}"#,
        "got user, Agent; `dataset_columns.roles` says which role a speaker such as \"Agent\" is",
    ),
    (
        r#"{"prompt": "q", "chosen": "[{'role': 'assistant', 'content': 'a'}]", "rejected": "b"}"#,
        "`chosen`: expected a text, messages or their JSON, got messages as Python prints them",
    ),
    (
        r#"{"messages": "[{'role': 'user', 'content': \"q\"}\n {'role': 'assistant', 'content': 'a'}]"}"#,
        "`ast.literal_eval`",
    ),
    (r#"{"messages": "q"}"#, "`messages`: expected a list of messages, or its JSON, got a string"),
    (
        r#"{"prompt": ["p", "q"], "chosen": ["c", "d"], "rejected": ["r", "s"]}"#,
        "got an object of columns; write the table row by row",
    ),
    (r#"{"prompt": {"0": "p"}, "completion": {"0": "c"}}"#, "got an object of columns"),
];

#[test]
fn bad_rows_say_what_was_expected_and_what_is_there() {
    for &(row, expected) in BAD_ROWS {
        let got = if row.starts_with('[') { outcomes(row.as_bytes())[0].clone() } else { problem(row) };
        assert!(got.contains(expected), "{row}\n  expected {expected}\n  got      {got}");
    }
}

#[test]
fn rows_after_a_bad_one_are_read() {
    let mut bytes = format!("{PAIR}\n{{\"chosen\": 1}}\n").into_bytes();
    bytes.extend_from_slice(b"{\"prompt\": \"caf\xe9\"}\n");
    bytes.extend_from_slice(PAIR.as_bytes());
    let found = outcomes(&bytes);
    assert_eq!(found[0], "1: a preference pair");
    assert!(found[1].starts_with("2: expected `rejected`"), "{found:?}");
    assert_eq!(found[2], "3: expected UTF-8, got the byte 0xe9 at byte 15 of the row");
    assert_eq!(found[3], "4: a preference pair");
}

#[test]
fn reading_everything_stops_at_the_first_bad_row_and_names_it() {
    let bad = file(format!("{PAIR}\n\n{{\"prompt\": \"p\"}}\n").as_bytes());
    let error = read_pairs(bad.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("{}:3: expected a preference pair", bad.path().display())), "{error}");
    let sft = file(br#"{"prompt": "p", "completion": "c"}"#);
    let error = read_pairs(sft.path()).unwrap_err().to_string();
    assert!(
        error.contains(":1: expected a preference pair") && error.contains("got an instruction example"),
        "{error}"
    );
    let error = rows(sft.path(), RowKind::Labelled).unwrap_err().to_string();
    assert!(error.contains(":1: expected a labelled completion"), "{error}");
    let absent = read_pairs(Path::new("/nowhere/pairs.jsonl")).unwrap_err().to_string();
    assert!(absent.starts_with("/nowhere/pairs.jsonl: cannot read"), "{absent}");
}

#[test]
fn a_pair_serves_sft_and_kto_too() {
    let file = file(PAIR.as_bytes());
    let model = chatml();
    let pair = &read_pairs(file.path()).unwrap()[0];
    let alone = |side: &[Message]| model.encode_completion(&pair.prompt, side).unwrap();
    let examples = rows(file.path(), RowKind::Examples).unwrap().train;
    let labelled = rows(file.path(), RowKind::Labelled).unwrap().train;
    assert_eq!((examples.len(), labelled.len()), (1, 2));
    let (chosen, rejected) = (alone(&pair.chosen), alone(&pair.rejected));
    for (row, ids, desirable) in
        [(&examples[0], &chosen, true), (&labelled[0], &chosen, true), (&labelled[1], &rejected, false)]
    {
        assert_eq!((row.chosen.is_some(), row.rejected.is_some()), (desirable, !desirable));
        assert_eq!(row.prompt, ids.prompt_ids);
        assert_eq!(row.completions().next().unwrap().ids(), ids.completion_ids);
    }
    assert_ne!(labelled[0].id, labelled[1].id);
}

#[test]
fn a_truncated_gzip_gives_its_whole_rows_and_then_an_error() {
    let mut noise = String::new();
    for n in 0..2000u64 {
        let text = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        noise.push_str(&format!("{{\"prompt\": \"{text:x}\", \"chosen\": \"c\", \"rejected\": \"r\"}}\n"));
    }
    let whole = gzip(noise.as_bytes());
    let found = outcomes(&whole[..whole.len() / 2]);
    let (last, rows) = found.split_last().unwrap();
    assert!(last.contains("the gzip stream is damaged or ends early"), "{last}");
    assert!(rows.len() > 100 && rows.iter().all(|row| row.ends_with("a preference pair")));
}

#[test]
fn a_row_of_many_megabytes_is_read_and_tokenised() {
    let long = "The quick brown fox. ".repeat(600_000);
    let file = file(format!(r#"{{"prompt": "p", "chosen": "{long}", "rejected": "r"}}"#).as_bytes());
    let pairs = read_pairs(file.path()).unwrap();
    assert!(pairs[0].chosen[0].content.len() > 12_000_000);
    let mut short = pairs[0].clone();
    short.chosen[0].content.truncate(400_000);
    let ids = chatml().encode_completion(&short.prompt, &short.chosen).unwrap();
    assert!(ids.completion_ids.len() > 50_000);
}

#[test]
fn nul_and_control_characters_are_text() {
    let file = file(br#"{"prompt": "a\u0000b", "chosen": "\u0000\u001f\u200b", "rejected": "\ud83d\ude42"}"#);
    let pairs = read_pairs(file.path()).unwrap();
    let ids = chatml().encode_completion(&pairs[0].prompt, &pairs[0].chosen).unwrap();
    assert_eq!(chatml().decode(&ids.completion_ids).unwrap(), "\0\u{1f}\u{200b}<|im_end|>");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), zip in any::<bool>()) {
        let bytes = if zip { gzip(&bytes) } else { bytes };
        outcomes(&bytes);
    }

    #[test]
    fn no_damage_to_a_good_file_panics(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
        let mut bytes = format!("[{PAIR},\n{PAIR}, {{\"messages\": [{{\"role\": \"user\", \"content\": \"é\"}}]}}]").into_bytes();
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(length - cut % length);
        for row in records(file(&bytes).path()).unwrap().flatten() {
            let pair = matches!(row.record, Record::Pair(_));
            prop_assert!(pair || !matches!(row.record, Record::Unpaired(_)));
        }
    }
}

fn golden(model: &str) -> PathBuf {
    smpo_fixtures::golden("tokenizer", model)
}

/// The rows of a file for training.
fn rows(file: &Path, kind: RowKind) -> Result<Rows, DatasetError> {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Dataset::new(kind, vec![file.to_owned()]);
    let go_on = &mut |_: FileProgress<'_>| ControlFlow::Continue(());
    dataset.tokenize(&chatml(), &TokenCache::new(dir.path()), false, go_on)?.unwrap().rows()
}

fn chatml() -> ChatTokenizer {
    ChatTokenizer::from_model_dir(golden("chatml")).unwrap()
}
