//! effective_llm_alignment's YAML files run as they are. The texts here were written for this project; they have the
//! keys of the library's own. `SMPO_PUBLISHED=DIR cargo test -p smpo-trainer --test published -- --ignored` reads every
//! file below `DIR`, a checkout's `training_configs/preference` or `…/sft`.

use std::path::{Path, PathBuf};

use smpo_losses::Loss;
use smpo_trainer::config::{AdapterStart, Interval, Reporter};
use smpo_trainer::{ReadConfig, Schedule, TrainConfig};

/// Settings of published files that are refused: nothing here does what they ask for.
const REFUSED: [&str; 3] = ["smooth_ipo", "sppo_hard", "only completions are trained on"];

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
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.yaml");
    std::fs::write(&path, text).unwrap();
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    TrainConfig::read(&path, &sets).map_err(|error| error.to_string().replace(&path.display().to_string(), "run.yaml"))
}

#[test]
fn every_field_of_a_published_smpo_file_is_mapped() {
    let ReadConfig { config, notes } = read(SMPO, &[]).unwrap();
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
    // What a file leaves out is TRL's default, as its author had it.
    assert_eq!((lora.r, lora.alpha, lora.dropout), (128, 128.0, 0.05));
    assert_eq!(lora.targets, ["k_proj", "v_proj"]);
    // One warning for everything that means nothing here.
    assert_eq!(notes.len(), 1, "{notes:?}");
    for key in ["attn_implementation", "logging_steps", "dataset_num_proc", "run_name", "report_to: wandb"] {
        assert!(notes[0].contains(key), "{key}: {}", notes[0]);
    }
}

#[test]
fn clipping_acts_here_and_says_so() {
    let text = format!("{SMPO}lower_clip_percentile: 0.02\nmin_log_prob: -2.3\n");
    let ReadConfig { config, notes } = read(&text, &["beta=1.1", "loss.eos_term=invert"]).unwrap();
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
    let ReadConfig { config, notes } = read(sft, &[]).unwrap();
    assert!(matches!(config.loss.loss, Loss::Sft(_)));
    assert_eq!((config.max_length, config.dataset.len(), config.adapter()), (2048, 2, None));
    assert_eq!(config.report_to, [Reporter::Tensorboard]);
    assert!(notes[0].contains("`lora_r` (use_peft is off)"), "{notes:?}");

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
    let masked = refused(&format!("{SMPO}train_only_on_completions: False\n"), &[]);
    assert!(masked.contains("only completions are trained on here"), "{masked}");
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
