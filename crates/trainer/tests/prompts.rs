//! Prompts: one step is PyTorch's (`golden/generate_prompts.py`); the loss falls; what is written is what a user of the text gets;
//! forbidden tokens, several prompts, resumed runs, refusals.

mod support;

use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::Value;
use smpo_data::{HoldOut, Row, TokenizedCompletion};
use smpo_fixtures::{demo, golden};
use smpo_losses::{LossConfig, Objective};
use smpo_model::{ModelDir, Placement, Storage};
use smpo_tokenizer::ChatTokenizer;
use smpo_trainer::config::{PromptConfig, PromptRole};
use smpo_trainer::prompt::{Codebook, FrozenModel, Optimized, Slotted};
use smpo_trainer::{EarlierRun, Finish, Pooling, TrainConfig, TrainConfigBuilder, train};
use support::{demo_run, loss, run, run_until, train_recording};

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn slotted(row: &Value, of_pairs: bool) -> Slotted {
    let side = |name: &str| Some(TokenizedCompletion::new(ids(&row[name]), |_| false));
    let rejected = if of_pairs { side("rejected") } else { None };
    Slotted::new(&ids(&row["before"]), &ids(&row["after"]), Row { chosen: side("chosen"), rejected, ..Row::default() })
}

/// A model of the golden files under a loss, in packs of so many tokens.
fn frozen(case: &Value, centre: &Value, max_tokens: usize) -> FrozenModel {
    let dir = ModelDir::open(golden("model", case["model"].as_str().unwrap()), None).unwrap();
    let decoder = dir.load_frozen(&Placement::default(), &Storage::default()).unwrap();
    let of_pairs = case["loss"] == "reward";
    let config: LossConfig = match of_pairs {
        true => loss(&format!("kind = \"reward\"\ncenter_rewards_coefficient = {centre}")),
        false => loss("kind = \"sft\""),
    };
    let pooling = of_pairs.then(|| Pooling { tail: Vec::new(), pad: decoder.config().pad_token() });
    FrozenModel::new(decoder, Objective::new(config).unwrap(), pooling, max_tokens).unwrap()
}

/// Largest difference, as a share of the largest value expected.
#[track_caller]
fn assert_close(got: &Tensor, expected: &Value) {
    let (got, expected): (Vec<f32>, _) = (got.flatten_all().unwrap().to_vec1().unwrap(), numbers(expected));
    let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
    assert!(largest > 1e-4 && got.len() == expected.len(), "{largest} {}", got.len());
    let apart = got.iter().zip(&expected).fold(0f32, |most, (got, expected)| most.max((got - expected).abs()));
    assert!(apart < 1e-4 * largest, "{apart} of {largest}");
}

#[test]
fn a_step_is_that_of_pytorch() {
    let expected: Value = serde_json::from_slice(&fs::read(golden("trainer", "prompts.json")).unwrap()).unwrap();
    let [prompts, length] = ["prompts", "length"].map(|name| expected[name].as_u64().unwrap() as usize);
    for case in expected["cases"].as_array().unwrap() {
        let rows: Vec<Slotted> =
            expected["rows"].as_array().unwrap().iter().map(|row| slotted(row, case["loss"] == "reward")).collect();
        let rows: Vec<&Slotted> = rows.iter().collect();
        // packed together and one by one
        for max_tokens in [4096, 1] {
            let model = frozen(case, &expected["centre"], max_tokens);
            let vocabulary = model.table().dim(0).unwrap();
            let mut mask = vec![0f32; vocabulary];
            ids(&expected["forbidden"]).into_iter().for_each(|id| mask[id as usize] = f32::NEG_INFINITY);
            let mask = Tensor::from_vec(mask, vocabulary, &Device::Cpu).unwrap();
            let noise = case["noise"].as_f64().unwrap();
            let codebook = Codebook::new(model.table(), (prompts, length), &[], noise, 0).unwrap();
            let vectors = Tensor::from_vec(numbers(&case["codebook"]), codebook.values.shape(), &Device::Cpu).unwrap();
            codebook.values.set(&vectors).unwrap();
            let gumbel = Tensor::from_vec(numbers(&case["gumbel"]), (prompts * length, vocabulary), &Device::Cpu);
            let temperature = expected["temperature"].as_f64().unwrap();
            let choice = codebook.choose(model.table(), &mask, temperature, Some(gumbel.unwrap())).unwrap();
            assert_eq!(choice.ids, ids(&case["ids"]));
            let mut embedded = Vec::new();
            for (prompt, expected) in choice.ids.chunks(length).zip(numbers(&case["losses"])) {
                let (evaluation, gradient) = model.gradient(&rows, prompt, 1).unwrap();
                assert!((evaluation.value - f64::from(expected)).abs() < 2e-5, "{} {expected}", evaluation.value);
                let whole: Vec<Row> = rows.iter().map(|row| row.with(prompt)).collect();
                assert!((model.measure(&whole, 1).unwrap().value - evaluation.value).abs() < 1e-6);
                embedded.push((gradient / prompts as f64).unwrap());
            }
            let gradient = choice.backward(model.table(), &Tensor::cat(&embedded, 0).unwrap()).unwrap();
            let weight = expected["dissimilarity"].as_f64().unwrap();
            let (similarity, of_similarity) = codebook.similarity(weight).unwrap();
            assert!((similarity - case["similarity"].as_f64().unwrap()).abs() < 1e-6);
            assert_close(&gradient.logits, &case["of_logits"]);
            assert_close(&(gradient.values + of_similarity).unwrap(), &case["of_codebook"]);
            assert_close(&gradient.noise, &Value::from(vec![case["of_noise"].clone()]));
        }
    }
}

