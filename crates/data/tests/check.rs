//! The preflight linter, the histograms and the canonical form.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::json;
use smpo_chat::ChatTemplate;
use smpo_data::{
    CheckReport, DropBad, LeftOut, OnBadRows, Preparation, Reading, Rule, Severity, TrainOn, Truncation,
    TruncationMode, Unfinished, check, convert, count_rows, lengths, read_pairs, records,
};
use smpo_tokenizer::ChatTokenizer;
use tempfile::NamedTempFile;

/// Rows are dropped by their text alone.
const PLAIN: Preparation =
    Preparation { reading: Reading::Answers, train_on: TrainOn::All, system_prompt: None, system_role: true };
const DROP: Option<DropBad<'_>> = Some(DropBad { tokenizer: None, truncation: &FULL, preparation: &PLAIN });
const FULL: Truncation = Truncation {
    max_length: None,
    max_prompt_length: None,
    keep: TruncationMode::KeepEnd,
    bos: None,
    unfinished: Unfinished::NoTerminator,
};

fn golden(model: &str) -> PathBuf {
    smpo_fixtures::golden("tokenizer", model)
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> String {
    serde_json::json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}).to_string()
}

fn found(report: &CheckReport) -> BTreeMap<&'static str, Vec<u64>> {
    report
        .findings
        .iter()
        .map(|finding| (finding.rule.id(), finding.first.iter().filter_map(|sample| sample.line).collect()))
        .collect()
}

fn run(rows: &[String], model: Option<&str>, truncation: &Truncation) -> CheckReport {
    let file = file(&rows.join("\n"));
    let tokenizer = model.map(|model| ChatTokenizer::from_model_dir(golden(model)).unwrap());
    check(file.path(), tokenizer.as_ref(), truncation, &Preparation::default(), &go_on).unwrap().unwrap()
}

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn clean() -> Vec<String> {
    vec![pair("a", "The answer is 4.", "I am fine."), pair("b", "fine", "dogs")]
}

#[test]
fn a_clean_file_has_no_findings() {
    for model in [None, Some("chatml"), Some("phi")] {
        let report = run(&clean(), model, &Truncation::default());
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        assert_eq!((report.rows, report.pairs), (2, 2));
        assert!(!report.has_errors());
    }
}

