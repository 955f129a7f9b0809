//! Other trainers' files run as they are. The texts here were written for this project; they have the keys of the
//! trainers' own. `SMPO_PUBLISHED=DIR cargo test --workspace --test imports -- --ignored` reads every file in `DIR`, such as
//! `training_configs/preference` of effective_llm_alignment's checkout.

use std::path::{Path, PathBuf};

use smpo_losses::Loss;
use smpo_trainer::config::{AdapterStart, Interval, Reporter};
use smpo_trainer::{ReadConfig, Schedule, TrainConfig};

/// Settings of published files that are refused: nothing here does what they ask for.
const REFUSED: [&str; 2] = ["smooth_ipo", "files are not run here"];

const SMPO: &str = r#"model_name_or_path: "base-model"
dataset: "pairs.jsonl"
per_device_train_batch_size: 1
per_device_eval_batch_size: 2
num_train_epochs: 1.2
log_level: "info"
attn_implementation: "sdpa"
save_strategy: "steps"
save_steps: 50
save_total_limit: 20
learning_rate: 0.00002
lr_scheduler_type: cosine
gradient_accumulation_steps: 4
gradient_checkpointing: True
logging_steps: 1
remove_unused_columns: True
dataloader_num_workers: 2
dataset_num_proc: 10
max_length: 8192
max_prompt_length: 4096
save_only_model: True
generate_eval_examples: False
generate_during_eval: False
test_size: 0.05
evaluation_strategy: "steps"
eval_steps: 50
run_name: "run"
output_dir: "out"
warmup_steps: 20
report_to: "wandb"
beta: 1.6
margin_min: 0.5
margin_delta: 0.2
chosen_sft_ratio: 0.90
loss_type: "smooth_lower_bound"
bf16: False
fp16: True
seed: 42
logging_first_step: True
use_peft: True
lora_task_type: CAUSAL_LM
lora_target_modules:
  - "k_proj"
  - "v_proj"
lora_r: 128
lora_alpha: 128
pad_token: "<|endoftext|>"
eos_token: "<|im_end|>"
chat_template: "{%- for message in messages %}\n{{ message.content }}\n{%- endfor %}"
force_chat_template: False
"#;

fn read(text: &str, sets: &[&str]) -> Result<ReadConfig, String> {
    read_as(None, "run.yaml", text, sets)
}

fn read_as(profile: Option<&str>, name: &str, text: &str, sets: &[&str]) -> Result<ReadConfig, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let read = TrainConfig::read_as(&path, profile, &sets);
    read.map_err(|error| error.to_string().replace(&path.display().to_string(), name))
}

#[test]
fn every_field_of_a_published_smpo_file_is_mapped() {
    let ReadConfig { config, notes, .. } = read(SMPO, &[]).unwrap();
    let Loss::Smpo(loss) = &config.loss.loss else { panic!("{:?}", config.loss) };
    assert_eq!((loss.beta, loss.target_margin, loss.margin_delta, loss.chosen_sft_ratio), (1.6, 0.5, 0.2, 0.9));
    assert!(loss.use_margin_schedule && !config.loss.transforms.is_active());
    assert_eq!((config.per_device_train_batch_size, config.gradient_accumulation_steps), (1, 4));
    assert_eq!(
        (config.eval_batch_size(), config.eval_steps, config.test_size),
        (2, Some(Interval::Steps(50)), Some(smpo_data::HoldOut::Share(0.05)))
    );
    assert_eq!((config.max_length, config.max_prompt_length), (8192, Some(4096)));
    assert_eq!((config.num_train_epochs, config.learning_rate, config.warmup_steps), (1.2, 2e-5, Some(20)));
    assert_eq!((config.save_steps, config.save_total_limit, config.seed), (Some(Interval::Steps(50)), 20, 42));
    assert_eq!((config.lr_scheduler_type, config.gradient_checkpointing), (Schedule::Cosine, true));
    assert_eq!((config.output_dir, config.dataset), (PathBuf::from("out"), vec![PathBuf::from("pairs.jsonl")]));
    assert_eq!(config.eos_token.as_deref(), Some("<|im_end|>"));
    assert_eq!(config.pad_token.as_deref(), Some("<|endoftext|>"));
    assert!(config.chat_template.is_some_and(|template| template.contains("\n{{ message.content }}\n")));
    let config = read(SMPO, &[]).unwrap().config;
    let Some(AdapterStart::Fresh(lora)) = config.adapter() else { panic!("no adapter") };
    assert!(config.fp16 && !config.bf16);
    // The library turns dropout off, that of adapters too.
    assert_eq!((lora.r, lora.alpha, lora.dropout), (128, 128.0, 0.0));
    assert_eq!(lora.targets, ["k_proj", "v_proj"]);
    // The first line names the trainer; one warning is for everything that means nothing here.
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("effective_llm_alignment SMPO configuration; defaults adopted: "), "{}", notes[0]);
    for key in ["attn_implementation", "logging_steps", "dataset_num_proc", "run_name", "report_to: wandb"] {
        assert!(notes[1].contains(key), "{key}: {}", notes[1]);
    }
}