/// A run that learns two prompts on some of the demo's pairs.
fn prompt_run(out: &Path) -> TrainConfigBuilder {
    demo_run(out, 32, loss("kind = \"sft\""))
        .prompt(PromptConfig { count: 2, length: 6, role: PromptRole::User, ..PromptConfig::default() })
        .test_size(HoldOut::Rows(8))
        .per_device_train_batch_size(8)
        .learning_rate(0.02)
        .lr_scheduler_type(smpo_trainer::Schedule::Constant)
        .max_steps(24)
        .eval_steps(4)
}

fn written(dir: &Path) -> Optimized {
    Optimized::read(&dir.join("prompts.json")).unwrap()
}

#[test]
fn the_loss_falls_and_the_best_prompts_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let forbidden = vec![300, 301, 302];
    let prompt = |config: TrainConfig, forbidden_token_ids: Vec<u32>| TrainConfig {
        prompt: config.prompt.map(|prompt| PromptConfig { forbidden_token_ids, ..prompt }),
        ..config
    };
    let config = prompt(prompt_run(&dir.path().join("run")).build().unwrap(), forbidden.clone());
    let records = run(&config);
    assert_eq!(records.len(), 25);
    let best: Vec<f64> = records.iter().filter_map(|record| record.metric("eval_best_loss")).collect();
    assert!(best.len() == 7 && best.windows(2).all(|two| two[1] <= two[0]) && best[6] < best[0] - 0.01, "{best:?}");
    let temperature = |step: usize| records[step].metric("prompt/temperature").unwrap();
    assert!((temperature(1) - 1.0).abs() < 1e-12 && (temperature(24) - 0.005).abs() < 1e-12);
    let found = written(&dir.path().join("run"));
    assert_eq!((found.prompts.len(), found.rows, found.measured_rows, found.held_out), (2, 32, 8, true));
    assert_eq!(found.prompts[0].loss, best[6]);
    assert!(found.prompts[0].loss <= found.prompts[1].loss && found.prompts[0].step > 0, "{found:?}");
    let tokenizer = ChatTokenizer::from_model_dir(demo("base")).unwrap();
    for one in &found.prompts {
        assert_eq!((one.ids.len(), tokenizer.decode(&one.ids).unwrap()), (6, one.text.clone()));
        assert!(tokenizer.special_token_in(&one.text).is_none() && !one.text.contains('\u{fffd}'), "{one:?}");
        assert!(one.ids.iter().all(|id| !forbidden.contains(id)), "{one:?}");
    }
    // the tokens of the first run are forbidden in the second
    let of_first: Vec<u32> = found.prompts.iter().flat_map(|one| one.ids.clone()).collect();
    let config = prompt(prompt_run(&dir.path().join("other")).max_steps(8).build().unwrap(), of_first.clone());
    run(&config);
    let found = written(&dir.path().join("other"));
    assert!(found.prompts.iter().flat_map(|one| &one.ids).all(|id| !of_first.contains(id)), "{found:?}");
}