#[test]
fn a_completion_with_both_labels_and_quoted_arguments_are_found() {
    let labelled = |label: bool| json!({"prompt": "a", "completion": "The answer is 4.", "label": label}).to_string();
    let report = run(&[labelled(true), labelled(false), labelled(true)], Some("chatml"), &Truncation::default());
    assert_eq!(found(&report), BTreeMap::from([("contradiction", vec![2]), ("duplicate_row", vec![3])]));

    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(golden("chatml")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}{% for c in m.tool_calls or [] %}\
                    {{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let tokenizer = ChatTokenizer::from_model_dir(dir.path()).unwrap();
    let call = |arguments: serde_json::Value| {
        let call = json!([{"type": "function", "function": {"name": "f", "arguments": arguments}}]);
        let answer = json!({"role": "assistant", "content": null, "tool_calls": call});
        json!({"messages": [{"role": "user", "content": "q"}, answer]}).to_string()
    };
    let rows = [call(json!({"a": 1})), call(json!("{\"a\": 2}")), call(json!("plain"))].join("\n");
    let report = check(file(&rows).path(), Some(&tokenizer), &FULL, &Preparation::default(), &go_on).unwrap().unwrap();
    assert_eq!(found(&report), BTreeMap::from([("arguments_quoted", vec![2])]), "{:#?}", report.findings);
    // a template that writes the text as it is
    std::fs::write(dir.path().join("chat_template.jinja"), template.replace(" | tojson", "")).unwrap();
    let tokenizer = ChatTokenizer::from_model_dir(dir.path()).unwrap();
    let rows = [call(json!("{\"a\": 2}")), call(json!("say \"a\""))].join("\n");
    let report = check(file(&rows).path(), Some(&tokenizer), &FULL, &Preparation::default(), &go_on).unwrap().unwrap();
    assert_eq!(found(&report), BTreeMap::new(), "{:#?}", report.findings);
}

#[test]
fn completions_of_one_label_are_found() {
    let row = |prompt: &str, label: bool| json!({"prompt": prompt, "completion": "fine", "label": label}).to_string();
    let details = |rows: &[String]| {
        let report = run(rows, None, &Truncation::default());
        let of_labels = report.findings.iter().filter(|finding| finding.rule == Rule::OneLabel);
        of_labels.map(|finding| (finding.share, finding.first[0].detail.clone())).collect::<Vec<_>>()
    };
    assert_eq!(details(&[row("a", true), row("b", true)]), [(None, "all 2 are desirable".to_string())]);
    assert_eq!(details(&[row("a", false), row("b", false)]), [(None, "all 2 are undesirable".to_string())]);
    assert_eq!(details(&[row("a", true), row("b", false)]), []);
    assert_eq!(details(&[row("a", true)]), []);
    assert_eq!(details(&clean()), []);
}

#[test]
fn every_row_rule_is_found_on_its_line() {
    let rows = [
        pair("a", "The answer is 4.", "I am fine."),
        "{\"chosen\": 1}".to_string(),
        pair("b", " ", "dogs run"),
        pair("c", "same", "same "),
        pair("d", "one<|im_end|>two", "three"),
        pair("e", "done<|im_end|>\n", "fine, thanks"),
        pair("f<|im_start|>", "lazy dog", "quick fox"),
        pair("a", "The answer is 4.", "I am fine."),
        pair("a", "I am fine.", "The answer is 4."),
        pair("g", "broken \u{fffd}", "whole text"),
        pair("h", "\n\nmerged", "not merged"),
        r#"{"id": "x", "prompt": "i", "chosen": "yes it is", "rejected": "no it is not"}"#.to_string(),
        r#"{"id": "x", "prompt": "j", "chosen": "yes it is", "rejected": "no it is not"}"#.to_string(),
    ];
    let report = run(&rows, Some("chatml"), &Truncation::default());
    let expected = BTreeMap::from([
        ("unreadable_row", vec![2]),
        ("empty_completion", vec![3]),
        ("identical_sides", vec![4]),
        ("terminator_inside", vec![5]),
        ("terminator_in_data", vec![6]),
        ("special_token_in_text", vec![5, 6, 7]),
        ("duplicate_row", vec![8]),
        ("contradiction", vec![9]),
        ("damaged_text", vec![10]),
        ("boundary_merge", vec![11]),
        ("duplicate_id", vec![13]),
    ]);
    assert_eq!(found(&report), expected, "{:#?}", report.findings);
    assert!(report.has_errors());
    assert_eq!(report.count(Severity::Error), 4);
    assert!(report.findings.is_sorted_by_key(|finding| finding.severity));
    let unreadable = &report.findings[0];
    assert_eq!(unreadable.share, Some(1.0 / 13.0));
    assert!(unreadable.first[0].detail.contains("expected `rejected`"));
}

#[test]
fn truncation_is_foretold() {
    let long = "The quick brown fox jumps over the lazy dog. ".repeat(20);
    let rows = [pair("a", "fine", "dogs"), pair(&long, "fine", "dogs"), pair("b", &long, "fine")];
    let bounds = Truncation { max_length: Some(60), max_prompt_length: Some(30), ..Truncation::default() };
    let report = run(&rows, Some("chatml"), &bounds);
    let found = found(&report);
    assert_eq!(found["prompt_truncated"], [2], "a long side takes nothing from the prompt");
    assert_eq!(found["completion_truncated"], [3]);
    assert!(!report.has_errors());
    assert!(run(&rows[..2], None, &bounds).findings.is_empty());
}

#[test]
fn a_row_whose_answers_are_all_context_is_an_error() {
    let row = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]}"#;
    assert_eq!(found(&run(&[row.to_string()], Some("chatml"), &Truncation::default()))["nothing_left"], [1]);
}

