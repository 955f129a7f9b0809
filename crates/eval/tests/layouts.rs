//! The same answers in every layout are the same samples.

use std::io::Write as _;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use smpo_eval::score::{CompletionFile, InputFormat, Store, assemble};
use smpo_results::{FinishReason, Sample};

/// An answer as its model gave it.
#[derive(Debug, Clone)]
struct Answer {
    question: String,
    text: String,
    reasoning: Option<String>,
    /// Ended by itself, not by the cap.
    ended: bool,
}

/// A way to write answers.
struct Layout {
    name: &'static str,
    file: &'static str,
    format: InputFormat,
    /// Questions, reasoning and ends are in the file.
    tells: [bool; 3],
    write: fn(&[Answer]) -> String,
}

fn lines(answers: &[Answer], row: impl Fn(usize, &Answer) -> Value) -> String {
    answers.iter().enumerate().map(|(index, answer)| format!("{}\n", row(index, answer))).collect()
}

fn word<'a>(answer: &Answer, ended: &'a str, cut: &'a str) -> &'a str {
    if answer.ended { ended } else { cut }
}

fn user(answer: &Answer) -> Value {
    json!({"role": "user", "content": answer.question})
}

fn openai(index: usize, body: Value) -> Value {
    json!({"id": format!("r{index}"), "custom_id": index.to_string(), "error": null,
           "response": {"status_code": 200, "body": body}})
}

fn thinking(answer: &Answer, part: impl Fn(&str) -> Value) -> Vec<Value> {
    answer.reasoning.as_deref().map(part).into_iter().collect()
}

const NOTHING: [bool; 3] = [false; 3];
const PROMPTS: [bool; 3] = [true, false, false];
const NO_PROMPTS: [bool; 3] = [false, true, true];
const NO_REASONING: [bool; 3] = [true, false, true];
const ALL: [bool; 3] = [true; 3];