#[test]
fn clipping_acts_here_and_says_so() {
    let text = format!("{SMPO}lower_clip_percentile: 0.02\nmin_log_prob: -2.3\n");
    let ReadConfig { config, notes, .. } = read(&text, &["beta=1.1", "loss.eos_term=invert"]).unwrap();
    assert_eq!(config.loss.transforms, smpo_losses::Transforms::modified());
    assert!(matches!(&config.loss.loss, Loss::Smpo(loss) if loss.beta == 1.1));
    assert!(notes.iter().any(|note| note.contains("acts here")), "{notes:?}");
}

#[test]
fn other_losses_and_other_spellings() {
    let rpo = SMPO.replace(
        "margin_min: 0.5\nmargin_delta: 0.2\nchosen_sft_ratio: 0.90\n",
        "rpo_alpha: 1.0\nreference_free: True\n",
    );
    let rpo = rpo.replace("smooth_lower_bound", "sigmoid");
    assert!(matches!(read(&rpo, &[]).unwrap().config.loss.loss, Loss::Dpo(dpo) if dpo.rpo_alpha == Some(1.0)));

    let sft = "model_name_or_path: m\ndataset: [\"a.jsonl\", \"b.jsonl\"]\noutput_dir: o\nlearning_rate: 1e-6\n\
               max_seq_length: 2048\nconversation_field: conversation\ntrain_only_on_completions: true\n\
               warmup_ratio: 0.03\nreport_to: [tensorboard, none]\nuse_peft: False\nlora_r: 16\nmax_grad_norm: null\n";
    let ReadConfig { config, notes, .. } = read(sft, &[]).unwrap();
    assert!(matches!(config.loss.loss, Loss::Sft(_)));
    assert_eq!((config.max_length, config.dataset.len(), config.adapter()), (2048, 2, None));
    assert_eq!(config.report_to, [Reporter::Tensorboard]);
    assert!(notes.iter().any(|note| note.contains("`lora_r` (no adapters are trained)")), "{notes:?}");

    let native = "model_name_or_path: m\ndataset: a.jsonl\noutput_dir: o\nlearning_rate: 2e-5\n\
                  loss:\n  kind: smpo\n  eos_term: invert\n";
    let config = read(native, &["loss.beta=2.0"]).unwrap().config;
    assert!(matches!(config.loss.loss, Loss::Smpo(smpo) if smpo.beta == 2.0));
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_line() {
    let refused = |text: &str, sets: &[&str]| read(text, sets).unwrap_err();
    let typo = refused(&SMPO.replace("lora_target_modules", "lora_target_module"), &[]);
    assert_eq!(typo, "run.yaml:42: unknown key `lora_target_module` (did you mean `lora_target_modules`?)");
    let loss = refused(&SMPO.replace("smooth_lower_bound", "smooth_lower_bond"), &[]);
    assert!(loss.contains("did you mean `smooth_lower_bound`?"), "{loss}");
    let range = refused(&SMPO.replace("learning_rate: 0.00002", "learning_rate: -1"), &[]);
    assert_eq!(range, "run.yaml:11: `learning_rate` must be a positive number, got -1");
    let broken = refused("a: [1, 2\nb: 3\n", &[]);
    assert!(broken.starts_with("run.yaml:"), "{broken}");
    let unknown = refused("model_name_or_path: m\ndataset: d\noutput_dir: o\nlearning_rate: 1e-5\nbeta: 0.1\n", &[]);
    assert!(unknown.contains("kind=dpo"), "{unknown}");
    let sft = "model_name_or_path: m\ndataset: d.jsonl\noutput_dir: o\nlearning_rate: 1e-5\ntrain_only_on_completions: False\n";
    let whole = read(sft, &[]).unwrap().config;
    assert_eq!(whole.train_on, smpo_data::TrainOn::Everything);
}

/// A file of TRL that gives what a run needs and relies on defaults for the rest.
const TRL: &str = "model_name_or_path: base\ndataset_name: pairs.jsonl\noutput_dir: out\n";

#[test]
fn groups_of_effective_llm_alignment_train_with_its_defaults() {
    let text = "model_name_or_path: m\ndataset: groups.jsonl\noutput_dir: out\ngenerate_eval_examples: false\n\
                num_gen_examples: 5\nmax_prompt_length: 256\nmax_completion_length: 700\nkl_beta: 0.02\nmin_log_prob: -3.0\n";
    let ReadConfig { config, notes, import } = read(text, &[]).unwrap();
    let Loss::Gpo(gpo) = &config.loss.loss else { panic!("{:?}", config.loss) };
    assert_eq!((gpo.kl_beta, &gpo.dr_grpo_length, config.loss.transforms.min_log_prob), (0.02, &None, Some(-3.0)));
    assert_eq!((config.max_length, config.max_prompt_length, config.learning_rate), (956, Some(256), 5e-5));
    assert_eq!(import.map(|import| (import.profile, import.method)), Some(("ela", "gpo")));
    assert!(notes[0].contains("loss.loss_type = \"prob_weighted\""), "{}", notes[0]);
}

#[test]
fn a_file_of_trl_trains_with_the_defaults_of_trl() {
    let ReadConfig { config, notes, import } = read(&format!("{TRL}loss_type: simpo\ncpo_alpha: 1.0\n"), &[]).unwrap();
    let Loss::Simpo(simpo) = &config.loss.loss else { panic!("{:?}", config.loss) };
    assert_eq!((simpo.beta, simpo.gamma, simpo.sft_weight), (0.1, 0.5, 1.0));
    assert_eq!((config.num_train_epochs, config.per_device_train_batch_size, config.seed), (3.0, 8, 42));
    assert_eq!((config.learning_rate, config.lr_scheduler_type), (1e-6, Schedule::Linear));
    assert_eq!((config.max_length, config.max_prompt_length), (1024, Some(1023)));
    assert!(config.bf16 && config.gradient_checkpointing);
    assert!(notes[0].starts_with("TRL 1.16 CPO (SimPO) configuration; defaults adopted: "), "{}", notes[0]);
    for adopted in ["loss.beta = 0.1", "loss.gamma = 0.5", "learning_rate = 1e-6", "seed = 42"] {
        assert!(notes[0].contains(adopted), "{adopted}: {}", notes[0]);
    }
    assert_eq!(import.map(|import| (import.profile, import.method)), Some(("trl", "simpo")));
}

/// A `kind` names the method of a trainer's file too; one that the trainer lacks makes it a file of this project.
#[test]
fn a_line_names_the_method_of_a_trainers_file() {
    let ambiguous = read(TRL, &[]).unwrap_err();
    assert!(ambiguous.contains("a line of the file such as `kind: dpo`"), "{ambiguous}");
    for (line, sets, method) in [("kind: dpo\n", &[][..], "dpo"), ("kind: dpo\n", &["kind=orpo"][..], "orpo")] {
        let ReadConfig { config, import, .. } = read(&format!("{TRL}{line}"), sets).unwrap();
        assert_eq!(import.map(|import| (import.profile, import.method)), Some(("trl", method)));
        assert_eq!(config.loss.loss.kind(), method);
    }
    let own = read(&format!("{TRL}learning_rate: 1e-5\nkind: smpo\n"), &[]).unwrap_err();
    assert!(own.contains("unknown key `dataset_name`"), "{own}");
    // keys of losses that trainers have too do not make it a trainer's
    let flat = "model_name_or_path: m\ndataset: d\noutput_dir: o\nlearning_rate: 1e-5\nkind: cpo\ncpo_alpha: 0.5\n";
    assert_eq!(read(flat, &[]).unwrap().import, None);
}

#[test]
fn a_recipe_of_the_alignment_handbook_is_read() {
    let recipe = "model_name_or_path: base\ndataset_mixer:\n  org/first: 1.0\n  org/second: 0.5\ndataset_splits:\n\
                  - train_prefs\n- test_prefs\npreprocessing_num_workers: 12\nbeta: 0.01\nloss_type: sigmoid\n\
                  evaluation_strategy: steps\neval_steps: 100\noutput_dir: out\n";
    let ReadConfig { config, import, .. } = read(recipe, &[]).unwrap();
    assert_eq!(import.map(|import| (import.profile, import.method)), Some(("trl", "dpo")));
    let json = serde_json::to_value(&config).unwrap();
    let names = |split: &str| ["first", "second"].map(|name| format!("hf://datasets/org/{name}/{split}_prefs"));
    assert_eq!(json["dataset"], serde_json::json!(names("train")));
    assert_eq!(json["eval_dataset"], serde_json::json!(names("test")));
    assert_eq!(json["dataset_ratio"], serde_json::json!([1.0, 0.5]));
    let share = read(&recipe.replace("0.5", "2"), &[]).unwrap_err();
    assert!(share.contains("`dataset_mixer`: expected shares from 0 to 1"), "{share}");
    let file =
        read(&recipe.replace("  org/second: 0.5\n", "").replace("org/first", "pairs.jsonl"), &["eval_strategy=no"]);
    assert_eq!(serde_json::to_value(file.unwrap().config).unwrap()["dataset"], serde_json::json!(["pairs.jsonl"]));
}

#[test]
fn a_file_of_tables_is_told_what_it_is() {
    let tables = "model:\n  model_name: base\ndata:\n  train: {}\ntraining:\n  trainer_type: TRL_DPO\n";
    let error = read(tables, &[]).unwrap_err();
    assert!(error.contains("the file has tables of settings (`data`, `training`), as none"), "{error}");
}

#[test]
fn methods_of_trl_are_told_by_their_keys() {
    let kind = |more: &str| read(&format!("{TRL}{more}"), &[]).unwrap().config.loss.loss.kind();
    for (more, expected) in [
        ("loss_type: [sigmoid, sft]\nloss_weights: [1.0, 0.5]\n", "dpo"),
        ("loss_type: ipo\n", "dpo"),
        ("desirable_weight: 1.2\n", "kto"),
        ("loss_type: apo_zero_unpaired\n", "kto"),
        ("cpo_alpha: 0.5\n", "cpo"),
        ("loss_type: alphapo\nalpha: 0.2\n", "simpo"),
        ("assistant_only_loss: true\n", "sft"),
    ] {
        assert_eq!(kind(more), expected, "{more}");
    }
    // Nothing tells ORPO from the others: the user does, or the file's name.
    let error = read(&format!("{TRL}beta: 0.2\n"), &[]).unwrap_err();
    assert!(error.contains("--set kind=sft|dpo|kto|cpo|simpo|alphapo|orpo"), "{error}");
    let orpo = read(&format!("{TRL}beta: 0.2\n"), &["kind=orpo"]).unwrap().config;
    assert!(matches!(&orpo.loss.loss, Loss::Orpo(orpo) if orpo.lambda == 0.2));
    let named = read_as(None, "qwen-orpo.yaml", &format!("{TRL}beta: 0.2\n"), &[]).unwrap();
    assert!(named.notes[0].starts_with("TRL 1.16 ORPO configuration (by the file's name)"), "{}", named.notes[0]);
    assert_eq!(named.config.loss.loss.kind(), "orpo");
    // TRL's ipo is normalised by length.
    let ipo = read(&format!("{TRL}loss_type: [ipo]\n"), &[]).unwrap().config;
    let Loss::Dpo(dpo) = &ipo.loss.loss else { panic!() };
    assert_eq!(dpo.loss_type, smpo_losses::loss::dpo::DpoLossType::IpoNorm.into());
}

#[test]
fn an_override_wins_over_every_other_spelling_in_the_file() {
    let text = format!("{TRL}packing: false\nmax_seq_length: 512\nwarmup_ratio: 0.1\nsave_strategy: epoch\n");
    let config = read(&text, &["max_length=256", "warmup_steps=7", "save_steps=5"]).unwrap().config;
    assert_eq!((config.max_length, config.warmup_steps, config.warmup_ratio), (256, Some(7), None));
    assert_eq!(config.save_steps, Some(Interval::Steps(5)));
    let config = read(&text, &["max_seq_length=128"]).unwrap().config;
    assert_eq!(config.max_length, 128);
    // theirs or ours, a key of the loss or not
    let simpo = format!("{TRL}loss_type: simpo\nsimpo_gamma: 0.3\n");
    for set in ["simpo_gamma=0.7", "loss.gamma=0.7"] {
        let config = read(&simpo, &[set]).unwrap().config;
        assert!(matches!(&config.loss.loss, Loss::Simpo(simpo) if simpo.gamma == 0.7), "{set}");
    }
    // no default is adopted beside it
    let ReadConfig { notes, .. } = read(&simpo, &["seed=3", "loss.beta=0.4"]).unwrap();
    assert!(!notes[0].contains("seed") && !notes[0].contains("loss.beta"), "{}", notes[0]);
    // and in files of this project
    let own = "model = \"m\"\noutput_dir = \"o\"\ndataset = \"d\"\nlearning_rate = 1e-4\nwarmup_ratio = 0.1\n[loss]\nkind = \"dpo\"\n";
    let config = read_as(None, "run.toml", own, &["model_name_or_path=n", "warmup_steps=3"]).unwrap().config;
    assert_eq!((config.model_name_or_path, config.warmup_steps), (PathBuf::from("n"), Some(3)));
}

#[test]
fn errors_have_the_line_and_the_name_of_the_file() {
    let error = |more: &str, sets: &[&str]| read(&format!("{TRL}loss_type: sigmoid\n{more}"), sets).unwrap_err();
    assert_eq!(
        error("lerning_rate: 1e-6\n", &[]),
        "run.yaml:5: unknown key `lerning_rate` (did you mean `learning_rate`?)"
    );
    let other = error("cutoff_len: 512\n", &[]);
    assert!(other.contains("run.yaml:5: unknown key `cutoff_len`: a key of LLaMA-Factory 0.9"), "{other}");
    let refused = error("load_in_8bit: true\nneftune_noise_alpha: 5\n", &[]);
    assert!(
        refused.contains("run.yaml:5: `load_in_8bit: true` is not supported: --set load_in_8bit=false"),
        "{refused}"
    );
    assert!(refused.contains("run.yaml:6: `neftune_noise_alpha: 5` is not supported"), "{refused}");
    assert!(read(&format!("{TRL}loss_type: sigmoid\nload_in_8bit: true\n"), &["load_in_8bit=false"]).is_ok());
    let refused =
        error("adafactor: true\nresume_from_checkpoint: out/checkpoint-500\nmodel_init_kwargs: {subfolder: x}\n", &[]);
    for line in [
        "run.yaml:5: `adafactor: true` is not supported: AdamW",
        "run.yaml:6: `resume_from_checkpoint: out/checkpoint-500` is not supported: a run goes on by itself",
        "run.yaml:7: `model_init_kwargs`: `subfolder` is not supported",
    ] {
        assert!(refused.contains(line), "{refused}");
    }
    let harmless = "adafactor: false\nresume_from_checkpoint: true\nmodel_init_kwargs: {torch_dtype: bfloat16, device_map: auto}\n";
    assert!(read(&format!("{TRL}loss_type: sigmoid\n{harmless}"), &[]).is_ok());
    let range = error("beta: -1\n", &[]);
    assert!(range.starts_with("run.yaml:5: loss `dpo`: `beta` must be"), "{range}");
    let length = read(&format!("{TRL}max_seq_length: 1\n"), &[]).unwrap_err();
    assert_eq!(length, "run.yaml:4: `max_length` must be at least 2, got 1 (`max_seq_length` in this file)");
    let weights = read(&format!("{TRL}loss_type: [sigmoid, sft]\nloss_weights: [1.0]\n"), &[]).unwrap_err();
    assert!(weights.starts_with("run.yaml:5: ") && weights.contains("`loss_weights`"), "{weights}");
    let smoothed = read(&format!("{TRL}loss_type: [sigmoid, robust]\nlabel_smoothing: 0.1\n"), &[]).unwrap_err();
    assert!(smoothed.starts_with("run.yaml:5: `label_smoothing: 0.1` is not supported beside"), "{smoothed}");
    let kind = read_as(Some("trk"), "run.yaml", TRL, &[]).unwrap_err();
    assert!(kind.contains("--profile") && kind.contains("did you mean `trl`?"), "{kind}");
    let kind = read(TRL, &["kind=dop"]).unwrap_err();
    assert!(kind.contains("expected one of sft, dpo") && kind.contains("did you mean `dpo`?"), "{kind}");
    let stage = read("stage: dop\nmodel_name_or_path: m\n", &[]).unwrap_err();
    assert!(
        stage.starts_with("run.yaml:1: `stage`: expected one of sft, dpo") && stage.contains("did you mean `dpo`?"),
        "{stage}"
    );
}

#[test]
fn reward_files_are_converted() {
    let trl = read(&format!("{TRL}center_rewards_coefficient: 0.01\n"), &[]).unwrap().config;
    assert_eq!((trl.loss.loss.kind(), trl.learning_rate, trl.max_length), ("reward", 1e-4, 1024));
    let ela = "model_name_or_path: base\ndataset: pairs.jsonl\noutput_dir: out\nevaluation_strategy: steps\neval_steps: 5\n\
               learning_rate: 0.0002\nmax_length: 600\nuse_peft: true\nlora_task_type: SEQ_CLS\nlora_r: 8\nlora_alpha: 8\n\
               lora_target_modules: [q_proj, v_proj]\nlora_modules_to_save: [score]\ncenter_rewards_coefficient: 0.01\n";
    let ela = read(ela, &[]).unwrap().config;
    assert_eq!((ela.loss.loss.kind(), ela.max_prompt_length), ("reward", Some(599)));
    assert_eq!(ela.modules_to_save, ["score"]);
    let classes = "model_name_or_path: base\ndataset: texts.jsonl\noutput_dir: out\nevaluation_strategy: steps\neval_steps: 5\n\
                   learning_rate: 0.00003\nnum_labels: 2\nuse_peft: False\nlora_task_type: SEQ_CLS\nlora_r: 8\n\
                   unfreeze_layers_patterns: [score, \"*.layers.*\"]\nlora_modules_to_save: [score]\nmax_length: 600\n";
    let classes = read(classes, &[]).unwrap().config;
    assert_eq!((classes.loss.loss.kind(), classes.use_peft, classes.max_length), ("classification", false, 600));
    let factory = "stage: rm\nmodel_name_or_path: base\nfinetuning_type: full\ndataset_dir: nowhere\ndataset: pairs\n";
    assert!(!read(factory, &[]).unwrap_err().contains("not run here"));
}

/// A directory with LLaMA-Factory's data, and a file of each profile that names it.
fn factory(dir: &Path) -> String {
    let info = r#"{"pairs": {"file_name": "pairs.json", "ranking": true, "formatting": "sharegpt",
        "columns": {"messages": "talk", "chosen": "good", "rejected": "bad"},
        "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "customer", "assistant_tag": "us"}}}"#;
    std::fs::write(dir.join("dataset_info.json"), info).unwrap();
    std::fs::write(dir.join("pairs.json"), "[{}, {}, {}, {}]").unwrap();
    format!(
        "stage: dpo\nmodel_name_or_path: base\ndataset: pairs\ndataset_dir: {}\ntemplate: qwen\noutput_dir: out\n\
         pref_loss: simpo\nmax_samples: 3\n",
        dir.display()
    )
}

#[test]
fn llama_factory_has_its_defaults_and_its_columns() {
    let dir = tempfile::tempdir().unwrap();
    let text = factory(dir.path());
    let ReadConfig { config, notes, .. } = read(&text, &[]).unwrap();
    let Loss::Simpo(simpo) = &config.loss.loss else { panic!("{:?}", config.loss) };
    assert_eq!((simpo.beta, simpo.gamma, simpo.sft_weight), (0.1, 0.5, 0.0));
    let Some(AdapterStart::Fresh(lora)) = config.adapter() else { panic!("no adapter") };
    assert_eq!((lora.r, lora.alpha, lora.dropout), (8, 16.0, 0.0));
    assert_eq!((config.max_length, config.learning_rate, config.num_train_epochs), (2048, 5e-5, 3.0));
    assert_eq!(
        (config.dataset.clone(), config.dataset_ratio.clone()),
        (vec![dir.path().join("pairs.json")], vec![0.75])
    );
    let columns = &config.dataset_columns[0];
    assert_eq!(
        (columns.messages.as_deref(), columns.chosen.as_deref(), columns.role.as_deref()),
        (Some("talk"), Some("good"), Some("who"))
    );
    assert_eq!(columns.roles.get("customer").map(String::as_str), Some("user"));
    assert!(notes[0].starts_with("LLaMA-Factory 0.9 DPO (SimPO) configuration"), "{}", notes[0]);
    let refused = |from: &str, to: &str| read(&text.replace(from, to), &[]).unwrap_err();
    let name = refused("dataset: pairs", "dataset: pair");
    assert!(name.contains("run.yaml:3: ") && name.contains("has no data set `pair` (did you mean `pairs`?)"), "{name}");
    let kind = refused("stage: dpo", "stage: sft");
    assert!(kind.contains("`ranking`: expected false for stage SFT, got true"), "{kind}");
    let bits = refused("max_samples: 3", "quantization_bit: 3");
    assert!(bits.contains("`quantization_bit: 3` is not supported"), "{bits}");
}

#[test]
fn the_load_balancing_loss_of_routed_experts_is_mapped() {
    let coefficient = |config: TrainConfig| config.router_aux_loss_coef;
    for more in ["loss_type: ipo\n", "desirable_weight: 1.2\n", "assistant_only_loss: true\n"] {
        let with = |value: &str| read(&format!("{TRL}{more}router_aux_loss_coef: {value}\n"), &[]).unwrap().config;
        assert_eq!(coefficient(with("0.02")), Some(0.02), "{more}");
        assert_eq!(coefficient(with("0.0")), Some(0.0), "{more}");
        assert_eq!(coefficient(with("null")), None, "{more}");
    }
    let halo = read(&format!("{HALO}router_aux_loss_coef: 0.1\n"), &[]).unwrap().config;
    assert_eq!(coefficient(halo), Some(0.1));
    let dir = tempfile::tempdir().unwrap();
    let preferences = format!("{}moe_aux_loss_coef: 0.01\n", factory(dir.path()));
    // In LLaMA-Factory its preference losses are without it.
    assert_eq!(coefficient(read(&preferences, &[]).unwrap().config), None);
    std::fs::write(dir.path().join("dataset_info.json"), r#"{"pairs": {"file_name": "pairs.json"}}"#).unwrap();
    let answers = preferences.replace("stage: dpo", "stage: sft").replace("pref_loss: simpo\n", "");
    assert_eq!(coefficient(read(&answers, &[]).unwrap().config), Some(0.01));
    let off = answers.replace("moe_aux_loss_coef: 0.01", "moe_aux_loss_coef: 0");
    assert_eq!(coefficient(read(&off, &[]).unwrap().config), None);
}

const HALO: &str = "model_name_or_path: base\ndataset: pairs.jsonl\noutput_dir: out\ntarget_margin: 0.4\n\
                    initial_margin: 0.2\nmin_log_prob: null\n";

#[test]
fn halo_has_its_margins_and_its_bounds() {
    let ReadConfig { config, notes, .. } = read(HALO, &[]).unwrap();
    let Loss::Smpo(smpo) = &config.loss.loss else { panic!("{:?}", config.loss) };
    assert_eq!((smpo.beta, smpo.target_margin, smpo.initial_margin, smpo.chosen_sft_ratio), (1.2, 0.4, 0.2, 0.8));
    // null is off, absent is the trainer's default
    assert_eq!((config.loss.transforms.lower_clip_percentile, config.loss.transforms.min_log_prob), (Some(0.02), None));
    assert_eq!((config.learning_rate, config.max_length), (1e-6, 1024));
    assert!(notes[0].starts_with("Halo 1.1 SMPO configuration"), "{}", notes[0]);
}

const AXOLOTL: &str = "base_model: base\nrl: dpo\nrl_beta: 0.3\ndatasets:\n  - path: pairs.jsonl\n    type: chat_template.default\n    \
                       field_messages: talk\n    split: train[:50%]\nlearning_rate: 2e-4\nnum_epochs: 2\nsaves_per_epoch: 2\nadapter: \
                       lora\nlora_r: 4\nlora_target_linear: true\nval_set_size: 0.0\n";

#[test]
fn axolotl_is_converted() {
    let ReadConfig { config, notes, .. } = read(AXOLOTL, &[]).unwrap();
    assert!(matches!(&config.loss.loss, Loss::Dpo(dpo) if dpo.beta == 0.3));
    assert_eq!((config.max_length, config.warmup_ratio, config.test_size), (512, Some(0.03), None));
    assert_eq!(config.save_steps, Some(Interval::Share(0.25)));
    assert_eq!(
        (config.dataset_ratio.as_slice(), config.lora_target_modules.as_slice()),
        (&[0.5][..], &["all-linear".to_owned()][..])
    );
    assert_eq!(config.dataset_columns[0].messages.as_deref(), Some("talk"));
    assert!(notes[0].starts_with("axolotl 0.21 DPO configuration"), "{}", notes[0]);
    let packed = read(&format!("{AXOLOTL}sample_packing: true\n"), &[]).unwrap_err();
    assert!(packed.contains("--set sample_packing=false"), "{packed}");
}

/// The printed file is the same configuration, whatever the trainer.
#[test]
fn what_is_printed_is_the_same_run() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        SMPO.to_owned(),
        format!("{TRL}loss_type: [sigmoid, sft]\nuse_peft: true\neval_strategy: steps\ntest_split_size: 0.1\n"),
        format!("{TRL}loss_type: simpo\neos_term: invert\n"),
        factory(dir.path()),
        HALO.to_owned(),
        AXOLOTL.to_owned(),
    ];
    for text in files {
        for sets in [&[][..], &["seed=5", "learning_rate=1e-3", "device=cpu", "loss.beta=0.7"]] {
            let read = read(&text, sets).unwrap();
            let import = read.import.unwrap();
            let again = TrainConfig::parse(&import.text, Path::new("ours.toml"), &[]);
            assert_eq!(
                again.unwrap_or_else(|error| panic!("{error}\n{}", import.text)),
                read.config,
                "{}",
                import.text
            );
            let comments = import.text.lines().filter(|line| line.contains("  # default of ")).count();
            assert_eq!(comments, import.adopted.len(), "{}", import.text);
        }
    }
}

