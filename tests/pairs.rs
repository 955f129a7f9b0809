//! `smpo pairs` and `smpo generate` as a user meets them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::str::contains;
use serde_json::{Value, json};
use smpo_fixtures::demo;
use smpo_fixtures::http::Server;

/// `smpo COMMAND BASE --prompts FILE --out DIR/COMMAND` with the native engine.
fn smpo(command: &str, dir: &Path, prompts: &Path) -> Command {
    let mut smpo = Command::cargo_bin("smpo").unwrap();
    smpo.env_remove("OPENAI_API_KEY").arg(command).arg(demo("base")).arg("--prompts").arg(prompts);
    smpo.arg("--out").arg(dir.join(command)).args(["--engine", "native"]);
    smpo
}

/// Some of the demo's prompts as a plain file.
fn basket(dir: &Path, count: usize) -> std::path::PathBuf {
    let text = fs::read_to_string(demo("ood.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let some: Vec<&str> = lines.iter().step_by(lines.len() / count).take(count).copied().collect();
    fs::write(dir.join("basket.jsonl"), some.join("\n")).unwrap();
    dir.join("basket.jsonl")
}

fn rows(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `smpo train`, `logps` and `explain` on the rows of `--policy groups`.
fn train_on_groups(dir: &Path, groups: &Path) {
    let smpo = || Command::cargo_bin("smpo").unwrap();
    let config = dir.join("gpo.toml");
    let text = format!(
        "model_name_or_path = {:?}\ndataset = {groups:?}\noutput_dir = {:?}\nlearning_rate = 1e-4\nmax_length = 256\n\
         num_train_epochs = 2\n[loss]\nkind = \"gpo\"\neos_term = \"invert\"\nmin_log_prob = -2.3\n",
        demo("base"),
        dir.join("gpo"),
    );
    fs::write(&config, text).unwrap();
    smpo().args(["data", "check"]).arg(groups).arg("--model").arg(demo("base")).assert().success();
    smpo().arg("train").arg(&config).arg("--check").assert().success();
    smpo().arg("train").arg(&config).assert().success();
    let steps = rows(&dir.join("gpo/metrics.jsonl"));
    assert!(
        steps.iter().all(|step| step["group/reward"].is_number() && step["eos_logp/chosen"].is_number()),
        "{steps:?}"
    );
    let logps = dir.join("logps.jsonl");
    smpo().arg("logps").arg(dir.join("gpo/model")).arg(groups).arg("--out").arg(&logps).assert().success();
    let first = &rows(&logps)[0];
    assert_eq!((first["completions"].as_array().unwrap().len(), first["rewards"].as_array().unwrap().len()), (6, 6));
    let id = first["id"].as_str().unwrap();
    let explained = smpo().arg("explain").arg(&config).arg(&logps).args(["--pair", id]).assert().success();
    let shown = String::from_utf8(explained.get_output().stdout.clone()).unwrap();
    assert!(shown.starts_with("gpo: ") && shown.contains(" groups, ") && shown.contains("advantage"), "{shown}");
}

#[test]
fn pairs_are_made_resumed_and_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = basket(dir.path(), 8);
    let make = |more: &[&str]| {
        let mut command = smpo("pairs", dir.path(), &prompts);
        command.args(["--samples", "6", "--cap", "24", "--temperature", "1.2"]).args(more);
        command.assert().success()
    };
    make(&[]).stdout(contains("rows from")).stdout(contains("48 samples, 0 failed"));
    let out = dir.path().join("pairs");
    let pairs = rows(&out.join("pairs.jsonl"));
    assert!(!pairs.is_empty());
    for pair in &pairs {
        assert!(pair["score_chosen"].as_f64() > pair["score_rejected"].as_f64(), "{pair}");
        assert_ne!(pair["chosen"], pair["rejected"]);
        assert_ne!(pair["chosen"][0]["finished"], false);
    }
    assert!(pairs.iter().any(|pair| pair["rejected"][0]["finished"] == false), "no rejected answer was cut");
    let report: Value = serde_json::from_str(&fs::read_to_string(out.join("report.json")).unwrap()).unwrap();
    let dropped: u64 = report["dropped"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(report["kept"].as_u64().unwrap() + dropped, 8);

    // interrupted: a torn line and missing samples give the same bytes again
    let (samples, made) = (out.join("samples/samples.jsonl"), fs::read(out.join("pairs.jsonl")).unwrap());
    let text = fs::read_to_string(&samples).unwrap();
    fs::write(&samples, &text[..text.len() / 2]).unwrap();
    make(&[]);
    assert_eq!(fs::read_to_string(&samples).unwrap(), text);
    assert_eq!(fs::read(out.join("pairs.jsonl")).unwrap(), made);

    // another selection of the same samples
    make(&["--policy", "groups", "--score", "rule:length:..12=1", "--min-gap", "0.5"]);
    for group in rows(&out.join("groups.jsonl")) {
        let rewards: Vec<f64> =
            group["rewards"].as_array().unwrap().iter().map(|reward| reward.as_f64().unwrap()).collect();
        assert_eq!((rewards.len(), group["completions"].as_array().unwrap().len()), (6, 6));
        assert!(rewards.contains(&0.0) && rewards.contains(&1.0), "{rewards:?}");
    }
    train_on_groups(dir.path(), &out.join("groups.jsonl"));
    make(&["--rows", "ela"]);
    let ela = rows(&out.join("basket_rs.jsonl"));
    assert_eq!((ela.len(), ela[0]["all_scores"].as_array().unwrap().len()), (pairs.len(), 6));

    let mut check = Command::cargo_bin("smpo").unwrap();
    check.args(["data", "check"]).arg(out.join("pairs.jsonl")).arg("--model").arg(demo("base"));
    check.assert().success();
}

#[test]
fn a_judge_grades_and_its_nonsense_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = basket(dir.path(), 4);
    let judge = Server::start(|_, body: &Value| {
        let question = body["messages"][0]["content"].as_str().unwrap();
        let answer = question.split("[Answer]\n").nth(1).unwrap().split("\n[End of answer]").next().unwrap();
        // short answers are good; some are beyond this judge
        let reply = match answer.len() {
            odd if odd % 5 == 1 => "I cannot say.".to_owned(),
            length => format!("A form would be [[1]]. [[{}]]", 10 - length.min(90) / 10),
        };
        ("200 OK", json!({"choices": [{"message": {"content": reply}, "finish_reason": "stop"}]}).to_string())
    });
    let make = || {
        let mut command = smpo("pairs", dir.path(), &prompts);
        command.args([
            "--samples",
            "5",
            "--cap",
            "16",
            "--temperature",
            "1.2",
            "--score",
            "judge",
            "--judge",
            &judge.url,
        ]);
        command.args(["--judge-model", "m", "--judge-attempts", "2", "--format", "json"]);
        serde_json::from_slice::<Value>(&command.assert().success().get_output().stdout).unwrap()
    };
    let made = make();
    let (unjudged, unscored) = (made["unjudged"].as_u64().unwrap(), made["unscored"].as_u64().unwrap());
    assert!(unjudged > 0 && unjudged == unscored, "{made}");
    // equal completions make one question
    let times = || {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        let questions =
            judge.seen().iter().map(|seen| seen.body["messages"][0]["content"].to_string()).collect::<Vec<_>>();
        questions.into_iter().for_each(|question| *times.entry(question).or_default() += 1);
        times
    };
    let asked = times();
    let twice = asked.values().filter(|times| **times == 2).count();
    assert!(asked.len() > 10 && twice > 0 && twice as u64 <= unjudged, "{asked:?}");
    assert!(asked.values().all(|times| *times <= 2), "each question once, nonsense twice: {asked:?}");
    for pair in rows(&dir.path().join("pairs/pairs.jsonl")) {
        let length = |side: &str| pair[side][0]["content"].as_str().unwrap().len();
        assert!(length("chosen") < length("rejected"), "{pair}");
    }
    // judgements are kept: the same command asks for what is missing alone
    assert_eq!(make(), made);
    let again = times();
    assert!(asked.iter().all(|(question, times)| again[question] == if *times == 2 { 4 } else { 1 }), "{again:?}");
}

/// A judge that takes no temperature but 1, and thinks for longer than it may.
#[test]
fn a_judge_that_refuses_or_is_cut_decides_nothing_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = basket(dir.path(), 2);
    let judge = Server::start(|_, body: &Value| {
        if body["temperature"] != 1.0 {
            let message = "'temperature' does not support 0.0 with this model";
            return ("400 Bad Request", json!({"error": {"message": message}}).to_string());
        }
        let finish = if body["max_tokens"] == 2000 { "stop" } else { "length" };
        ("200 OK", json!({"choices": [{"message": {"content": "perhaps [[2]]"}, "finish_reason": finish}]}).to_string())
    });
    let make = |more: &[&str]| {
        let mut command = smpo("pairs", dir.path(), &prompts);
        command.args(["--samples", "3", "--cap", "8", "--score", "judge", "--judge", &judge.url]);
        command.args(["--judge-model", "m", "--policy", "groups", "--judge-header", "x-team: evals"]).args(more);
        command.assert()
    };
    let refused = make(&[]).code(2);
    let said = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
    assert!(said.contains("the judge failed: it answered 400: 'temperature' does not support 0.0"), "{said}");
    let asked = judge.seen();
    assert!((1..=6).contains(&asked.len()), "a refused question is not asked again: {}", asked.len());
    assert!(asked.iter().all(|seen| seen.body["logprobs"].is_null() && seen.head.contains("x-team: evals")));
    // the server waits for it
    drop(asked);
    let cut = make(&["--judge-temperature", "1", "--judge-attempts", "1"]).code(2);
    let said = String::from_utf8(cut.get_output().stderr.clone()).unwrap();
    assert!(said.contains("questions without a usable reply; the same command asks again"), "{said}");
    make(&["--judge-temperature", "1", "--judge-cap", "2000", "--format", "json"]).stdout(contains("\"unjudged\": 0"));
    smpo("pairs", dir.path(), &prompts)
        .args(["--judge-temperature", "1"])
        .assert()
        .code(2)
        .stderr(contains("--judge-temperature has no effect without --judge"));
}

/// A judge that grades by length.
fn grading() -> Server {
    Server::start(|_, body: &Value| {
        let Some(question) = body["messages"][0]["content"].as_str() else {
            return ("404 Not Found", "{}".to_owned()); // not asked to judge, but for its version
        };
        let answer = question.split("[Answer]\n").nth(1).unwrap().split("\n[End of answer]").next().unwrap();
        let reply = format!("[[{}]]", 10 - answer.len().min(90) / 10);
        ("200 OK", json!({"choices": [{"message": {"content": reply}, "finish_reason": "stop"}]}).to_string())
    })
}

#[test]
fn several_judges_share_the_questions_and_one_that_fails_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = basket(dir.path(), 4);
    let broken = |_: usize, _: &Value| ("500 Internal Server Error", "{\"error\": \"out of memory\"}".to_owned());
    let make = |out: &str, judges: &[&str]| {
        let mut command = smpo("pairs", &dir.path().join(out), &prompts);
        command.args(["--samples", "5", "--cap", "16", "--temperature", "1.2", "--score", "judge"]);
        command.args(["--judge-model", "m"]).args(judges.iter().flat_map(|judge| ["--judge", judge]));
        command.assert()
    };
    let (alone, first, second) = (grading(), grading(), grading());
    make("alone", &[&alone.url]).success();
    // With commas between, and one by one.
    make("two", &[&format!("{},{}", first.url, second.url)]).success();
    let asked = |server: &Server| server.seen().iter().filter(|seen| seen.body["messages"].is_array()).count();
    let (a, b) = (asked(&first), asked(&second));
    assert!(a > 0 && b > 0 && a + b == asked(&alone), "{a} and {b} of {} questions", asked(&alone));
    let dead = Server::start(broken);
    let assert = make("dead", &[&first.url, &dead.url]).success();
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(said.contains(&format!("{}: set aside: ", dead.url)) && said.contains("out of memory"), "{said}");
    let pairs = |out: &str| fs::read_to_string(dir.path().join(out).join("pairs/pairs.jsonl")).unwrap();
    assert_eq!(pairs("alone"), pairs("two"));
    assert_eq!(pairs("alone"), pairs("dead"));
    let other = Server::start(broken);
    let assert = make("none", &[&dead.url, &other.url]).code(4);
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(said.contains(&format!("no judge is left; 0 of {} judgements are kept", asked(&alone))), "{said}");
    let said = make("mixed", &[&first.url, "a/directory"]).code(2);
    let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
    assert!(said.contains("--judge: expected one model, or several URLs"), "{said}");
}