static LAYOUTS: &[Layout] = &[
    Layout {
        name: "plain",
        file: "m.jsonl",
        format: InputFormat::Plain,
        tells: ALL,
        write: |answers| {
            lines(answers, |index, a| {
                json!({"id": index, "model": "m", "prompt": a.question, "completion": a.text,
                       "reasoning_content": a.reasoning, "finish_reason": word(a, "eos_token", "max_tokens")})
            })
        },
    },
    Layout {
        name: "TRL",
        file: "m.jsonl",
        format: InputFormat::Plain,
        tells: PROMPTS,
        write: |answers| {
            lines(
                answers,
                |index, a| json!({"id": index, "prompt": [user(a)], "completion": [{"role": "assistant", "content": a.text}]}),
            )
        },
    },
    Layout {
        name: "ShareGPT",
        file: "m.json",
        format: InputFormat::Plain,
        tells: PROMPTS,
        write: |answers| {
            let row = |(index, a): (usize, &Answer)| {
                json!({"id": index.to_string(), "conversations":
                       [{"from": "human", "value": a.question}, {"from": "gpt", "value": a.text}]})
            };
            Value::Array(answers.iter().enumerate().map(row).collect()).to_string()
        },
    },
    Layout {
        name: "messages of parts",
        file: "m.jsonl",
        format: InputFormat::Plain,
        tells: [true, true, false],
        write: |answers| {
            lines(answers, |index, a| {
                let mut parts = thinking(a, |text| json!({"type": "thinking", "thinking": text}));
                parts.push(json!({"type": "text", "text": a.text}));
                let asked = json!({"role": "user", "content": [{"type": "text", "text": a.question}]});
                json!({"id": index, "messages": [asked, {"role": "assistant", "content": parts}]})
            })
        },
    },
    Layout {
        name: "FastChat",
        file: "m.jsonl",
        format: InputFormat::FastChat,
        tells: NOTHING,
        write: |answers| {
            lines(
                answers,
                |index, a| json!({"question_id": index, "model_id": "m", "choices": [{"index": 0, "turns": [a.text]}]}),
            )
        },
    },
    Layout {
        name: "Arena-Hard",
        file: "m.jsonl",
        format: InputFormat::ArenaHard,
        tells: [true, true, false],
        write: |answers| {
            lines(answers, |index, a| {
                json!({"uid": index.to_string(), "model": "m", "messages":
                       [user(a), {"role": "assistant", "content": {"answer": a.text, "thought": a.reasoning}}]})
            })
        },
    },
    Layout {
        name: "AlpacaEval",
        file: "m.json",
        format: InputFormat::AlpacaEval,
        tells: PROMPTS,
        write: |answers| {
            let row = |(index, a): (usize, &Answer)| json!({"id": index, "instruction": a.question, "output": a.text, "generator": "m"});
            serde_json::to_string_pretty(&answers.iter().enumerate().map(row).collect::<Vec<_>>()).unwrap()
        },
    },
    Layout {
        name: "lm-evaluation-harness",
        file: "m/samples_task_2025-01-01T00-00-00.000000.jsonl",
        format: InputFormat::LmEval,
        tells: PROMPTS,
        write: |answers| {
            lines(answers, |index, a| {
                json!({"doc_id": index, "doc": {}, "target": "", "resps": [[a.text]], "filter": "none",
                       "arguments": {"gen_args_0": {"arg_0": [json!([user(a)]).to_string()], "arg_1": {}}}})
            })
        },
    },
    Layout {
        name: "OpenAI batch",
        file: "out.jsonl",
        format: InputFormat::Batch,
        tells: NO_PROMPTS,
        write: |answers| {
            lines(answers, |index, a| {
                let message = json!({"role": "assistant", "content": a.text, "reasoning_content": a.reasoning});
                let choice = json!({"index": 0, "message": message, "finish_reason": word(a, "stop", "length")});
                openai(index, json!({"model": "m", "choices": [choice], "usage": {"completion_tokens": 7.0}}))
            })
        },
    },
    Layout {
        name: "Responses batch",
        file: "out.jsonl",
        format: InputFormat::Batch,
        tells: NO_PROMPTS,
        write: |answers| {
            lines(answers, |index, a| {
                let summary =
                    |text: &str| json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]});
                let mut output = thinking(a, summary);
                let parts = json!([{"type": "output_text", "text": a.text, "annotations": []}]);
                output.push(json!({"type": "message", "role": "assistant", "content": parts}));
                let status = word(a, "completed", "incomplete");
                let details = if a.ended { Value::Null } else { json!({"reason": "max_output_tokens"}) };
                let body = json!({"object": "response", "model": "m", "status": status, "incomplete_details": details,
                                  "output": output, "usage": {"output_tokens": 7}});
                openai(index, body)
            })
        },
    },
    Layout {
        name: "Anthropic batch",
        file: "out.jsonl",
        format: InputFormat::Batch,
        tells: NO_PROMPTS,
        write: |answers| {
            lines(answers, |index, a| {
                let mut content = thinking(a, |text| json!({"type": "thinking", "thinking": text, "signature": "s"}));
                content.push(json!({"type": "text", "text": a.text}));
                let message = json!({"type": "message", "model": "m", "role": "assistant", "content": content,
                                     "stop_reason": word(a, "end_turn", "max_tokens"), "usage": {"output_tokens": 7}});
                json!({"custom_id": index.to_string(), "result": {"type": "succeeded", "message": message}})
            })
        },
    },
    Layout {
        name: "Gemini batch",
        file: "out.jsonl",
        format: InputFormat::Batch,
        tells: NO_PROMPTS,
        write: |answers| {
            lines(answers, |index, a| {
                let mut parts = thinking(a, |text| json!({"text": text, "thought": true}));
                parts.push(json!({"text": a.text}));
                let candidate = json!({"content": {"parts": parts, "role": "model"}, "finishReason": word(a, "STOP", "MAX_TOKENS")});
                let usage = json!({"candidatesTokenCount": 7});
                json!({"key": index.to_string(), "response":
                       {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"}})
            })
        },
    },
    Layout {
        name: "inspect",
        file: "log.json",
        format: InputFormat::Inspect,
        tells: ALL,
        write: |answers| {
            let sample = |(index, a): (usize, &Answer)| {
                let mut content = thinking(a, |text| json!({"type": "reasoning", "reasoning": text}));
                content.push(json!({"type": "text", "text": a.text}));
                let choice = json!({"message": {"role": "assistant", "content": content}, "stop_reason": word(a, "stop", "max_tokens")});
                json!({"id": index, "epoch": 1, "input": a.question, "target": "",
                       "output": {"model": "m", "choices": [choice]}, "scores": {}})
            };
            let samples: Vec<Value> = answers.iter().enumerate().map(sample).collect();
            serde_json::to_string_pretty(
                &json!({"version": 2, "eval": {"task": "t", "model": "m"}, "samples": samples}),
            )
            .unwrap()
        },
    },
    Layout {
        name: "promptfoo",
        file: "results.json",
        format: InputFormat::Promptfoo,
        tells: NO_REASONING,
        write: |answers| {
            let result = |(index, a): (usize, &Answer)| {
                json!({"testIdx": index, "prompt": {"raw": a.question}, "provider": {"id": "m"},
                       "response": {"output": a.text, "finishReason": word(a, "stop", "length")}})
            };
            let results: Vec<Value> = answers.iter().enumerate().map(result).collect();
            json!({"evalId": "e", "results": {"version": 3, "results": results}}).to_string()
        },
    },
    Layout {
        name: "HELM",
        file: "scenario_state.json",
        format: InputFormat::Helm,
        tells: NO_REASONING,
        write: |answers| {
            let state = |(index, a): (usize, &Answer)| {
                json!({"instance": {"input": {"text": a.question}, "id": format!("id{index}")},
                       "request": {"prompt": a.question, "max_tokens": 512},
                       "result": {"success": true, "completions":
                                  [{"text": a.text, "tokens": [], "finish_reason": {"reason": word(a, "endoftext", "length")}}]}})
            };
            let states: Vec<Value> = answers.iter().enumerate().map(state).collect();
            json!({"adapter_spec": {"model": "m"}, "request_states": states}).to_string()
        },
    },
    Layout {
        name: "openai/evals",
        file: "log.jsonl",
        format: InputFormat::OpenAiEvals,
        tells: PROMPTS,
        write: |answers| {
            let event = |index: usize, a: &Answer| {
                json!({"run_id": "r", "event_id": index, "sample_id": format!("s.{index}"), "type": "sampling",
                       "data": {"prompt": [user(a)], "sampled": [a.text]}})
            };
            format!("{}\n{}", json!({"spec": {"completion_fns": ["m"]}}), lines(answers, event))
        },
    },
    Layout {
        name: "bodies",
        file: "out.jsonl",
        format: InputFormat::Api,
        tells: NO_PROMPTS,
        write: |answers| {
            lines(answers, |index, a| {
                let message = json!({"role": "assistant", "content": a.text, "reasoning": a.reasoning});
                json!({"id": format!("chatcmpl-{index}"), "object": "chat.completion", "model": "m",
                       "choices": [{"index": 0, "message": message, "finish_reason": word(a, "stop", "length")}]})
            })
        },
    },
];

/// The samples of the only model in a file.
fn read(layout: &Layout, dir: &Path, bytes: &[u8]) -> Vec<Sample> {
    let path = dir.join(layout.file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let mut store = Store::beside(dir);
    let file = CompletionFile::read(&path, None, &mut store).unwrap();
    assert_eq!(file.format, layout.format, "{}", layout.name);
    let assembled = assemble(vec![file], None, None, store).unwrap();
    let [model] = assembled.models.as_slice() else { panic!("{}: {} models", layout.name, assembled.models.len()) };
    assert!(assembled.notes.is_empty(), "{}: {:?}", layout.name, assembled.notes);
    assert!(model.name == "m" || layout.tells == PROMPTS, "{}: {}", layout.name, model.name);
    model.samples().collect::<Result<_, _>>().unwrap()
}

fn check(layout: &Layout, answers: &[Answer], samples: &[Sample]) {
    let [questions, reasonings, ends] = layout.tells;
    assert_eq!(samples.len(), answers.len(), "{}", layout.name);
    for (sample, answer) in samples.iter().zip(answers) {
        let question = sample.messages.last().map(|message| message.content.as_str());
        assert_eq!(question, questions.then_some(answer.question.as_str()), "{}", layout.name);
        assert_eq!((sample.completion.as_str(), sample.sample), (answer.text.as_str(), 0), "{}", layout.name);
        assert_eq!(sample.reasoning, answer.reasoning.clone().filter(|_| reasonings), "{}", layout.name);
        let finish = if answer.ended { FinishReason::Eos } else { FinishReason::Length };
        assert_eq!(sample.finish_reason, if ends { finish } else { FinishReason::Unknown }, "{}", layout.name);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let text = "[ -~äя你👍\\n\\t]{1,40}";
    let answer = (text, proptest::option::of("[a-z я\\n]{1,20}"), any::<bool>());
    proptest::collection::vec(answer, 1..6).prop_map(|answers| {
        let answer = |(index, (text, reasoning, ended)): (usize, (String, _, _))| Answer {
            question: format!("Question {index}?"),
            text,
            reasoning,
            ended,
        };
        answers.into_iter().enumerate().map(answer).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_answers_in_every_layout_are_the_same_samples(answers in answers()) {
        for layout in LAYOUTS {
            let dir = tempfile::tempdir().unwrap();
            let text = (layout.write)(&answers);
            let samples = read(layout, dir.path(), text.as_bytes());
            check(layout, &answers, &samples);
            let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            for packed in [gzip(text.as_bytes()), [b"\xff\xfe", utf16.as_slice()].concat()] {
                prop_assert_eq!(&read(layout, dir.path(), &packed), &samples, "{}", layout.name);
            }
        }
    }

    #[test]
    fn no_damage_to_a_file_panics(answers in answers(), which in 0..LAYOUTS.len(), at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let layout = &LAYOUTS[which];
        let mut bytes = (layout.write)(&answers).into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jsonl");
        std::fs::write(&path, &bytes).unwrap();
        let mut store = Store::beside(dir.path());
        if let Ok(file) = CompletionFile::read(&path, None, &mut store) {
            let _ = assemble(vec![file], None, None, store);
        }
    }
}