#[test]
fn a_resumed_run_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| prompt_run(&dir.path().join(name)).max_steps(8).save_steps(3).build().unwrap();
    let prompts = |name: &str| fs::read(dir.path().join(name).join("prompts.json")).unwrap();
    run(&of("whole"));
    for step in [1, 5] {
        let config = of("resumed");
        run_until(&config, step);
        // as after a kill: the line of a step that no state holds
        let metrics = dir.path().join("resumed/metrics.jsonl");
        let lines = fs::read_to_string(&metrics).unwrap();
        fs::write(&metrics, format!("{lines}{{\"step\": {}, \"loss\"", step + 1)).unwrap();
    }
    run(&of("resumed"));
    assert_eq!(prompts("whole"), prompts("resumed"));
    let steps = |name: &str| -> Vec<(u64, Value)> {
        let text = fs::read_to_string(dir.path().join(name).join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| (line["step"].as_u64().unwrap(), line["loss"].clone())).collect()
    };
    assert_eq!(steps("whole"), steps("resumed"));
    assert!(!dir.path().join("resumed/prompts.safetensors").exists());
    // finished: nothing is done again, other rows or settings are another run
    assert!(matches!(train_recording(&of("resumed")).0.unwrap(), Finish::Done { already: true, .. }));
    let longer = prompt_run(&dir.path().join("resumed")).max_steps(9).save_steps(3).build().unwrap();
    let error = train_recording(&longer).0.unwrap_err().to_string();
    assert!(error.contains("holds a run with another configuration (max_steps differs)"), "{error}");
}

#[test]
fn other_rows_and_damaged_states_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rows = fs::read_to_string(demo("preferences.jsonl")).unwrap();
    let file = dir.path().join("pairs.jsonl");
    let write = |count: usize| fs::write(&file, rows.lines().take(count).collect::<Vec<_>>().join("\n")).unwrap();
    write(20);
    let out = dir.path().join("run");
    let config = TrainConfig { dataset: vec![file.clone()], dataset_sample: None, ..prompt_run(&out).build().unwrap() };
    run_until(&config, 2);
    let error = || train_recording(&config).0.unwrap_err().to_string();
    write(21);
    assert!(error().contains("holds a run with another configuration (rows or model differs)"), "{}", error());
    write(20);
    fs::write(out.join("prompts.safetensors"), b"garbage").unwrap();
    assert!(error().contains("prompts.safetensors: the checkpoint is damaged"), "{}", error());
    let stop = std::sync::atomic::AtomicBool::new(false);
    train(&config, EarlierRun::Restart, &stop, &mut |_| {}).unwrap();
    assert_eq!(written(&out).prompts.len(), 2);
}

#[test]
fn settings_without_a_meaning_are_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let refused = |builder: TrainConfigBuilder| builder.build().unwrap_err().to_string();
    let with = |prompt: PromptConfig| refused(prompt_run(&out).prompt(prompt));
    let plain = PromptConfig::default;
    assert!(with(PromptConfig { count: 0, ..plain() }).contains("`prompt.count` must be at least 1, got 0"));
    assert!(with(PromptConfig { noise: 0.5, ..plain() }).contains("`prompt.noise` must be from -0.2 to 0.2, got 0.5"));
    assert!(with(PromptConfig { temperature: 0.0, ..plain() }).contains("`prompt.temperature` must be a positive"));
    assert!(with(PromptConfig { count: 1 << 20, length: 1 << 20, ..plain() }).contains("at most 65536 tokens"));
    assert!(refused(prompt_run(&out).use_peft(true)).contains("`use_peft` has no effect where prompts are learned"));
    let dpo = demo_run(&out, 8, loss("kind = \"dpo\"")).prompt(plain()).learning_rate(1e-3);
    assert!(refused(dpo).contains("`prompt` is learned under a loss of kind sft or reward, got dpo"));
    // what is known with the model alone
    let fails = |builder: TrainConfigBuilder| train_recording(&builder.build().unwrap()).0.unwrap_err().to_string();
    let beyond = fails(prompt_run(&out).prompt(PromptConfig { forbidden_token_ids: vec![1 << 30], ..plain() }));
    assert!(beyond.contains("`prompt.forbidden_token_ids`: expected ids below"), "{beyond}");
    let special = fails(prompt_run(&out).prompt(PromptConfig { init: Some("a<|im_end|>".into()), ..plain() }));
    assert!(special.contains("`prompt.init`: expected tokens that a prompt may hold"), "{special}");
    let short = fails(prompt_run(&out).max_length(8));
    assert!(short.contains("24 rows") || short.contains("rows are longer than max_length = 8"), "{short}");
    let reward = demo_run(&out, 8, loss("kind = \"reward\"")).prompt(plain()).learning_rate(1e-3);
    assert!(fails(reward).contains("learned for a reward model, whose head is there"));
    assert!(!out.join("prompts.json").exists());
}
