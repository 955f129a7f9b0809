//! Resumed runs: other data, other bases, other settings, and first starts that fail.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use smpo_data::HoldOut;
use smpo_fixtures::{Gguf, demo};
use smpo_trainer::config::{InitLoraWeights, Optim};
use smpo_trainer::{EarlierRun, Event, Finish, TrainConfig, TrainConfigBuilder, TrainError, train};
use support::loss;
use tempfile::TempDir;

/// Some of the demo's pairs, by their lines.
fn pairs(file: &Path, lines: std::ops::Range<usize>) {
    let text = std::fs::read_to_string(demo("preferences.jsonl")).unwrap();
    let chosen: String = text.lines().skip(lines.start).take(lines.len()).map(|line| format!("{line}\n")).collect();
    std::fs::write(file, chosen).unwrap();
}

/// A directory with `pairs.jsonl`, 16 pairs.
struct Case {
    dir: TempDir,
}

impl Case {
    fn new() -> Self {
        let case = Case { dir: TempDir::new().unwrap() };
        pairs(&case.data(), 0..16);
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("pairs.jsonl")
    }

    /// Two epochs of four steps.
    fn config(&self) -> TrainConfigBuilder {
        TrainConfig::builder(loss("kind = \"dpo\""))
            .model(demo("base"))
            .output_dir(self.path("run"))
            .train_files([self.data()])
            .max_length(128)
            .per_device_train_batch_size(4)
            .num_train_epochs(2.0)
            .learning_rate(1e-3)
    }
}

/// Everything that a run said.
#[derive(Default)]
struct Said {
    notes: Vec<String>,
    rates: Vec<f64>,
    steps: Vec<u64>,
    held_out: usize,
    train: usize,
}

/// Trains; stops after `stop_after` steps.
fn go(config: &TrainConfig, earlier: EarlierRun, stop_after: u64) -> (Result<Finish, TrainError>, Said) {
    let (stop, mut said) = (AtomicBool::new(false), Said::default());
    let finish = train(config, earlier, &stop, &mut |event| match event {
        Event::Note(note) => said.notes.push(note.to_owned()),
        Event::Data(rows) => (said.train, said.held_out) = (rows.train.len(), rows.held_out.len()),
        Event::Step(record) => {
            said.steps.push(record.step);
            said.rates.extend(record.update.map(|update| update.lr));
            stop.store(record.step >= stop_after, Ordering::SeqCst);
        }
        _ => {}
    });
    (finish, said)
}

fn stopped_at(config: &TrainConfig, step: u64) {
    assert_eq!(go(config, EarlierRun::Resume, step).0.unwrap(), Finish::Stopped { step });
}

fn refused(config: &TrainConfig) -> String {
    let (finish, said) = go(config, EarlierRun::Resume, u64::MAX);
    assert!(said.steps.is_empty(), "{:?}", said.steps);
    finish.unwrap_err().to_string()
}

fn done(config: &TrainConfig) -> Said {
    let (finish, said) = go(config, EarlierRun::Resume, u64::MAX);
    assert!(matches!(finish.unwrap(), Finish::Done { .. }));
    said
}

fn weights(config: &TrainConfig) -> Vec<u8> {
    std::fs::read(config.output_dir.join("model/model.safetensors")).unwrap()
}

#[test]
fn other_rows_are_refused_with_the_file_and_its_counts() {
    for (lines, words) in [
        (16..32, "has 16 rows as before, but others"),
        (0..12, "had 16 rows and has 12 rows"),
        (0..24, "had 16 rows and has 24 rows"),
    ] {
        let case = Case::new();
        let config = case.config().build().unwrap();
        stopped_at(&config, 3);
        pairs(&case.data(), lines);
        let error = refused(&config);
        assert!(error.contains("pairs.jsonl") && error.contains(words) && error.contains("--data-changed"), "{error}");
        pairs(&case.data(), 0..16);
        assert_eq!(done(&config).steps, [4, 5, 6, 7, 8]);
    }
}

#[test]
fn the_same_rows_in_another_place_are_the_same() {
    let case = Case::new();
    stopped_at(&case.config().build().unwrap(), 3);
    std::fs::rename(case.data(), case.path("moved.jsonl")).unwrap();
    let said = done(&case.config().train_files([case.path("moved.jsonl")]).build().unwrap());
    assert!(
        said.notes.iter().any(|note| note.contains("`dataset`") && note.contains("moved.jsonl")),
        "{:?}",
        said.notes
    );
}