#[test]
fn sides_that_part_behind_the_cut_are_an_error() {
    let long = "The quick brown fox jumps over the lazy dog. ".repeat(20);
    let rows = [pair("a", &format!("{long}Yes."), &format!("{long}No.")), pair("b", "fine", "dogs")];
    let bounds = Truncation { max_length: Some(60), max_prompt_length: Some(30), ..Truncation::default() };
    assert_eq!(found(&run(&rows, Some("chatml"), &bounds))["identical_when_cut"], [1]);
    assert!(!run(&rows, Some("chatml"), &Truncation::default()).has_errors());
    let none = Truncation { max_length: Some(4), ..Truncation::default() };
    assert_eq!(found(&run(&rows, Some("chatml"), &none))["nothing_left"], [1, 2]);
}

#[test]
fn length_bias_and_mixed_kinds_are_told() {
    let report = run(&[pair("a", "a much longer answer than the other", "no")], None, &Truncation::default());
    assert_eq!(found(&report).keys().copied().collect::<Vec<_>>(), ["length_bias"]);
    let mut rows = clean();
    rows.push(r#"{"prompt": "p", "completion": "c"}"#.into());
    let report = run(&rows, None, &Truncation::default());
    assert_eq!(report.findings[0].rule, Rule::MixedKinds);
    assert_eq!(report.findings[0].first[0].detail, "2 pairs, 1 example");
    assert_eq!(report.findings[0].first[0].line, Some(3), "the first of another kind than most");
    let report = run(&[], None, &Truncation::default());
    assert_eq!(report.findings[0].rule, Rule::NoRows);
}

#[test]
fn what_the_model_directory_gets_wrong_is_told() {
    let report = run(&clean(), Some("plain"), &Truncation::default());
    assert_eq!(found(&report).keys().copied().collect::<Vec<_>>(), ["boundary_merge", "no_turn_end"]);
    assert_eq!(report.findings[0].share, None);

    let dir = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "chat_template.jinja"] {
        std::fs::copy(golden("chatml").join(name), dir.path().join(name)).unwrap();
    }
    let settings = r#"{"eos_token": "<|endoftext|>", "pad_token": "<|im_end|>"}"#;
    std::fs::write(dir.path().join("tokenizer_config.json"), settings).unwrap();
    let tokenizer = ChatTokenizer::from_model_dir(dir.path()).unwrap();
    let file = file(&clean().join("\n"));
    let report =
        check(file.path(), Some(&tokenizer), &Truncation::default(), &Preparation::default(), &go_on).unwrap().unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| finding.rule).collect();
    assert_eq!(found, [Rule::TurnEndUnlisted, Rule::PadIsTerminator]);
    assert!(report.findings[0].first[0].detail.contains("<|im_end|>"));
}

/// Templates in the manner of reasoning models: one keeps only what follows the reasoning, one opens it when generating.
#[test]
fn what_a_template_does_to_answers_is_found() {
    let template = |answer: &str, opening: &str| {
        let source = format!(
            "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{answer}<|im_end|>\n{{% endfor %}}\
             {{% if add_generation_prompt %}}<|im_start|>assistant\n{opening}{{% endif %}}"
        );
        let template = ChatTemplate::from_source(source, "test.jinja").unwrap();
        ChatTokenizer::with_template(golden("chatml"), template).unwrap()
    };
    let check = |rows: &[String], tokenizer: &ChatTokenizer| {
        let file = file(&rows.join("\n"));
        found(&check(file.path(), Some(tokenizer), &FULL, &Preparation::default(), &go_on).unwrap().unwrap())
    };
    let reasoned =
        [pair("q", "<think>a way</think>\n4", "fine"), pair("r", "<think>one</think>4", "<think>two</think>4")];
    let dropping = template("{{ m.content.split('</think>')[-1] }}", "");
    let broken = check(&reasoned, &dropping);
    assert_eq!(broken["answer_dropped"], [1, 2]);
    assert_eq!(broken["identical_sides"], [2], "they differ in what the template drops");
    let kept = check(&reasoned, &template("{{ m.content }}", ""));
    assert!(!kept.contains_key("answer_dropped") && !kept.contains_key("identical_sides"), "{kept:?}");
    let opened = check(&clean(), &template("{{ m.content }}", "<think>\n"));
    assert!(opened.contains_key("generation_prompt"), "{opened:?}");
}

