//! Values of a configuration as transformers, PEFT and YAML write them, in TOML, in YAML and by `--set`.

use std::path::Path;

use smpo_trainer::config::{Interval, Reporter};
use smpo_trainer::{Schedule, TrainConfig};

const KEYS: [(&str, &str); 5] = [
    ("model_name_or_path", "\"base\""),
    ("output_dir", "\"out\""),
    ("dataset", "\"pairs.jsonl\""),
    ("learning_rate", "1e-4"),
    ("seed", "1"),
];

/// A file of [`KEYS`] and some more, as TOML, as YAML and by `--set`.
fn read(more: &[(&str, &str)]) -> [Result<TrainConfig, String>; 3] {
    let keys = |more: &[(&str, &str)], assign: &str| -> String {
        let given = |key: &str| more.iter().any(|(other, _)| *other == key);
        let kept = KEYS.iter().filter(|(key, _)| !given(key));
        kept.chain(more).map(|(key, value)| format!("{key}{assign}{value}\n")).collect()
    };
    let toml = |more: &[(&str, &str)], sets: &[String]| {
        let text = keys(more, " = ") + "[loss]\nkind = \"dpo\"\n";
        TrainConfig::parse(&text, Path::new("run.toml"), sets).map_err(|error| error.to_string())
    };
    let sets: Vec<String> = more.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let yaml = keys(more, ": ") + "kind: dpo\n";
    [toml(more, &[]), published(&yaml), toml(&[], &sets)]
}

/// A YAML file with the flat keys of published ones.
fn published(text: &str) -> Result<TrainConfig, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.yaml");
    std::fs::write(&path, text).unwrap();
    let read = TrainConfig::read(&path, &[]).map(|read| read.config);
    read.map_err(|error| error.to_string().replace(&path.display().to_string(), "run.yaml"))
}

fn understood(more: &[(&str, &str)], check: impl Fn(TrainConfig) -> bool) {
    for config in read(more) {
        assert!(check(config.unwrap_or_else(|error| panic!("{more:?}: {error}"))), "{more:?}");
    }
}

#[test]
fn values_that_transformers_writes_are_understood() {
    understood(&[("learning_rate", "\"5e-7\"")], |config| config.learning_rate == 5e-7);
    understood(&[("seed", "\"42\""), ("bf16", "\"true\"")], |config| config.seed == 42 && config.bf16);
    understood(&[("max_prompt_length", "64.0")], |config| config.max_prompt_length == Some(64));
    understood(&[("max_steps", "-1")], |config| config.max_steps.is_none());
    let (ratio, steps) = (("warmup_ratio", "0.1"), ("warmup_steps", "20"));
    understood(&[("warmup_steps", "0"), ratio], |config| {
        config.warmup_steps.is_none() && config.warmup_ratio.is_some()
    });
    understood(&[steps, ("warmup_ratio", "0.0")], |config| {
        config.warmup_steps == Some(20) && config.warmup_ratio.is_none()
    });
    understood(&[("warmup_steps", "0.1")], |config| config.warmup_ratio == Some(0.1));
    understood(&[("save_strategy", "\"epoch\"")], |config| config.save_steps == Some(Interval::Epoch));
    understood(&[("save_steps", "0.5"), ("save_strategy", "\"steps\"")], |config| {
        config.save_steps == Some(Interval::Share(0.5))
    });
    understood(&[("save_strategy", "\"no\""), ("save_steps", "2")], |config| config.save_steps.is_none());
    understood(&[("eval_strategy", "\"no\""), ("test_size", "4")], |config| !config.evaluates());
    understood(&[("evaluation_strategy", "\"epoch\""), ("eval_steps", "4"), ("test_size", "4")], |config| {
        config.eval_steps == Some(Interval::Epoch) && config.evaluates()
    });
    understood(&[("eval_steps", "0.25")], |config| config.eval_steps == Some(Interval::Share(0.25)));
    let names = ["q_proj", "v_proj"];
    understood(&[("use_peft", "true"), ("lora_target_modules", "\"q_proj, v_proj\"")], |config| {
        config.lora_target_modules == names
    });
    understood(&[("use_peft", "true"), ("lora_target_modules", "\"all\"")], |config| {
        config.lora_target_modules == ["all-linear"]
    });
    understood(&[("report_to", "\"none\"")], |config| config.report_to.is_empty());
    understood(&[("report_to", "\"tensorboard,openmetrics\"")], |config| {
        config.report_to == [Reporter::Tensorboard, Reporter::Openmetrics]
    });
    understood(&[("lr_scheduler_type", "\"cosine_with_min_lr\"")], |config| {
        config.lr_scheduler_type == Schedule::Cosine
    });
}

#[test]
fn scheduler_arguments_are_the_floor_of_the_learning_rate() {
    let file = |arguments: &str| {
        format!(
            "model_name_or_path: m\noutput_dir: o\ndataset: d\nlearning_rate: 1e-4\nkind: dpo\n\
             lr_scheduler_kwargs: {arguments}\n"
        )
    };
    for arguments in ["{min_lr_rate: 0.1}", "{min_lr: 1.0e-5}"] {
        assert!((published(&file(arguments)).unwrap().min_lr_ratio - 0.1).abs() < 1e-12, "{arguments}");
    }
    let error = published(&file("{num_cycles: 2}")).unwrap_err();
    assert!(error.starts_with("run.yaml:6: `lr_scheduler_kwargs`: expected `min_lr_rate`"), "{error}");
}