#[test]
fn json_toml_and_command_lines_are_read_alike() {
    let json = r#"{"model_name_or_path": "base", "dataset_name": "pairs.jsonl", "output_dir": "out",
        "loss_type": "simpo", "beta": 0.2}"#;
    let toml = "model_name_or_path = \"base\"\ndataset_name = \"pairs.jsonl\"\noutput_dir = \"out\"\nloss_type = \"simpo\"\nbeta = 0.2\n";
    let from_json = read_as(None, "run.json", json, &[]).unwrap().config;
    assert_eq!(from_json, read_as(None, "run.toml", toml, &[]).unwrap().config);
    let line =
        "trl cpo --model_name_or_path base --dataset_name pairs.jsonl --output_dir out --loss_type simpo --beta 0.2";
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    assert_eq!(TrainConfig::read_trl_args(&words, &[]).unwrap().config, from_json);
    let error = read_as(None, "run.json", &json.replace("\"beta\"", "\"bta\""), &[]).unwrap_err();
    assert_eq!(error, "run.json:2: unknown key `bta` (did you mean `beta`?)");
    let error = read_as(None, "run.json", "{\"a\": 1,,}", &[]).unwrap_err();
    assert!(error.starts_with("run.json:1: "), "{error}");
}

#[test]
#[ignore = "reads a checkout of effective_llm_alignment, see the module's comment"]
fn every_published_file_is_read() {
    let dir = std::env::var("SMPO_PUBLISHED").expect("SMPO_PUBLISHED: a directory of YAML files");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(Path::new(&dir)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    let mut unexpected = Vec::new();
    for path in files {
        match TrainConfig::read(&path, &[]) {
            Ok(read) => println!("{}: {}; {}", path.display(), read.config.loss.loss.kind(), read.notes.join("; ")),
            Err(error) => {
                let error = error.to_string();
                println!("{}: REFUSED: {error}", path.display());
                if !REFUSED.iter().any(|reason| error.contains(reason)) {
                    unexpected.push(error);
                }
            }
        }
    }
    assert!(unexpected.is_empty(), "refused for another reason than {REFUSED:?}: {unexpected:#?}");
}

#[test]
fn prompts_of_effective_llm_alignment_are_learned_with_its_defaults() {
    let text = "model_name_or_path: m\ndataset: pairs.jsonl\noutput_dir: out\nlearning_rate: 0.001\ncenter_rewards_coefficient: 0.01\n\
                gumbel_temp: 1.0\nprompt_len: 96\nspecial_token_coef: 0.8\nfused_forward: True\ninit_prompt: Be good.\n\
                forbidden_token_ids: [1, 2]\nwarmup_ratio: 0.01\nlr_scheduler_type: constant\n";
    let ReadConfig { config, notes, import } = read(text, &[]).unwrap();
    let Loss::Reward(reward) = &config.loss.loss else { panic!("{:?}", config.loss) };
    assert_eq!(reward.center_rewards_coefficient, 0.01);
    let prompt = config.prompt.unwrap();
    assert_eq!((prompt.count, prompt.length, prompt.init.as_deref()), (3, 96, Some("Be good.")));
    assert_eq!((prompt.temperature, prompt.final_temperature, prompt.noise), (1.0, 0.005, 0.05));
    assert_eq!((prompt.dissimilarity, &prompt.forbidden_token_ids[..]), (0.3, &[1, 2][..]));
    assert_eq!(import.map(|import| (import.profile, import.method)), Some(("ela", "prompts")));
    assert!(notes[0].contains("prompt.count = 3") && notes[0].contains("prompt.dissimilarity = 0.3"), "{}", notes[0]);
    assert!(notes.iter().any(|note| note.contains("`special_token_coef`, `fused_forward`")), "{notes:?}");
    // beside keys of SFT the answers are to become likelier
    let sft = text.replace("center_rewards_coefficient: 0.01", "train_only_on_completions: true");
    let ReadConfig { config, import, .. } = read(&sft, &[]).unwrap();
    assert_eq!((config.loss.loss.kind(), import.map(|import| import.method)), ("sft", Some("sft-prompts")));
    assert_eq!(config.prompt.unwrap().count, 3);
    // overrides in either spelling
    for set in ["prompt_len=8", "prompt.length=8"] {
        assert_eq!(read(text, &[set]).unwrap().config.prompt.unwrap().length, 8);
    }
}