/// A template of ChatML's turns, each with `turn` for its text.
fn chatml(before: &str, turn: &str) -> ChatTokenizer {
    let source = format!(
        "{before}{{% for m in messages %}}{turn}{{% endfor %}}\
         {{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
    );
    let template = ChatTemplate::from_source(source, "test.jinja").unwrap();
    ChatTokenizer::with_template(golden("chatml"), template).unwrap()
}

/// The detail of a rule for each row that breaks it.
fn details(rows: &[serde_json::Value], tokenizer: &ChatTokenizer, rule: Rule) -> Vec<(u64, String)> {
    let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
    let file = file(&rows.join("\n"));
    let report = check(file.path(), Some(tokenizer), &FULL, &Preparation::default(), &go_on).unwrap().unwrap();
    let found = report.findings.into_iter().filter(|finding| finding.rule == rule).flat_map(|finding| finding.first);
    found.map(|sample| (sample.line.unwrap(), sample.detail)).collect()
}

#[test]
fn what_a_template_leaves_out_of_prompts_is_found() {
    let call = json!([{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}]);
    let user = json!({"role": "user", "content": "is it warm?"});
    let rows = [
        json!({"prompt": [user], "tools": [{"type": "function", "function": {"name": "get_weather"}}], "completion": "I look."}),
        json!({"prompt": [user], "documents": [{"text": "cows eat grass"}], "completion": "I look."}),
        json!({
            "prompt": [user, {"role": "assistant", "content": "get_weather", "tool_calls": call}, {"role": "tool", "content": "{\"t\": \"21\"}"}],
            "completion": "warm"
        }),
        json!({"prompt": [{"role": "system", "content": "s"}, user], "completion": "warm"}),
        json!({"prompt": [user, {"role": "assistant", "content": "<think>it was cold</think>no"}, user], "completion": "warm"}),
        json!({"prompt": "is it warm?", "completion": "warm"}),
    ];
    let plain = "<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n";
    let dropped =
        |lines: &[(u64, &str)]| lines.iter().map(|(line, part)| (*line, part.to_string())).collect::<Vec<_>>();
    let found = details(&rows, &chatml("", plain), Rule::PromptDropped);
    assert_eq!(found, dropped(&[(1, "tools"), (2, "documents"), (3, "tool calls")]), "earlier thoughts may go");
    let whole = "<|im_start|>{{ m.role }}\n{% if m.role == 'tool' %}{{ m.content | tojson }}{% else %}{{ m.content }}{% endif %}\
                 {{ (m.tool_calls or '') | tojson }}<|im_end|>\n";
    let lists = "{{ tools | tojson if tools }}{{ documents | tojson if documents }}";
    let found = details(&rows, &chatml(lists, whole), Rule::PromptDropped);
    assert!(found.is_empty(), "{found:?}");
    let talk = format!("{{% if m.role != 'system' %}}{plain}{{% endif %}}");
    assert_eq!(details(&rows[3..], &chatml("", &talk), Rule::PromptDropped), dropped(&[(1, "system \"s\"")]));
    let last =
        format!("{{% if loop.last or loop.revindex0 == 1 and messages[-1].role == 'assistant' %}}{plain}{{% endif %}}");
    let earlier = json!({"prompt": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "I"}, user], "completion": "warm"});
    let found = details(&[earlier], &chatml("", &last), Rule::PromptDropped);
    assert_eq!(found, dropped(&[(1, "user \"who?\"")]));
}