#[test]
fn comparisons_come_in_both_orders() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = basket(dir.path(), 2);
    let judge = Server::start(|_, body: &Value| {
        let question = body["messages"][0]["content"].as_str().unwrap();
        let answer = |name: &str| {
            let after = question.split(&format!("[Answer {name}]\n")).nth(1).unwrap();
            after.split(&format!("\n[End of answer {name}]")).next().unwrap().len()
        };
        // prefers the first of equals
        let reply = if answer("A") <= answer("B") { "[[A]]" } else { "[[B]]" };
        ("200 OK", json!({"choices": [{"message": {"content": reply}, "finish_reason": "stop"}]}).to_string())
    });
    let mut command = smpo("pairs", dir.path(), &prompts);
    command.args(["--samples", "4", "--cap", "16", "--temperature", "1.2", "--score", "judge", "--judge", &judge.url]);
    command.args(["--judge-model", "m", "--judge-mode", "compare", "--policy", "groups"]);
    command.assert().success();
    for group in rows(&dir.path().join("pairs/groups.jsonl")) {
        let length = |index: usize| group["completions"][index][0]["content"].as_str().unwrap().len();
        let reward = |index: usize| group["rewards"][index].as_f64().unwrap();
        for (a, b) in (0..4).flat_map(|a| (0..4).map(move |b| (a, b))) {
            // a judge that prefers the first of equals makes them a tie
            assert_eq!(length(a) < length(b), reward(a) > reward(b), "{group}");
        }
    }
}