#[test]
fn new_rows_begin_at_their_beginning_and_steps_go_on() {
    let case = Case::new();
    let config = case.config().build().unwrap();
    stopped_at(&config, 3);
    pairs(&case.data(), 16..36);
    let (finish, said) = go(&config, EarlierRun::ResumeOnNewData, 6);
    assert_eq!(finish.unwrap(), Finish::Stopped { step: 6 });
    assert!(said.notes.iter().any(|note| note.contains("new data from step 4 on")), "{:?}", said.notes);
    // 3 steps, and two epochs of 5: the rate is that of step 4 of 13.
    let rate = |step: u64| config.learning_rate(13).at(step - 1);
    assert_eq!(said.rates, [4, 5, 6].map(rate));
    // From there on the new rows are the run's: nothing has to be said again, and the end is the same to the last byte.
    let rest = done(&config);
    assert_eq!(rest.steps, (7..=13).collect::<Vec<_>>());
    let resumed = weights(&config);
    let metrics = std::fs::read_to_string(config.output_dir.join("metrics.jsonl")).unwrap();
    assert!(metrics.lines().last().unwrap().contains("\"epoch\":2.0"), "{metrics}");

    let whole = case.config().output_dir(case.path("whole")).build().unwrap();
    pairs(&case.data(), 0..16);
    stopped_at(&whole, 3);
    pairs(&case.data(), 16..36);
    assert!(matches!(go(&whole, EarlierRun::ResumeOnNewData, u64::MAX).0.unwrap(), Finish::Done { .. }));
    assert!(resumed == weights(&whole), "the weights differ");
    // Finished on other data than the file has now.
    pairs(&case.data(), 0..16);
    assert!(refused(&whole).contains("finished, on other data"));
}

#[test]
fn new_rows_are_checked_and_need_steps() {
    let case = Case::new();
    let config = case.config().max_steps(3).build().unwrap();
    stopped_at(&config, 2);
    let same = "{\"prompt\": \"Who barks?\", \"chosen\": \"A dog.\", \"rejected\": \"A dog.\"}\n";
    std::fs::write(case.data(), same).unwrap();
    let error = go(&config, EarlierRun::ResumeOnNewData, u64::MAX).0.unwrap_err();
    assert!(matches!(error, TrainError::DataCheck { .. }), "{error}");
    pairs(&case.data(), 20..30);
    let short = TrainConfig { max_steps: Some(2), ..config };
    let error = go(&short, EarlierRun::ResumeOnNewData, u64::MAX).0.unwrap_err().to_string();
    assert!(error.contains("raise max_steps"), "{error}");
}

/// Rows that were trained on are not held out when the file grows.
#[test]
fn held_out_rows_are_none_that_were_trained_on() {
    let case = Case::new();
    let config = case.config().test_size(HoldOut::Share(0.25)).load_best_model_at_end(true).build().unwrap();
    stopped_at(&config, 3);
    pairs(&case.data(), 0..28);
    assert!(refused(&config).contains("had 12 rows and 4 held out and has 21 rows and 7 held out"));
    let (finish, said) = go(&config, EarlierRun::ResumeOnNewData, u64::MAX);
    assert!(matches!(finish.unwrap(), Finish::Done { .. }));
    let moved = said.notes.iter().find(|note| note.contains("were trained on before")).expect("no note");
    assert!(!moved.starts_with('0'), "{moved}");
}

#[test]
fn another_base_is_refused_by_its_name() {
    for adapters in [false, true] {
        let case = Case::new();
        let base = case.path("base");
        std::fs::create_dir(&base).unwrap();
        for entry in std::fs::read_dir(demo("base")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), base.join(entry.file_name())).unwrap();
        }
        let config = case.config().model(&base).use_peft(adapters).build().unwrap();
        stopped_at(&config, 3);
        let file = base.join("model.safetensors");
        let whole = std::fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        // The exponents of float16 or bfloat16 values: every value changes its sign.
        bytes[header..].iter_mut().skip(1).step_by(2).for_each(|byte| *byte ^= 0x80);
        std::fs::write(&file, &bytes).unwrap();
        let error = refused(&config);
        assert!(error.contains("base: the weights of the base model are not those of the 3 steps"), "{error}");
        std::fs::write(&file, &whole).unwrap();
        assert_eq!(done(&config).steps.len(), 5);
    }
}