/// The name of a call and the words of a thought may stand in the text of the answer.
#[test]
fn dropped_calls_and_thoughts_are_found_beside_texts_that_say_the_same() {
    let call = |arguments: serde_json::Value| json!([{"type": "function", "function": {"name": "get_weather", "arguments": arguments}}]);
    let row = |field: &str, value: serde_json::Value| json!({"prompt": "q", "completion": [{"role": "assistant", "content": "I call get_weather, four.", field: value}]});
    let rows = [
        row("tool_calls", call(json!({"city": "Oslo"}))),
        row("tool_calls", call(json!("{\"city\": \"Oslo\"}"))),
        row("tool_calls", call(json!({}))),
        row("reasoning_content", json!("four")),
    ];
    let text = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n";
    let found = details(&rows, &chatml("", text), Rule::AnswerDropped);
    let parts: Vec<_> = found.iter().map(|(line, part)| (*line, part.as_str())).collect();
    let calls = "completion: tool calls";
    assert_eq!(parts, [(1, calls), (2, calls), (3, calls), (4, "completion: reasoning")]);
    let names = "<|im_start|>{{ m.role }}\n{{ m.content }}{{ m.reasoning_content }}{% for c in m.tool_calls or [] %}\
                 {{ c.function.name }}{% endfor %}<|im_end|>\n";
    let found = details(&rows, &chatml("", names), Rule::AnswerDropped);
    assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2], "the arguments are not there");
    let whole = "<|im_start|>{{ m.role }}\n{{ m.content }}{{ m.reasoning_content }}{{ m.tool_calls }}<|im_end|>\n";
    let found = details(&rows, &chatml("", whole), Rule::AnswerDropped);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn an_empty_answer_inside_a_conversation_is_an_error() {
    let talk = |first: serde_json::Value| {
        let (user, last) = (json!({"role": "user", "content": "q"}), json!({"role": "assistant", "content": "b"}));
        json!({"messages": [user, first, user, last]}).to_string()
    };
    let rows = [
        talk(json!({"role": "assistant", "content": " "})),
        talk(json!({"role": "assistant", "content": "", "train": false})),
        talk(json!({"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f"}}]})),
    ];
    let report = run(&rows, None, &FULL);
    assert_eq!(found(&report), BTreeMap::from([("empty_completion", vec![1])]));
    assert_eq!(report.findings[0].first[0].detail, "completion: message 1 of 3");
}

#[test]
fn marks_of_other_templates_and_scores_against_a_pair_are_told() {
    let rows = [
        pair("a", "The answer is 4.</s>", "I am fine."),
        pair("b", "It is 4.<|im_end|>", "I am fine."),
        r#"{"prompt": "c", "chosen": "It is 5.", "rejected": "It is 6.", "score_chosen": 2, "score_rejected": 3.5}"#
            .into(),
    ];
    let of = |model| found(&run(&rows, model, &FULL));
    let (text, tokens) = (of(None), of(Some("chatml")));
    assert_eq!((&text["foreign_markup"], &tokens["foreign_markup"]), (&vec![1, 2], &vec![1]));
    assert_eq!(text["reversed_scores"], [3]);
}

#[test]
fn rows_that_the_template_refuses_are_errors() {
    let template = ChatTemplate::from_source(
        "{{ raise_exception('no') if messages[0].content == 'b' }}{% for m in messages %}{{ m.content }};{% endfor %}",
        "t.jinja",
    )
    .unwrap();
    let tokenizer = ChatTokenizer::with_template(golden("chatml"), template).unwrap();
    let file = file(&clean().join("\n"));
    let report =
        check(file.path(), Some(&tokenizer), &Truncation::default(), &Preparation::default(), &go_on).unwrap().unwrap();
    assert_eq!(found(&report)["not_renderable"], [2]);
}

#[test]
fn bos_inside_a_completion_is_an_error() {
    let rows = vec![pair("a", "</s><s>[INST] again", "fine")];
    let found = found(&run(&rows, Some("llama"), &Truncation::default())).into_keys().collect::<Vec<_>>();
    assert!(found.contains(&"bos_in_completion") && found.contains(&"terminator_inside"), "{found:?}");
}