/// Each error names the key, the line or the override, what was expected and what was given.
#[test]
fn other_values_are_refused_alike_in_every_form() {
    for (key, value, message) in [
        ("max_steps", "true", "`max_steps`: expected a whole number of 0 or more, got boolean `true`"),
        ("learning_rate", "\"fast\"", "`learning_rate`: expected a number, got string \"fast\""),
        ("bf16", "3", "`bf16`: expected a boolean, got integer `3`"),
        ("max_length", "12.5", "`max_length`: expected a whole number of 0 or more, got floating point `12.5`"),
        (
            "eval_steps",
            "1.5",
            "`eval_steps`: expected a number of steps, a share of all such as 0.25, or \"epoch\", got floating point `1.5`",
        ),
        ("save_steps", "0", "`save_steps` must be at least 1, got 0"),
        (
            "save_total_limit",
            "-1",
            "`save_total_limit` must be at least 1, got -1; a large number keeps all checkpoints",
        ),
        (
            "save_strategy",
            "\"sometimes\"",
            "`save_strategy`: expected \"steps\", \"epoch\" or \"no\", got \"sometimes\"",
        ),
    ] {
        let lines = KEYS.iter().filter(|(other, _)| *other != key).count() + 1;
        let [toml, yaml, set] = read(&[(key, value)]).map(|read| read.unwrap_err());
        assert_eq!(toml, format!("run.toml:{lines}: {message}"));
        assert_eq!(yaml, format!("run.yaml:{lines}: {message}"));
        assert_eq!(set, format!("run.toml: --set {key}={value}: {message}"));
    }
}

#[test]
fn yaml_reads_an_unquoted_no_as_false() {
    let text = "model_name_or_path: m\noutput_dir: o\ndataset: d\nlearning_rate: 1e-4\nkind: dpo\nbeta: \"0.2\"\n\
                test_size: 4\neval_strategy: no\nsave_strategy: no\nsave_steps: 3\nmax_grad_norm: null\n";
    let config = published(text).unwrap();
    assert!(!config.evaluates() && config.save_steps.is_none());
    assert_eq!(config.max_grad_norm, 1.0);
}

/// In a flat file as in any other an override takes the place of every spelling of its setting.
#[test]
fn an_override_of_a_flat_file_replaces_other_spellings() {
    let flat = |more: &str, sets: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.yaml");
        let keys: String = KEYS.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        std::fs::write(&path, format!("{keys}{more}")).unwrap();
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        TrainConfig::read(&path, &sets).map(|read| read.config).map_err(|error| error.to_string())
    };
    let intervals = "kind: dpo\nsave_strategy: epoch\neval_strategy: \"no\"\ntest_size: 0.1\n";
    let config = flat(intervals, &["save_steps=1", "eval_steps=2"]).unwrap();
    assert_eq!((config.save_steps, config.eval_steps), (Some(Interval::Steps(1)), Some(Interval::Steps(2))));
    let config = flat("kind: dpo\nwarmup_ratio: 0.1\n", &["warmup_steps=1"]).unwrap();
    assert_eq!((config.warmup_steps, config.warmup_ratio), (Some(1), None));
    let config = flat("kind: smpo\nmargin_min: 0.5\nbeta: 2.0\n", &["target_margin=0.7"]).unwrap();
    assert!(format!("{:?}", config.loss).contains("target_margin: 0.7"), "{:?}", config.loss);
    // two overrides of one setting contradict each other
    assert!(flat("kind: dpo\n", &["warmup_steps=1", "warmup_ratio=0.1"]).is_err());
    let error = flat("kind: dpo\nchat_template_kwargs: {a: {b: null}}\n", &[]).unwrap_err();
    assert!(error.contains("`chat_template_kwargs.a.b`: expected a value, got null"), "{error}");
}

/// Less divergence is better, and so is less of what is named by it.
#[test]
fn the_better_end_of_a_metric_follows_from_its_name() {
    for (metric, greatest) in [
        ("loss", false),
        ("distill/divergence", false),
        ("kl", false),
        ("rewards/rejected", false),
        ("probe/loop_rate", false),
        ("rewards/accuracies", true),
        ("rewards/margins", true),
        ("probe/eos_rate", true),
    ] {
        understood(&[("metric_for_best_model", &format!("\"{metric}\""))], |config| {
            config.best_is_greatest() == greatest
        });
    }
}

/// Nothing is held out of a share or a number of 0, so nothing can be compared by it.
#[test]
fn a_test_size_of_nothing_holds_nothing_out() {
    for size in ["0", "0.0"] {
        understood(&[("test_size", size)], |config| !config.evaluates());
        let refused = read(&[("test_size", size), ("load_best_model_at_end", "true"), ("eval_steps", "1")]);
        for error in refused.map(Result::unwrap_err) {
            assert!(error.contains("which needs `test_size` or `eval_dataset`"), "{error}");
        }
    }
}

#[test]
fn a_batch_beyond_all_memory_is_refused() {
    for (rows, steps) in [("4294967296", "4294967296"), ("9223372036854775807", "3")] {
        for error in read(&[("per_device_train_batch_size", rows), ("gradient_accumulation_steps", steps)])
            .map(Result::unwrap_err)
        {
            assert!(error.contains("must be at most 4294967296 rows, got"), "{error}");
        }
    }
}

#[test]
fn a_byte_order_mark_is_nothing_and_a_second_document_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        TrainConfig::read(&path, &[]).map(|read| read.config.learning_rate).map_err(|error| error.to_string())
    };
    let json = "{\"model_name_or_path\": \"m\", \"output_dir\": \"o\", \"dataset\": \"d.jsonl\", \"kind\": \"dpo\", \"learning_rate\": 1e-6}";
    assert_eq!(read("run.json", &format!("\u{feff}{json}")), Ok(1e-6));
    let error = read("run.yaml", "kind: dpo\n---\nlearning_rate: 1e-6\n").unwrap_err();
    assert!(error.contains("expected one document, got several"), "{error}");
}