#[test]
fn settings_that_cannot_change_the_result_may_change() {
    let case = Case::new();
    let whole = case.config().output_dir(case.path("whole")).build().unwrap();
    done(&whole);
    let config = case.config().build().unwrap();
    stopped_at(&config, 3);
    let free = case.config().save_steps(1).save_total_limit(9).memory_check(smpo_trainer::MemoryCheck::Off);
    let free = free.report_to([smpo_trainer::config::Reporter::Tensorboard]).eval_steps(5).build().unwrap();
    let said = done(&free);
    let note = said.notes.iter().find(|note| note.starts_with("other settings")).unwrap();
    assert!(note.contains("`save_steps` 1 (was absent)") && note.contains("`report_to`"), "{note}");
    assert!(weights(&whole) == weights(&free), "the weights differ");
    // The settings are the run's now.
    let written = std::fs::read_to_string(free.output_dir.join("config.toml")).unwrap();
    assert!(written.contains("save_steps = 1"), "{written}");
}

#[test]
fn a_run_may_get_more_steps_and_no_fewer() {
    let case = Case::new();
    stopped_at(&case.config().build().unwrap(), 3);
    for other in [
        case.config().num_train_epochs(1.0),
        case.config().learning_rate(1e-4),
        case.config().seed(1),
        case.config().max_tokens_per_pack(512),
    ] {
        assert!(refused(&other.build().unwrap()).contains("another configuration"));
    }
    let longer = case.config().num_train_epochs(3.0).build().unwrap();
    let said = done(&longer);
    assert_eq!(said.steps, (4..=12).collect::<Vec<_>>());
    assert_eq!(said.rates[0], longer.learning_rate(12).at(3));
    assert!(said.notes.iter().any(|note| note.contains("`num_train_epochs` 3.0 (was 2.0)")), "{:?}", said.notes);
    // It is finished: more would need its last step.
    assert!(refused(&case.config().num_train_epochs(4.0).build().unwrap()).contains("num_train_epochs"));
}