#[test]
fn lengths_are_measured_in_tokens_or_characters() {
    let mut rows = clean();
    rows.push("not json".into());
    let file = file(&rows.join("\n"));
    let characters = lengths(file.path(), None, &go_on).unwrap().unwrap();
    assert_eq!((characters.unit, characters.rows, characters.skipped), ("characters", 2, 1));
    let names: Vec<_> = characters.parts.iter().map(|part| part.part).collect();
    assert_eq!(names, ["prompt", "chosen", "rejected", "row"]);
    assert_eq!((characters.parts[1].max, characters.parts[2].max, characters.parts[3].max), (16, 10, 17));
    let tokenizer = ChatTokenizer::from_model_dir(golden("chatml")).unwrap();
    let tokens = lengths(file.path(), Some(&tokenizer), &go_on).unwrap().unwrap();
    let pairs: Vec<_> = records(file.path()).unwrap().flatten().collect();
    assert_eq!(pairs.len(), 2);
    assert_eq!(tokens.unit, "tokens");
    assert_eq!(tokens.parts[1].count, 2);
    let [chosen, rejected] = [1, 2].map(|part| (tokens.parts[part].min, tokens.parts[part].max));
    let inverse = |(least, most): (usize, usize)| 1.0 / least as f64 + 1.0 / most as f64;
    let weight = tokens.terminator_weight.expect("pairs have one");
    assert!((weight - inverse(rejected) / inverse(chosen)).abs() < 1e-12, "{weight}");
    assert_eq!(characters.terminator_weight, None);
    assert_eq!(tokens.parts[3].max, {
        let pairs = [&pairs[0].record, &pairs[1].record].map(|record| match record {
            smpo_data::Record::Pair(pair) => {
                tokenizer.encode_completions(&pair.prompt, &[&pair.chosen, &pair.rejected]).unwrap()
            }
            other => panic!("{other:?}"),
        });
        let longest = |ids: &[Vec<u32>]| ids.iter().map(Vec::len).max().unwrap();
        pairs.iter().map(|pair| pair.prompt_ids.len() + longest(&pair.completion_ids)).max().unwrap()
    });
}

#[test]
fn conversion_keeps_every_row_and_reads_back_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let rows = file(&clean().join("\n"));
    for name in ["out.jsonl", "out.jsonl.gz"] {
        let out = dir.path().join(name);
        let converted = convert(rows.path(), &out, None, &mut |_| {}, &go_on).unwrap().unwrap();
        assert_eq!((converted.written, converted.dropped), (2, 0));
        assert_eq!(read_pairs(&out).unwrap(), read_pairs(rows.path()).unwrap());
    }
    let text = std::fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
    assert!(text.starts_with(r#"{"id":""#) && text.contains(r#""prompt":[{"role":"user","content":"a"}],"chosen":["#));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no partial file stays");
}

#[test]
fn a_bad_row_stops_a_conversion_unless_it_may_be_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl");
    std::fs::write(&out, "earlier").unwrap();
    let mut rows = clean();
    rows.insert(1, r#"{"prompt": "p", "chosen": "c"}"#.into());
    let rows = file(&rows.join("\n"));
    let error = convert(rows.path(), &out, None, &mut |_| {}, &go_on).unwrap_err().to_string();
    assert!(error.contains(":2: expected `rejected`"), "{error}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "earlier", "the earlier file is untouched");
    let mut told = Vec::new();
    let told_of = &mut |row: &LeftOut| told.push(row.location.line);
    let converted = convert(rows.path(), &out, DROP, told_of, &go_on).unwrap().unwrap();
    assert_eq!((converted.written, converted.dropped, told), (2, 1, vec![2]));
    assert_eq!(read_pairs(&out).unwrap().len(), 2);
    let nowhere = dir.path().join("absent/out.jsonl");
    let error = convert(rows.path(), &nowhere, DROP, &mut |_| {}, &go_on).unwrap_err().to_string();
    assert!(error.contains("cannot write"), "{error}");
}

#[test]
fn work_that_is_broken_off_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let rows = file(&clean().join("\n"));
    let stop = |_| ControlFlow::Break(());
    assert!(check(rows.path(), None, &Truncation::default(), &Preparation::default(), &stop).unwrap().is_none());
    assert!(lengths(rows.path(), None, &stop).unwrap().is_none());
    assert!(convert(rows.path(), dir.path().join("out.jsonl"), None, &mut |_| {}, &stop).unwrap().is_none());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(count_rows(rows.path()).unwrap(), 2);
}

/// Rows that break a rule each, after two that break none.
fn condemned() -> Vec<String> {
    let mut rows = clean();
    rows.extend([
        pair("c", "same", " same"),
        pair("d", "", "b"),
        "{}".to_string(),
        r#"{"prompt": "p", "completion": "c"}"#.to_string(),
        pair("e", "one<|im_end|>two", "three"),
    ]);
    rows
}

#[test]
fn conversion_drops_what_the_check_calls_an_error_by_rule() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl");
    let rows = file(&condemned().join("\n"));
    let mut told = Vec::new();
    let told_of = &mut |row: &LeftOut| told.push((row.location.line, row.rule));
    let converted = convert(rows.path(), &out, DROP, told_of, &go_on).unwrap().unwrap();
    assert_eq!((converted.written, converted.dropped), (3, 4), "without a model the terminator is text");
    let expected =
        [(3, Rule::IdenticalSides), (4, Rule::EmptyCompletion), (5, Rule::UnreadableRow), (6, Rule::MixedKinds)];
    assert_eq!(told, expected);
    assert_eq!(converted.by_rule["mixed_kinds"], 1);
    assert!(!check(&out, None, &FULL, &PLAIN, &go_on).unwrap().unwrap().has_errors());

    let tokenizer = ChatTokenizer::from_model_dir(golden("chatml")).unwrap();
    let drop_bad = Some(DropBad { tokenizer: Some(&tokenizer), truncation: &FULL, preparation: &PLAIN });
    let converted = convert(rows.path(), &out, drop_bad, &mut |_| {}, &go_on).unwrap().unwrap();
    assert_eq!((converted.written, converted.by_rule["terminator_inside"]), (2, 1));
    assert!(!check(&out, Some(&tokenizer), &FULL, &PLAIN, &go_on).unwrap().unwrap().has_errors());
}