#[test]
fn an_answered_basket_keeps_its_fields_and_asks_on() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = dir.path().join("vi.jsonl");
    let basket = [
        json!({"id": 7, "prompt": [{"role": "user", "content": "Who is Nina?"}], "system_prompt": "Be brief.", "topic": "people"}),
        json!({"id": "b", "prompt": "What is 2 + 3?", "follow_up_prompt": "And 3 + 4?"}),
    ];
    fs::write(&prompts, basket.map(|row| row.to_string()).join("\n")).unwrap();
    smpo("generate", dir.path(), &prompts).args(["--cap", "16"]).assert().success().stdout(contains("2 conversations"));
    let rows = rows(&dir.path().join("generate/responses.jsonl"));
    assert_eq!((&rows[0]["id"], &rows[0]["topic"], &rows[0]["model"]), (&json!(7), &json!("people"), &json!("base")));
    assert_eq!(rows[0]["conversation"][0], json!({"role": "system", "content": "Be brief."}));
    assert_eq!(rows[0]["generated_message_indices"], json!([2]));
    assert_eq!(rows[1]["generated_message_indices"], json!([1, 3]));
    assert_eq!(rows[1]["conversation"][2], json!({"role": "user", "content": "And 3 + 4?"}));
    assert_eq!(rows[1]["finish_reason"].as_array().unwrap().len(), 2);
    assert!(rows[0].get("system_prompt").is_none() && rows[1].get("follow_up_prompt").is_none());
}