#[test]
fn checkpoints_of_earlier_versions_are_taken_at_their_word() {
    let case = Case::new();
    let config = case.config().build().unwrap();
    stopped_at(&config, 3);
    let path = config.output_dir.join("checkpoints/step-3/state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    state.as_object_mut().unwrap().remove("origin").unwrap();
    std::fs::write(&path, state.to_string()).unwrap();
    std::fs::remove_file(config.output_dir.join("origin.json")).unwrap();
    let said = done(&config);
    assert!(said.notes.iter().any(|note| note.contains("of an earlier version")), "{:?}", said.notes);
}

/// The same command with the mended key works.
#[test]
fn a_first_start_that_fails_leaves_the_directory_free() {
    let case = Case::new();
    let broken = "{\"prompt\": \"Who barks?\", \"chosen\": \"A dog.\", \"rejected\": \"A dog.\"}\n";
    std::fs::write(case.path("bad.jsonl"), broken).unwrap();
    std::fs::write(case.path("one.jinja"), "{{ messages[0].content }}").unwrap();
    let metric = |builder: TrainConfigBuilder, name: &str| {
        builder.metric_for_best_model(name).load_best_model_at_end(true).test_size(HoldOut::Rows(2))
    };
    let starts: [(TrainConfigBuilder, TrainConfigBuilder); 9] = [
        (case.config().train_files([case.path("nothing.jsonl")]), case.config()),
        (case.config().train_files([case.path("bad.jsonl")]), case.config()),
        (case.config().eval_files([case.path("nothing.jsonl")]), case.config().eval_files([case.data()])),
        (case.config().use_peft(true).lora_target_modules(["q_prj"]), case.config().use_peft(true)),
        (
            case.config().unfreeze_layers_patterns(["nothing"]),
            case.config().unfreeze_layers_patterns(["*.mlp.up_proj"]),
        ),
        (case.config().eos_token("<|nothing|>"), case.config().eos_token("<|im_end|>")),
        (case.config().dataset_sample(99), case.config().dataset_sample(8)),
        (case.config().test_size(HoldOut::Rows(99)), case.config().test_size(HoldOut::Rows(2))),
        (metric(case.config(), "nothing"), metric(case.config(), "loss")),
    ];
    for (number, (first, mended)) in starts.into_iter().enumerate() {
        let out = case.path(&format!("run-{number}"));
        let config = |builder: TrainConfigBuilder| builder.output_dir(&out).max_steps(1).build().unwrap();
        let (failed, _) = go(&config(first), EarlierRun::Resume, u64::MAX);
        let failed = failed.map(|_| number).unwrap_err();
        let (finish, _) = go(&config(mended), EarlierRun::Resume, u64::MAX);
        let finish = finish.unwrap_or_else(|error| panic!("after `{failed}`: {error}"));
        assert!(matches!(finish, Finish::Done { already: false, .. }), "{finish:?}");
    }
}

/// The bytes of a run's result: of its model or its adapter.
fn result(config: &TrainConfig) -> Vec<u8> {
    let file = if config.use_peft { "adapter_model" } else { "model" };
    std::fs::read(config.output_dir.join("model").join(format!("{file}.safetensors"))).unwrap()
}

/// The results of two runs, one of them stopped and resumed.
fn with_and_without_a_stop(case: &Case, config: impl Fn(TrainConfigBuilder) -> TrainConfigBuilder) -> [Vec<u8>; 2] {
    [None, Some(3)].map(|stop| {
        let run = case.path(&format!("run-{}", stop.unwrap_or_default()));
        let _ = std::fs::remove_dir_all(&run);
        let config = config(case.config().output_dir(run)).build().unwrap();
        if let Some(step) = stop {
            stopped_at(&config, step);
        }
        done(&config);
        result(&config)
    })
}

#[test]
fn checkpoints_of_interruptions_go_once_they_are_not_needed() {
    let case = Case::new();
    for every in [Some(2), Some(100), None] {
        let left = |stops: &[u64]| {
            let run = case.path("run");
            let _ = std::fs::remove_dir_all(&run);
            let config = case.config().save_total_limit(2);
            let config = every.map_or(config.clone(), |every| config.save_steps(every)).build().unwrap();
            stops.iter().for_each(|step| stopped_at(&config, *step));
            done(&config);
            let entries = std::fs::read_dir(run.join("checkpoints")).into_iter().flatten();
            entries.map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>()
        };
        let uninterrupted = left(&[]);
        for stops in [&[3][..], &[1, 3, 5], &[4, 7]] {
            assert_eq!(left(stops), uninterrupted, "every {every:?} steps, stopped at {stops:?}");
        }
    }
}

#[test]
fn a_run_that_is_interrupted_before_its_first_step_has_no_checkpoint() {
    let case = Case::new();
    let config = case.config().build().unwrap();
    let stop = AtomicBool::new(false);
    let finish = train(&config, EarlierRun::Resume, &stop, &mut |event| {
        stop.fetch_or(matches!(event, Event::Data(_)), Ordering::SeqCst);
    });
    assert_eq!(finish.unwrap(), Finish::Stopped { step: 0 });
    assert!(!config.output_dir.join("checkpoints").exists());
    assert_eq!(done(&config).steps.first(), Some(&1));
}

#[test]
fn moments_in_few_bits_resume_bit_for_bit() {
    let case = Case::new();
    let mut results = Vec::new();
    for optim in [Optim::AdamW8bit, Optim::AdamWBf16] {
        let [whole, resumed] = with_and_without_a_stop(&case, |config| config.optim(optim));
        assert!(whole == resumed, "{optim:?}");
        results.push(whole);
    }
    assert!(results[0] != results[1]);
}

#[test]
fn adapters_on_the_blocks_of_a_gguf_file_are_those_on_its_values() {
    let case = Case::new();
    let base = case.path("base.gguf");
    let file = Gguf::of_model(&demo("base"), "qwen2").quantised().with_tokenizer(&demo("base"));
    std::fs::write(&base, file.bytes()).unwrap();
    for init in [None, Some(InitLoraWeights::Pissa)] {
        let adapters = |config: TrainConfigBuilder| {
            let config = config.model(&base).use_peft(true).lora_r(4).gradient_checkpointing(true);
            match init {
                Some(init) => config.init_lora_weights(init),
                None => config,
            }
        };
        let [packed, resumed] = with_and_without_a_stop(&case, adapters);
        let [dequantised, _] = with_and_without_a_stop(&case, |config| adapters(config).dequantize(true));
        assert!(packed == resumed && packed == dequantised, "{init:?}");
    }
}