#[test]
fn errors_of_rows_refuse_no_run_that_drops_them() {
    let report = run(&condemned(), Some("chatml"), &FULL);
    assert!(report.refuses(OnBadRows::Fail) && !report.refuses(OnBadRows::Drop));
    let empty = run(&[], None, &FULL);
    assert!(empty.refuses(OnBadRows::Drop), "nothing is left");
}

#[test]
fn the_commonest_problem_of_unreadable_rows_comes_first() {
    let missing = r#"{"prompt": "p", "chosen": "c"}"#.to_string();
    let report = run(&["{}".to_string(), missing.clone(), missing], None, &FULL);
    let unreadable = &report.findings[0];
    assert_eq!((unreadable.rule, unreadable.count, report.is_unreadable()), (Rule::UnreadableRow, 3, true));
    assert_eq!(unreadable.first[0].line, Some(2));
    assert!(unreadable.first[0].detail.contains("expected `rejected`"), "{:?}", unreadable.first);
    assert_eq!(report.findings.len(), 1, "`no_rows` is for files without rows");
}

#[test]
fn unread_keys_are_counted_over_the_file() {
    let row = |more: &str| format!(r#"{{"prompt": "p", "chosen": "c", "rejected": "r"{more}}}"#);
    let rows = [row(""), row(r#", "score": 1"#), row(r#", "score": 2, "source": "x""#)];
    let report = run(&rows, None, &FULL);
    let unread: Vec<_> = report.unread.iter().map(|key| (key.key.as_str(), key.rows, key.first_line)).collect();
    assert_eq!(unread, [("score", 2, 2), ("source", 1, 3)]);
    let finding = report.findings.iter().find(|finding| finding.rule == Rule::UnreadKeys).unwrap();
    assert_eq!((finding.count, finding.severity), (2, Severity::Note));
    assert_eq!(finding.first[0].detail, "`score` (2), `source` (1)");
    let dir = tempfile::tempdir().unwrap();
    let rows = file(&rows.join("\n"));
    let converted = convert(rows.path(), dir.path().join("out"), None, &mut |_| {}, &go_on).unwrap().unwrap();
    assert_eq!(converted.unread, report.unread);
}