#[test]
fn mistakes_are_told_before_anything_is_sampled() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = dir.path().join("vi.jsonl");
    let refuse = |command: &str, rows: &str, more: &[&str], expected: &str| {
        fs::write(&prompts, rows).unwrap();
        smpo(command, dir.path(), &prompts).args(more).assert().code(2).stderr(contains(expected));
        assert!(!dir.path().join(command).join("samples/samples.jsonl").exists(), "{expected}");
    };
    let one = r#"{"id": "a", "prompt": "q"}"#;
    refuse("pairs", one, &["--samples", "1"], "--samples: expected at least 2");
    refuse("pairs", one, &["--score", "judge"], "--score judge needs --judge");
    refuse("pairs", one, &["--judge", "x"], "--judge has no effect");
    refuse("pairs", one, &["--score", "rule:loop_rat=1"], "did you mean \"loop_rate\"");
    refuse("pairs", one, &["--min-gap=-1"], "--min-gap: expected a number of at least 0");
    refuse("pairs", one, &["--max-pairs", "3"], "--max-pairs is for --policy all-pairs");
    refuse("pairs", one, &["--policy", "groups", "--rows", "ela"], "layout of pairs");
    refuse("generate", one, &["--samples", "3"], "gives one answer");
    refuse("generate", r#"{"id": "a", "prompt": "q", "follow_up_prompt": 3}"#, &[], "vi.jsonl:1: `follow_up_prompt`");
    refuse("generate", "{\"id\": \"a\", \"prompt\": \"q\"}\n{\"id\": \"a\", \"prompt\": \"r\"}", &[], "vi.jsonl:2");
    refuse(
        "generate",
        r#"{"id": "a", "prompt": "q", "response_format": {"type": "json_object"}}"#,
        &[],
        "only a server",
    );
    refuse("generate", "\n", &[], "vi.jsonl");
}
