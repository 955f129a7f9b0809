//! Every layout of docs/data.md is read as the page says.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use smpo_chat::Message;
use smpo_data::{Record, Remarks, convert, records, records_with_labels};
use smpo_fixtures::text;
use tempfile::NamedTempFile;

const BEGIN: &str = "<!-- layouts: written by UPDATE_DOCS=1 cargo test --release -p smpo-data --test layouts -->\n";
const HEAD: &str = "| known from | a row | is read as |\n|---|---|---|\n";
const END: &str = "<!-- end -->";

/// Rows of the page's table: where a layout is known from, and an input line.
const LAYOUTS: &[(&str, &str)] = &[
    ("TRL, texts", r#"{"prompt": "q", "chosen": "a", "rejected": "b"}"#),
    (
        "TRL, messages",
        r#"{"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}"#,
    ),
    (
        "TRL, implicit prompt",
        r#"{"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}"#,
    ),
    (
        "UltraFeedback",
        r#"{"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "score_chosen": 8.0}"#,
    ),
    (
        "UltraChat",
        r#"{"prompt": "q", "prompt_id": "1", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]}"#,
    ),
    ("HH-RLHF", r#"{"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}"#),
    ("Intel Orca", r#"{"system": "s", "question": "q", "chosen": "a", "rejected": "b"}"#),
    ("Argilla Orca", r#"{"system": "s", "input": "q", "chosen": "a", "rejected": "b"}"#),
    ("StackExchange", r#"{"question": "q", "response_j": "a", "response_k": "b"}"#),
    ("NeMo", r#"{"prompt": "q", "chosen_response": "a", "rejected_response": "b"}"#),
    (
        "OpenAI, preference fine-tuning",
        r#"{"input": {"messages": [{"role": "user", "content": "q"}], "tools": [], "parallel_tool_calls": true}, "preferred_output": [{"role": "assistant", "content": "a"}], "non_preferred_output": [{"role": "assistant", "content": "b"}]}"#,
    ),
    (
        "LLaMA-Factory, ShareGPT ranking",
        r#"{"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "o"}, {"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}"#,
    ),
    (
        "LLaMA-Factory, Alpaca ranking",
        r#"{"instruction": "q", "input": "i", "system": "s", "history": [["p", "o"]], "chosen": "a", "rejected": "b"}"#,
    ),
    (
        "axolotl, oumi",
        r#"{"system": "s", "messages": [{"role": "user", "content": "q"}], "chosen": {"role": "assistant", "content": "a"}, "rejected": {"role": "assistant", "content": "b"}}"#,
    ),
    (
        "ms-swift",
        r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "rejected_response": "b"}"#,
    ),
    (
        "ms-swift, conversations",
        r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "rejected_messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}"#,
    ),
    (
        "messages as JSON text",
        r#"{"prompt": "q", "chosen": "[{\"role\": \"assistant\", \"content\": \"a\"}]", "rejected": "[{\"role\": \"assistant\", \"content\": \"b\"}]"}"#,
    ),
    ("ms-swift, query", r#"{"query": "q", "response": "a", "rejected_response": "b", "history": [["p", "o"]]}"#),
    (
        "reasoning in columns",
        r#"{"prompt": "q", "chosen": "a", "chosen_reasoning": "r", "rejected": "b", "rejected_reasoning": "t"}"#,
    ),
    (
        "answers that were cut",
        r#"{"prompt": "q", "chosen": "a", "rejected": "b b b", "rejected_finish_reason": "length"}"#,
    ),
    (
        "Chatbot Arena, MT-Bench",
        r#"{"question_id": "1", "winner": "model_b", "conversation_a": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "conversation_b": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}], "model_a": "m", "model_b": "n"}"#,
    ),
    (
        "Chatbot Arena, Kaggle",
        r#"{"prompt": "[\"q\", \"r\"]", "response_a": "[\"a\", \"c\"]", "response_b": "[\"b\", \"d\"]", "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}"#,
    ),
    (
        "PKU-SafeRLHF",
        r#"{"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1, "safer_response_id": 0}"#,
    ),
    (
        "HelpSteer 3",
        r#"{"context": [{"role": "user", "content": "q"}], "response1": "a", "response2": "b", "overall_preference": -2}"#,
    ),
    ("HelpSteer 2, preferences", r#"{"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": 1}"#),
    (
        "AlpacaFarm, AlpacaEval",
        r#"{"instruction": "q", "input": "", "output_1": "a", "output_2": "b", "preference": 2}"#,
    ),
    (
        "Stanford Human Preferences",
        r#"{"history": "q", "human_ref_A": "a", "human_ref_B": "b", "labels": 1, "score_A": 3, "score_B": 2}"#,
    ),
    ("OffsetBias, LLMBar", r#"{"instruction": "q", "input": "", "output_1": "a", "output_2": "b", "label": 2}"#),
    (
        "Unified-Feedback",
        r#"{"conv_A": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "conv_B": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}], "conv_A_rating": 2.5, "conv_B_rating": 4}"#,
    ),
    ("UltraInteract", r#"{"trajectory": [{"from": "user", "value": "q"}], "chosen": "a", "rejected": "b"}"#),
    (
        "torchtune",
        r#"{"chosen_conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "rejected_conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}"#,
    ),
    (
        "LLaMA-Factory, parts",
        r#"{"chosen_messages": [{"role": "user", "content": [{"type": "text", "value": "q"}], "loss_weight": 0.0}, {"role": "assistant", "content": [{"type": "reasoning", "value": "r"}, {"type": "text", "value": "a"}], "loss_weight": 1.0}], "rejected_messages": [{"role": "user", "content": [{"type": "text", "value": "q"}]}, {"role": "assistant", "content": [{"type": "text", "value": "b"}]}]}"#,
    ),
    (
        "Math-Step-DPO",
        r#"{"prompt": "q", "initial_reason_steps": "Step 1: i\nStep 2:", "chosen": " a", "rejected": " b", "answer": "4"}"#,
    ),
    ("two answers and a verdict", r#"{"prompt": "q", "response_a": "a", "response_b": "b", "winner": "a"}"#),
    ("TRL, SFT", r#"{"prompt": "q", "completion": "a"}"#),
    ("chat", r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#),
    (
        "chat with a system column",
        r#"{"system": "s", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#,
    ),
    (
        "effective_llm_alignment, generated",
        r#"{"conversation": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "generated_message_indices": [1], "finish_reason": ["length"], "model": "m"}"#,
    ),
    (
        "ShareGPT with tools",
        r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {}}"}, {"from": "observation", "value": "o"}, {"from": "gpt", "value": "a"}], "tools": "[{\"name\": \"f\"}]"}"#,
    ),
    (
        "OpenAI, stored response",
        r#"{"messages": [{"role": "user", "content": "q"}], "choices": [{"message": {"role": "assistant", "content": "a"}, "finish_reason": "length"}]}"#,
    ),
    ("Capybara", r#"{"conversation": [{"input": "q", "output": "a"}, {"input": "r", "output": "b"}]}"#),
    (
        "Nemotron",
        r#"{"reasoning": "off", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#,
    ),
    (
        "OpenR1-Math",
        r#"{"problem": "q", "solution": "s", "answer": "4", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#,
    ),
    ("LIMO, MATH", r#"{"problem": "q", "solution": "a", "answer": "4"}"#),
    ("Alpaca", r#"{"instruction": "q", "input": "i", "output": "a"}"#),
    ("Dolly", r#"{"instruction": "q", "context": "c", "response": "a"}"#),
    ("reasoning beside an answer", r#"{"question": "q", "reasoning": "r", "answer": "a"}"#),
    (
        "effective_llm_alignment, GPO",
        r#"{"prompt": [{"role": "user", "content": "q"}], "completions": [[{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "b"}]], "rewards": [0.5, -1]}"#,
    ),
    (
        "smpo pairs, groups",
        r#"{"id": "1", "prompt": [{"role": "user", "content": "q"}], "completions": [[{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "b"}]], "rewards": [1, 0], "finished": [true, false], "model": "m"}"#,
    ),
    (
        "groups of texts",
        r#"{"prompt": "q", "completions": ["a", "b"], "rewards": [1, 0], "finish_reasons": ["stop", "length"]}"#,
    ),
    (
        "UltraFeedback, Nectar",
        r#"{"instruction": "q", "completions": [{"response": "a", "overall_score": 7.5, "model": "m"}, {"response": "b", "overall_score": 3}, {"response": "c", "overall_score": 8}]}"#,
    ),
    (
        "NeMo RL, ranked",
        r#"{"context": [{"role": "user", "content": "q"}], "completions": [{"rank": 1, "completion": [{"role": "assistant", "content": "b"}]}, {"rank": 0, "completion": [{"role": "assistant", "content": "a"}]}]}"#,
    ),
    (
        "argilla, KTO",
        r#"{"completion": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": true}"#,
    ),
    ("TRL, KTO", r#"{"prompt": "q", "completion": "a", "label": true}"#),
    (
        "ms-swift, KTO",
        r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": false}"#,
    ),
    ("LLaMA-Factory, KTO", r#"{"instruction": "q", "input": "", "output": "a", "kto_tag": false}"#),
    ("transformers, classification", r#"{"text": "t", "label": 2}"#),
    (
        "effective_llm_alignment, classification",
        r#"{"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": "spam"}"#,
    ),
    (
        "several labels",
        r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "labels": ["rude", "short"]}"#,
    ),
];

fn read(rows: &[&str]) -> Vec<Result<(Record, Remarks), String>> {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(rows.join("\n").as_bytes()).unwrap();
    let rows = records(file.path()).unwrap();
    rows.map(|row| row.map(|row| (row.record, row.remarks)).map_err(|error| error.problem.to_string())).collect()
}

fn one(row: &str) -> (Record, Remarks) {
    read(&[row]).remove(0).unwrap_or_else(|error| panic!("{row}: {error}"))
}

fn refusal(row: &str) -> String {
    read(&[row]).remove(0).map(|(record, _)| panic!("{row}: {record:?}")).unwrap_err()
}

/// A record as the page shows it.
fn shown(record: &Record, remarks: &Remarks) -> String {
    let message = |message: &Message| {
        let mut text = format!("{} {:?}", message.role, message.content);
        for (name, value) in &message.fields {
            text.push_str(&format!(" + {name} {value}"));
        }
        text.push_str(if message.finished { "" } else { ", cut" });
        text.push_str(if message.scored { "" } else { ", not scored" });
        text
    };
    let list = |messages: &[Message]| messages.iter().map(message).collect::<Vec<_>>().join(", ");
    let mut parts = vec![list(record.prompt())];
    parts.extend(record.completions().into_iter().map(|(name, messages)| format!("{name}: {}", list(messages))));
    if let Record::Unpaired(row) = record {
        parts.push(format!("label {}", row.label));
    }
    if let Record::Classified(row) = record {
        parts.extend(row.text.as_ref().map(|text| format!("text {text:?}")));
        parts.retain(|part| !part.is_empty());
        let names = row.names().into_iter().flatten().map(|name| format!("{name:?}"));
        parts.push(format!("labels {}", names.collect::<Vec<_>>().join(", ")));
    }
    if let Record::Group(row) = record {
        parts.push(format!("rewards {}", json!(row.rewards)));
    }
    let inputs = record.inputs();
    if !inputs.tools.is_empty() {
        parts.push(format!("tools {}", json!(inputs.tools)));
    }
    if !remarks.unread.is_empty() {
        parts.push(format!("unread: {}", remarks.unread.join(", ")));
    }
    parts.join("; ")
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/data.md")
}

#[test]
fn the_page_shows_every_layout_as_it_is_read() {
    let mut table = HEAD.to_string();
    for (name, row) in LAYOUTS {
        let (record, remarks) = one(row);
        table.push_str(&format!("| {name} | `{row}` | `{}` |\n", shown(&record, &remarks)));
    }
    let text = std::fs::read_to_string(page()).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the table's beginning");
    let (found, after) = rest.split_once(END).expect("the table's end");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(page(), [before, BEGIN, &table, END, after].concat()).unwrap();
    } else {
        assert_eq!(found, table, "UPDATE_DOCS=1 writes it");
    }
}

/// Rows that say the same in two layouts.
#[test]
fn a_system_message_is_the_same_wherever_it_stands() {
    let side = |text: &str| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": text}]);
    let (user, system) = (json!({"role": "user", "content": "q"}), json!({"role": "system", "content": "s"}));
    let rows = [
        json!({"prompt": [system, user], "chosen": "a", "rejected": "b"}),
        json!({"system": "s", "prompt": "q", "chosen": side("a"), "rejected": side("b")}),
        json!({"system_prompt": "s", "chosen": side("a"), "rejected": side("b")}),
        json!({"prompt": [system, user], "chosen": side("a"), "rejected": side("b")}),
        json!({"system": "s", "prompt": [system, user], "chosen": side("a"), "rejected": side("b")}),
        json!({"system": "s", "messages": [user], "chosen": "a", "rejected": "b"}),
        json!({"system": "s", "system_prompt": "", "conversations": [user], "chosen": side("a"), "rejected": side("b")}),
    ];
    let first = one(&rows[0].to_string());
    for row in &rows {
        assert_eq!(one(&row.to_string()), first, "{row}");
    }
}

#[test]
fn earlier_turns_are_kept_whichever_column_has_them() {
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let turns = [message("user", "p"), message("assistant", "o"), message("user", "q")];
    let whole = |text: &str| Value::from([&turns[..], &[message("assistant", text)]].concat());
    let last = |text: &str| json!([message("user", "q"), message("assistant", text)]);
    let rows = [
        json!({"chosen": whole("a"), "rejected": whole("b")}),
        json!({"prompt": turns, "chosen": last("a"), "rejected": last("b")}),
        json!({"prompt": turns, "chosen": whole("a"), "rejected": "b"}),
        json!({"prompt": "q", "messages": turns, "chosen": "a", "rejected": "b"}),
        json!({"prompt": "p", "chosen": whole("a"), "rejected": whole("b")}),
        json!({"messages": whole("a"), "chosen": "a", "rejected": "b"}),
        json!({"messages": whole("a"), "chosen": whole("a"), "rejected": whole("b")}),
        json!({"prompt": "q", "history": [["p", "o"]], "chosen": "a", "rejected": "b"}),
        json!({"prompt": "q", "history": turns[..2], "chosen": "a", "rejected": "b"}),
    ];
    let first = one(&rows[0].to_string());
    assert_eq!(first.0.prompt().len(), 3);
    for row in &rows {
        assert_eq!(one(&row.to_string()), first, "{row}");
    }
}

/// Rows that are refused, each with a part of the message.
const REFUSED: &[(&str, &str)] = &[
    (
        r#"{"prompt": "q", "response_a": "a", "response_b": "b", "winner": "tie (bothbad)"}"#,
        "`winner` is \"tie (bothbad)\", a tie; leave the row out",
    ),
    (
        r#"{"prompt": "q", "response_a": "a", "response_b": "b", "winner": "gpt-4"}"#,
        "`winner`: expected `model_a`, `model_b`, `a`, `b`, `response_a`, `response_b` or `tie`, got \"gpt-4\"",
    ),
    (
        r#"{"prompt": "q", "response_a": "a", "response_b": "b", "winner_model_a": 0, "winner_model_b": 0, "winner_tie": 1}"#,
        "a tie; leave the row out",
    ),
    (
        r#"{"prompt": "q", "response_a": "a", "response_b": "b", "winner_model_a": 1, "winner_model_b": 1, "winner_tie": 0}"#,
        "`winner_model_a`: expected 1 for one of the answers or the tie",
    ),
    (
        r#"{"prompt": "[\"q\"]", "response_a": "[\"a\"]", "response_b": "[\"\\ud83d\"]", "winner": "a"}"#,
        "`response_b`: expected a JSON list of texts, one a turn, as in `prompt`, got ",
    ),
    (
        r#"{"prompt": "[\"q\"]", "response_a": "[\"a\", \"c\"]", "response_b": "[\"b\"]", "winner": "a"}"#,
        "`response_a`: expected an answer for each turn of `prompt`, got 2 for 1",
    ),
    (
        r#"{"prompt": "[\"q\"]", "response_a": "[null]", "response_b": "[\"b\"]", "winner": "a"}"#,
        "`response_a[1].content`",
    ),
    (r#"{"prompt": "q", "response_a": "a", "response_b": "b", "winner": null}"#, "`winner` is null; give it a value"),
    (
        r#"{"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 2}"#,
        "`better_response_id`: expected 0 or 1, the better answer's number, got 2",
    ),
    (
        r#"{"context": [{"role": "user", "content": "q"}], "response1": "a", "response2": "b", "overall_preference": 0}"#,
        "a tie",
    ),
    (r#"{"instruction": "q", "output_1": "a", "output_2": "b", "preference": 1.5}"#, "a tie"),
    (r#"{"prompt": "q", "response_1": "a", "response_2": "b"}"#, "expected `preference_strength`, got only"),
    (r#"{"conv_A": [], "conv_B": [], "conv_A_rating": 2, "conv_B_rating": 2}"#, "`conv_A_rating` is 2, a tie"),
    (r#"{"conv_A": [], "conv_B": [], "conv_A_rating": 2, "conv_B_rating": "x"}"#, "`conv_A_rating`: expected a score"),
    (
        r#"{"history": "q", "human_ref_A": "a", "human_ref_B": "b", "labels": "x"}"#,
        "`labels`: expected 1 for the first answer",
    ),
    (
        r#"{"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": "much"}"#,
        "`preference_strength`: expected a number, negative where the first answer is the better one",
    ),
    (
        r#"{"prompt": "other", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}"#,
        "`prompt` (user \"other\") contradicts `chosen` (user \"q\")",
    ),
    (
        r#"{"system": "s", "prompt": [{"role": "system", "content": "t"}, {"role": "user", "content": "q"}], "completion": "a"}"#,
        "`system` (system \"s\") contradicts `prompt` (system \"t\")",
    ),
    (r#"{"system": "s", "system_prompt": "t", "prompt": "q", "completion": "a"}"#, "keep one system message"),
    (
        r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "c"}], "chosen": "a", "rejected": "b"}"#,
        "`messages` (assistant \"c\") contradicts `chosen`",
    ),
    (
        r#"{"prompt": "q", "instruction": "do", "completion": "a"}"#,
        "`instruction` is a string that nothing in a row of this layout reads; keep one question",
    ),
    (r#"{"prompt": [{"role": "user", "content": "q"}], "input": "i", "completion": "a"}"#, "`input` is a string"),
    (r#"{"prompt": "q", "reasoning": "r", "chosen": "a", "rejected": "b"}"#, "chosen_reasoning"),
    (r#"{"prompt": "q", "finish_reason": "length", "chosen": "a", "rejected": "b"}"#, "chosen_finish_reason"),
    (r#"{"prompt": "q", "label": false, "chosen": "a", "rejected": "b"}"#, "`label` is a boolean"),
    (
        r#"{"prompt": "q", "completion": "a", "finished": true, "finish_reason": "length"}"#,
        "`finished` (true) contradicts `finish_reason`",
    ),
    (r#"{"prompt": "q", "weight": 0.5, "completion": "a"}"#, "rows have no weights"),
    (r#"{"prompt": "q", "completion": "a", "label": -1}"#, "`label`: expected true or false, 1 or 0, got -1"),
    (r#"{"prompt": "q", "completion": "a", "label": true, "kto_tag": false}"#, "contradicts another label"),
    (r#"{"prompt": "q", "completion": "a", "label": NaN}"#, "`label`: expected true or false, got NaN"),
    (r#"{"prompt": NaN, "completion": "a"}"#, "`prompt`: expected a string or a list of messages, got NaN"),
    (r#"{"prompt": "q", "completion": NaN}"#, "`completion`: expected a string or a list of messages, got NaN"),
    (r#"{"prompt": "q", "completion": "a", "tools": [{"x": NaN}]}"#, "`tools[0].x`: expected a finite number, got NaN"),
    (r#"{"instruction": "q", "output": ["a", "b"]}"#, "`chosen` and `rejected`, got a list of 2 texts"),
    (r#"{"prompt": "<image>\nq", "completion": "a"}"#, "images, sound and video are not supported"),
    (r#"{"prompt": "see <audio> q", "audios": ["x.wav"], "completion": "a"}"#, "\"<audio>\": images, sound"),
    (
        r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0.5}]}"#,
        "`messages[1].weight`: expected 0 or 1, got 0.5",
    ),
    (
        r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "f()"}]}"#,
        "`conversations[1].value`: expected a call as JSON",
    ),
    (r#"{"prompt": "q", "completions": ["a", "b"]}"#, "expected `rewards`, got only"),
    (
        r#"{"prompt": "q", "completions": ["a", "b"], "rewards": [1]}"#,
        "`rewards`: expected one entry for each of `completions`, got 1 for 2",
    ),
    (
        r#"{"prompt": "q", "completions": ["a", "b"], "rewards": [1, NaN]}"#,
        "`rewards[1]`: expected a finite number, got NaN",
    ),
    (
        r#"{"prompt": "q", "completions": ["a", "b"], "rewards": [1, null]}"#,
        "`rewards[1]`: expected a finite number, got null",
    ),
    (
        r#"{"prompt": "q", "completions": ["a", "b"], "rewards": [1, "2"]}"#,
        "`rewards[1]`: expected a finite number, got a string",
    ),
    (
        r#"{"prompt": "q", "completions": ["a", "b"], "rewards": 1}"#,
        "`rewards`: expected a list of numbers, got a number",
    ),
    (
        r#"{"prompt": "q", "completions": "a", "rewards": [1]}"#,
        "`completions`: expected a list of answers, got a string",
    ),
    (r#"{"prompt": "q", "completions": [], "rewards": []}"#, "`completions`: expected at least one answer"),
    (
        r#"{"prompt": "q", "completions": ["a", 3], "rewards": [1, 0]}"#,
        "`completions[1]`: expected a string or a list of messages",
    ),
    (
        r#"{"prompt": "q", "completions": ["a", [{"role": "user", "content": "b"}]], "rewards": [1, 0]}"#,
        "`completions[1]`: expected to begin and end with an assistant message, got user",
    ),
    (r#"{"completions": ["a", "b"], "rewards": [1, 0]}"#, "expected `prompt`, got only"),
    (
        r#"{"prompt": "q", "completions": ["a", "b"], "rewards": [1, 0], "finished": [true]}"#,
        "`finished`: expected one entry for each of `completions`, got 1 for 2",
    ),
    (
        r#"{"prompt": "q", "completions": ["a", "b"], "rewards": [1, 0], "finished": [true, 7]}"#,
        "`finished[1]`: expected true, false or null, got a number",
    ),
    (
        r#"{"prompt": "q", "completions": ["a", "b"], "rewards": [1, 0], "finished": [true, true], "finish_reasons": ["stop", "length"]}"#,
        "`finished[1]` (true) contradicts `finish_reasons[1]`",
    ),
    ("prompt,chosen,rejected", "CSV and plain text are not read"),
    (r#"{"text": "", "label": "a"}"#, "`text`: expected a text, got an empty one"),
    (r#"{"text": "t", "label": 0.5}"#, "`label`: expected a label: a text, a whole number, or true or false, got 0.5"),
    (r#"{"text": "t", "label": -1}"#, "-1, which marks a row without a label: leave it out"),
    (r#"{"text": "t", "label": {"a": 1}}"#, "`label`: expected a label"),
    (r#"{"text": "t", "labels": [0, 1, 0]}"#, "got \"0\" twice"),
    (r#"{"text": "t", "labels": ["a", null]}"#, "`labels[1]`: expected a label"),
    (r#"{"text": "t", "labels": ["a"], "label": "a"}"#, "`label` contradicts `labels`"),
    (r#"{"text": "t", "prompt": "q", "label": "a"}"#, "keep one question"),
    (r#"{"labels": ["a"]}"#, "expected `text`, got only"),
];

#[test]
fn rows_that_cannot_be_understood_say_why() {
    for &(row, expected) in REFUSED {
        let got = refusal(row);
        assert!(got.contains(expected), "{row}\n  expected {expected}\n  got      {got}");
    }
}

#[test]
fn keys_that_nothing_reads_are_named_and_empty_ones_are_not() {
    let row = r#"{"prompt": "q", "chosen": [{"role": "assistant", "content": "a", "logprob": -1.5, "annotations": null}],
        "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "b", "cache_control": {"a": 1}}]}],
        "score": NaN, "source": "x", "history": [], "input": "", "images": [], "label": null, "weight": 1, "note": null}"#
        .replace('\n', "");
    let (_, remarks) = one(&row);
    assert_eq!(remarks.unread, ["chosen[].logprob", "rejected[].content[].cache_control", "score", "source"]);
    let (record, remarks) = one(r#"{"prompt": "q", "images": ["a.png"], "completion": "a", "finish_reason": "abort"}"#);
    assert_eq!((remarks.media, remarks.unclear_end), (vec!["images".into()], vec!["finish_reason \"abort\"".into()]));
    assert!(record.completions()[0].1[0].finished);
}

#[test]
fn answers_that_were_cut_say_so_in_every_place() {
    let cut = |row: &str| one(row).0.completions().iter().map(|(_, side)| side[0].finished).collect::<Vec<_>>();
    for (row, expected) in [
        (r#"{"prompt": "q", "completion": "a", "finished": false}"#, vec![false]),
        (r#"{"prompt": "q", "completion": "a", "finished": "False"}"#, vec![false]),
        (r#"{"prompt": "q", "completion": "a", "stop_reason": "max_tokens"}"#, vec![false]),
        (r#"{"prompt": "q", "completion": "a", "finish_reason": "stop", "stop_reason": 107}"#, vec![true]),
        (r#"{"prompt": "q", "chosen": "a", "rejected": "b", "chosen_finished": false}"#, vec![false, true]),
        (
            r#"{"prompt": "q", "chosen": "a", "rejected": "b", "rejected_finish_reason": "repetition"}"#,
            vec![true, false],
        ),
        (
            r#"{"prompt": "q", "completions": ["a", "b", "c"], "rewards": [1, 0, 2], "finished": [null, false, true]}"#,
            vec![true, false, true],
        ),
        (
            r#"{"prompt": "q", "completions": ["a", "b"], "rewards": [1, 0], "finish_reason": ["length", "stop"]}"#,
            vec![false, true],
        ),
        (
            r#"{"prompt": "q", "chosen": {"role": "assistant", "content": "a", "finish_reason": "length"}, "rejected": {"choices": [{"index": 0, "message": {"role": "assistant", "content": "b"}, "finish_reason": "length"}]}}"#,
            vec![false, false],
        ),
    ] {
        assert_eq!(cut(row), expected, "{row}");
    }
}

#[test]
fn assistant_messages_can_be_context_only() {
    for key in [r#""weight": 0"#, r#""train": false"#, r#""training": false"#, r#""loss": false"#] {
        let row = format!(
            r#"{{"messages": [{{"role": "user", "content": "p"}}, {{"role": "assistant", "content": "o", {key}}}, {{"role": "user", "content": "q"}}, {{"role": "assistant", "content": "a"}}]}}"#
        );
        let (record, remarks) = one(&row);
        let completion = record.completions()[0].1;
        assert_eq!((completion[0].scored, completion[2].scored), (false, true));
        assert!(remarks.unread.is_empty());
    }
}

#[test]
fn thinking_parts_are_joined_and_agree_with_the_reasoning_beside_them() {
    let row = |beside: &str| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "q"}}, {{"role": "assistant", "content": [
                {{"type": "thinking", "thinking": "r"}}, {{"type": "text", "text": "a"}}, {{"type": "thinking", "thinking": "s"}}]{beside}}}]}}"#
        )
        .replace('\n', "")
    };
    for beside in ["", r#", "reasoning_content": "rs""#] {
        let (record, _) = one(&row(beside));
        let [(_, [answer])] = record.completions()[..] else { panic!("one answer") };
        assert_eq!((answer.content.as_str(), answer.fields["reasoning_content"].as_str()), ("a", Some("rs")));
    }
    let problem = refusal(&row(r#", "reasoning": "t""#));
    assert!(problem.contains("thinking in `messages[1].content` contradicts another reasoning"), "{problem}");
}

#[test]
fn a_text_after_an_open_transcript_begins_without_its_space() {
    for row in [
        r#"{"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " a", "rejected": " b"}"#,
        r#"{"prompt": "\n\nHuman: q\n\nAssistant:", "completion": " a"}"#,
    ] {
        let (record, _) = one(row);
        assert_eq!(record.completions()[0].1[0].content, "a", "{row}");
    }
    for row in [
        r#"{"prompt": "q", "chosen": " a", "rejected": " b"}"#,
        r#"{"prompt": "Write as\n\nAssistant:", "chosen": " a", "rejected": " b"}"#,
    ] {
        let (record, _) = one(row);
        assert_eq!(record.completions()[0].1[0].content, " a", "{row}");
    }
}

#[test]
fn a_margin_is_a_number_or_its_text() {
    let margin = |margin: &str| {
        let (record, remarks) =
            one(&format!(r#"{{"prompt": "q", "chosen": "a", "rejected": "b", "margin": {margin}}}"#));
        let Record::Pair(pair) = record else { panic!("a pair") };
        (pair.margin.and_then(|margin| margin.as_f64()), remarks.unread)
    };
    assert_eq!(margin("0.5"), (Some(0.5), vec![]));
    assert_eq!(margin("\" 0.5 \""), (Some(0.5), vec![]));
    assert_eq!(margin("\"large\""), (None, vec!["margin".to_owned()]));
}

#[test]
fn sides_whose_later_questions_differ_are_no_pair() {
    let side = |question: &str, answer: &str| {
        let turn = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
        let turns = [("user", "q"), ("assistant", "p"), ("user", question), ("assistant", answer)];
        turns.map(|(role, content)| turn(role, content)).to_vec()
    };
    let row =
        |other: &str| serde_json::json!({"chosen": side("what now?", "a"), "rejected": side(other, "b")}).to_string();
    let (record, _) = one(&row("what now? "));
    assert_eq!((record.prompt().len(), record.completions()[1].1.len()), (3, 1), "white space is no difference");
    assert!(refusal(&row("and then?")).contains("both sides of a pair begin with the same prompt"));
}

#[test]
fn json_is_messages_only_where_it_is_nothing_else() {
    let text = |json: &str| {
        one(&json!({"prompt": "q", "completion": json}).to_string()).0.completions()[0].1[0].content.clone()
    };
    for json in [
        r#"[{"from": "Oslo", "value": 3}]"#,
        r#"{"role": "admin", "content": "x"}"#,
        "[]",
        "[1, 2]",
        "{'a': 1}",
        "array",
    ] {
        assert_eq!(text(json), json);
    }
    assert_eq!(text(r#"{"role": "assistant", "content": "a"}"#), "a");
    let whole = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]).to_string();
    let expected = one(r#"{"prompt": "q", "completion": "a"}"#);
    assert_eq!(one(&json!({"messages": whole}).to_string()), expected);
    assert_eq!(
        one(&json!({"prompt": "[{\"role\": \"user\", \"content\": \"q\"}]", "completion": "a"}).to_string()),
        expected
    );
}

/// Every row is a text or a whole conversation where labels are asked for, but pairs and groups.
#[test]
fn rows_to_be_labelled_are_whole() {
    let of = |row: &str| {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(row.as_bytes()).unwrap();
        records_with_labels(file.path()).unwrap().next().unwrap().unwrap().record
    };
    for (row, roles, label) in [
        (r#"{"prompt": "q", "completion": "a", "label": 1}"#, "user assistant", Some("1")),
        (r#"{"prompt": "q", "completion": "a", "label": true}"#, "user assistant", Some("true")),
        (r#"{"prompt": "q", "completion": "a", "label": 2.0}"#, "user assistant", Some("2")),
        (r#"{"system": "s", "prompt": "q", "label": "x"}"#, "system user", Some("x")),
        (
            r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#,
            "user assistant",
            None,
        ),
        (r#"{"prompt": "q"}"#, "user", None),
    ] {
        let Record::Classified(read) = of(row) else { panic!("{row}") };
        let found: Vec<&str> = read.messages.iter().map(|message| message.role.as_str()).collect();
        assert_eq!((found.join(" ").as_str(), read.label.as_deref()), (roles, label), "{row}");
    }
    assert!(matches!(of(r#"{"prompt": "q", "chosen": "a", "rejected": "b"}"#), Record::Pair(_)));
}

/// A made conversation with two answers.
#[derive(Debug, Clone)]
struct Made {
    system: Option<String>,
    history: Vec<(String, String)>,
    question: String,
    /// Text, reasoning, and true if it ended.
    answers: [(String, Option<String>, bool); 2],
    tools: bool,
}

fn made() -> impl Strategy<Value = Made> {
    let answer = || (text(), proptest::option::of(text()), any::<bool>());
    let history = proptest::collection::vec((text(), text()), 0..3);
    (proptest::option::of("[a-z]{1,8}"), history, text(), answer(), answer(), any::<bool>()).prop_map(
        |(system, history, question, chosen, rejected, tools)| Made {
            system,
            history,
            question,
            answers: [chosen, rejected],
            tools,
        },
    )
}

/// Spelling of messages.
#[derive(Debug, Clone, Copy)]
struct Spelling {
    role: &'static str,
    content: &'static str,
    user: &'static str,
    assistant: &'static str,
    reasoning: &'static str,
}

const OPENAI: Spelling =
    Spelling { role: "role", content: "content", user: "user", assistant: "assistant", reasoning: "reasoning_content" };
const SHAREGPT: Spelling =
    Spelling { role: "from", content: "value", user: "human", assistant: "gpt", reasoning: "thinking" };

impl Made {
    fn message(&self, spelling: Spelling, role: &str, text: &str) -> Value {
        json!({spelling.role: role, spelling.content: text})
    }

    /// The conversation before the answers.
    fn before(&self, spelling: Spelling, with_system: bool) -> Vec<Value> {
        let system = self.system.iter().filter(|_| with_system);
        let mut messages: Vec<Value> = system.map(|text| self.message(spelling, "system", text)).collect();
        for (question, answer) in &self.history {
            messages.push(self.message(spelling, spelling.user, question));
            messages.push(self.message(spelling, spelling.assistant, answer));
        }
        messages.push(self.message(spelling, spelling.user, &self.question));
        messages
    }

    fn answer(&self, spelling: Spelling, side: usize) -> Value {
        let (text, reasoning, ended) = &self.answers[side];
        let mut message = self.message(spelling, spelling.assistant, text);
        if let Some(reasoning) = reasoning {
            message[spelling.reasoning] = reasoning.as_str().into();
        }
        if !ended {
            message["finish_reason"] = "length".into();
        }
        message
    }

    fn whole(&self, spelling: Spelling, side: usize, with_system: bool) -> Value {
        let mut messages = self.before(spelling, with_system);
        messages.push(self.answer(spelling, side));
        messages.into()
    }

    fn tools(&self, mut row: Value) -> Value {
        if self.tools {
            row["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
        }
        row
    }

    /// An answer as a text, with what else is known of it in columns.
    fn columns(&self, mut row: Value, names: [&str; 2]) -> Value {
        for (side, (text, reasoning, ended)) in ["chosen", "rejected"].into_iter().zip(&self.answers) {
            row[names[usize::from(side == "rejected")]] = text.as_str().into();
            row[format!("{side}_reasoning")] = reasoning.clone().into();
            row[format!("{side}_finished")] = (*ended).into();
        }
        row
    }

    /// The same in every layout that can hold it.
    fn layouts(&self) -> Vec<Value> {
        let (o, s) = (OPENAI, SHAREGPT);
        let history: Vec<Value> = self.history.iter().map(|(question, answer)| json!([question, answer])).collect();
        let last = |side| json!([self.message(o, o.user, &self.question), self.answer(o, side)]);
        let mut rows = vec![
            json!({"prompt": self.before(o, true), "chosen": [self.answer(o, 0)], "rejected": [self.answer(o, 1)]}),
            json!({"prompt": self.before(o, true), "chosen": last(0), "rejected": last(1)}),
            json!({"system": self.system, "prompt": self.before(o, false), "chosen": self.answer(o, 0), "rejected": self.answer(o, 1)}),
            json!({"system": self.system, "conversations": self.before(s, false), "chosen": self.answer(s, 0), "rejected": self.answer(s, 1)}),
            json!({"messages": self.whole(o, 0, true), "rejected_messages": self.whole(o, 1, true)}),
            self.columns(
                json!({"system": self.system, "instruction": self.question, "input": "", "history": history}),
                ["chosen", "rejected"],
            ),
            self.columns(
                json!({"system_prompt": self.system, "query": self.question, "history": history}),
                ["response", "rejected_response"],
            ),
            self.columns(json!({"messages": self.before(o, true)}), ["chosen_response", "rejected_response"]),
        ];
        // where both sides say the same, what both share is no longer the prompt
        if self.answers[0] != self.answers[1] {
            rows.push(json!({"chosen": self.whole(o, 0, true), "rejected": self.whole(o, 1, true)}));
            rows.push(
                json!({"prompt": self.question, "chosen": self.whole(s, 0, true), "rejected": self.whole(s, 1, true)}),
            );
        }
        let mut rows: Vec<Value> = rows.into_iter().map(|row| self.tools(row)).collect();
        let mut request = self.tools(json!({"messages": self.before(o, true)}));
        request["parallel_tool_calls"] = true.into();
        rows.push(json!({"input": request, "preferred_output": [self.answer(o, 0)], "non_preferred_output": [self.answer(o, 1)]}));
        rows
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_conversation_is_the_same_record_in_every_layout_and_converted(made in made()) {
        let rows: Vec<String> = made.layouts().iter().map(Value::to_string).collect();
        let found = read(&rows.iter().map(String::as_str).collect::<Vec<_>>());
        let first = &found[0].as_ref().unwrap().0;
        for (row, read) in rows.iter().zip(&found) {
            let (record, remarks) = read.as_ref().map_err(|error| TestCaseError::fail(format!("{row}: {error}")))?;
            prop_assert_eq!(record, first, "{}", row);
            let unread = remarks.unread.iter().filter(|key| *key != "input.parallel_tool_calls");
            prop_assert_eq!(unread.count(), 0, "{} left {:?}", row, remarks);
        }
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(rows.join("\n").as_bytes()).unwrap();
        let out = NamedTempFile::new().unwrap();
        convert(file.path(), out.path(), None, &mut |_| {}, &|_| ControlFlow::Continue(())).unwrap();
        for row in records(out.path()).unwrap() {
            let row = row.unwrap();
            prop_assert_eq!(&row.record, first);
            prop_assert_eq!(&row.remarks, &Remarks::default(), "everything written is read");
        }
    }
}
