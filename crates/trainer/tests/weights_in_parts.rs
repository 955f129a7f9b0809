//! A run with the weights of blocks in parts on ranks (`zero_stage = 3`) is the run with whole ones.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smpo_collectives::{Collective, CollectiveError, Threads};
use smpo_data::HoldOut;
use smpo_devices::Choice;
use smpo_fixtures::demo;
use smpo_losses::{LossConfig, WinsorScope};
use smpo_trainer::config::{Optim, ProbeConfig};
use smpo_trainer::{EarlierRun, Finish, Ranks, StepRecord, TrainConfig, TrainConfigBuilder, TrainError, train_on};
use support::one_step::modified;
use support::{demo_run, loss, on_threads, run_on, train_on_ranks};
use tempfile::TempDir;

type Change<'a> = &'a dyn Fn(TrainConfigBuilder) -> TrainConfigBuilder;

fn base(out: &Path, zero_stage: u8, loss: LossConfig) -> TrainConfigBuilder {
    demo_run(out, 8, loss).gradient_checkpointing(true).zero_stage(zero_stage).learning_rate(1e-3)
}

/// Three steps on ranks, the last of which is saved; the files of the checkpoint's model and moments.
fn saved(config: TrainConfigBuilder, out: &Path, world: usize) -> [Vec<u8>; 2] {
    // Clipping aside: ranks with moments of their own add up the norm in another order.
    let config = config.output_dir(out).save_steps(3).max_grad_norm(0.0).max_steps(4).build().unwrap();
    let (finishes, _) = train_on_ranks(world, &config, Some(3));
    assert!(finishes.into_iter().all(|finish| finish.unwrap() == Finish::Stopped { step: 3 }));
    let saved = out.join("checkpoints/step-3");
    let adapter = saved.join("model/adapter_model.safetensors");
    let model = if adapter.exists() { adapter } else { saved.join("model/model.safetensors") };
    [model, saved.join("optimizer.safetensors")].map(|file| std::fs::read(file).unwrap())
}

#[test]
fn weights_in_parts_change_no_bit() {
    let dir = TempDir::new().unwrap();
    let lora = |config: TrainConfigBuilder| config.use_peft(true).lora_r(8);
    let emulated = |config: TrainConfigBuilder| config.device(Choice::Emulated).bf16(true);
    let cases: [(&str, &str, usize, Change<'_>); 11] = [
        ("all weights", "smpo", 2, &|config| config),
        ("all weights", "smpo", 4, &|config| config),
        ("moments in 8 bits", "smpo", 4, &|config| config.optim(Optim::AdamW8bit)),
        ("emulated", "smpo", 2, &emulated),
        ("a reference", "dpo", 4, &|config| config),
        ("a baseline", "kto", 2, &|config| config),
        ("some weights", "smpo", 3, &|config| config.unfreeze_layers_patterns(["layers.1", "k_proj"])),
        ("adapters", "smpo", 3, &|config| lora(config).lora_dropout(0.2)),
        ("emulated adapters", "smpo", 2, &|config| emulated(lora(config))),
        ("adapters with magnitudes", "dpo", 2, &|config| lora(config).use_dora(true)),
        ("adapters and norms", "smpo", 4, &|config| lora(config).modules_to_save(["norm", "input_layernorm"])),
    ];
    for (name, kind, world, change) in cases {
        let of = |stage: u8| {
            let out = dir.path().join(format!("{name}-{world}-{stage}"));
            saved(change(base(&out, stage, loss(&format!("kind = {kind:?}")))), &out, world)
        };
        assert!(of(0) == of(3), "{name} on {world}");
    }
}

/// Figures of two runs agree, but for speed.
fn assert_alike(name: &str, expected: &[StepRecord], got: &[StepRecord]) {
    let steps = |records: &[StepRecord]| records.iter().map(|record| record.step).collect::<Vec<_>>();
    assert_eq!(steps(expected), steps(got), "{name}");
    for (expected, got) in expected.iter().zip(got) {
        assert_eq!(expected.metrics.len(), got.metrics.len());
        for ((figure, expected), (other, got)) in expected.metrics.iter().zip(&got.metrics) {
            assert_eq!(figure, other);
            // As after a few updates in another order of additions.
            let close = (expected - got).abs() <= 2e-5 * expected.abs().max(1.0);
            assert!(close, "{name}: {figure}: {expected} and {got}");
        }
    }
}

/// A run with packs of about three rows, held-out rows and checkpoints.
fn evaluated(out: PathBuf, zero_stage: u8, loss: LossConfig) -> TrainConfig {
    let config = base(&out, zero_stage, loss).dataset_sample(24).per_device_train_batch_size(8).max_steps(6);
    config.max_tokens_per_pack(150).save_steps(2).test_size(HoldOut::Rows(6)).build().unwrap()
}

#[test]
fn ranks_with_more_packs_and_with_none_train_the_same_model() {
    let dir = TempDir::new().unwrap();
    for kind in ["smpo", "dpo", "kto"] {
        let of = |world: usize, stage: u8| {
            run_on(
                world,
                &evaluated(dir.path().join(format!("{kind}-{world}")), stage, loss(&format!("kind = {kind:?}"))),
            )
        };
        let alone = of(1, 0);
        assert!(alone[0].metric("eval_loss").is_some());
        for world in [2, 3, 9] {
            assert_alike(&format!("{kind} on {world}"), &alone, &of(world, 3));
        }
    }
    // Two rows are one pack where adapters have dropout: ranks without one.
    let dropped = |world: usize, stage: u8| {
        let config = base(&dir.path().join(format!("dropped-{world}")), stage, loss("kind = \"smpo\"")).max_steps(3);
        run_on(world, &config.dataset_sample(2).use_peft(true).lora_dropout(0.3).build().unwrap())
    };
    assert_alike("dropout", &dropped(1, 0), &dropped(4, 3));
}

#[test]
fn a_run_in_parts_resumes_with_any_number_of_ranks_and_gives_the_same_model() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str, stage: u8| evaluated(dir.path().join(name), stage, modified(WinsorScope::Window(64)));
    let alone = run_on(1, &at("alone", 0));
    for (name, first, then) in [
        ("a", (4, 3), (1, 0)),
        ("b", (4, 3), (2, 1)),
        ("c", (1, 0), (3, 3)),
        ("d", (2, 3), (3, 3)),
        ("e", (2, 1), (2, 3)),
    ] {
        let (finishes, mut records) = train_on_ranks(first.0, &at(name, first.1), Some(3));
        assert!(finishes.into_iter().all(|finish| finish.unwrap() == Finish::Stopped { step: 3 }), "{name}");
        records.extend(run_on(then.0, &at(name, then.1)));
        assert_alike(name, &alone, &records);
        let size = |name: &str| std::fs::metadata(dir.path().join(name).join("model/model.safetensors")).unwrap().len();
        assert_eq!(size(name), size("alone"));
    }
}

/// A rank that ends after some operations, as a killed process does.
#[derive(Debug)]
struct Mortal(Threads, AtomicU64);

impl Mortal {
    fn live(&self) -> Result<&Threads, CollectiveError> {
        let alive = self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        alive.map(|_| &self.0).map_err(|_| CollectiveError::Gone(self.0.rank()))
    }
}

impl Collective for Mortal {
    fn rank(&self) -> usize {
        self.0.rank()
    }
    fn world(&self) -> usize {
        self.0.world()
    }
    fn sum(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.live()?.sum(values)
    }
    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.live()?.gather(bytes)
    }
    fn broadcast(&self, bytes: &mut Vec<u8>, from: usize) -> Result<(), CollectiveError> {
        self.live()?.broadcast(bytes, from)
    }
    fn barrier(&self) -> Result<(), CollectiveError> {
        self.live()?.barrier()
    }
}

#[test]
fn a_rank_that_dies_while_blocks_are_gathered_ends_the_others() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| evaluated(dir.path().join(name), 3, modified(WinsorScope::Step));
    let alone = run_on(1, &at("alone"));
    for (dying, operations) in [(1, 40), (0, 90), (2, 151), (1, 202)] {
        let config = at(&format!("{dying}-{operations}"));
        let errors = on_threads(3, |rank| {
            let left = if rank.rank() == dying { operations } else { u64::MAX };
            let ranks = Ranks::new(Mortal(rank, left.into()));
            train_on(&ranks, &config, EarlierRun::Resume, &AtomicBool::new(false), &mut |_| {}).unwrap_err()
        });
        for error in errors {
            let gone = matches!(&error, TrainError::Collective(CollectiveError::Gone(rank)) if *rank == dying);
            assert!(gone, "{operations}: {error:?}");
        }
        assert!(!config.output_dir.join("model").exists());
        let records = run_on(2, &config);
        let rest = &alone[alone.len() - records.len()..];
        assert_alike(&format!("{dying} after {operations}"), rest, &records);
    }
}

#[test]
fn what_weights_in_parts_exclude_is_refused_by_name() {
    let refusal = |change: Change<'_>| {
        let config = base(Path::new("unused"), 3, loss("kind = \"dpo\""));
        change(config).build().map(|_| ()).unwrap_err().to_string()
    };
    let probe = toml::from_str::<ProbeConfig>(&format!("prompts = {:?}", demo("ood.jsonl"))).unwrap();
    let cases: [(&str, Change<'_>); 7] = [
        ("`zero_stage` = 3 needs gradient_checkpointing = true", &|config| config.gradient_checkpointing(false)),
        ("`zero_stage` = 3 and `probe` exclude each other: each sampled token passes all blocks", &|config| {
            config.probe(probe.clone())
        }),
        ("`load_in_4bit` exclude each other: packed blocks", &|config| config.use_peft(true).load_in_4bit(true)),
        ("`dequantize` exclude each other: packed blocks", &|config| config.dequantize(true)),
        ("`init` exclude each other: parts are read from", &|config| config.init(smpo_trainer::config::Init::Random)),
        ("`sync_ref_model` exclude each other: a reference that follows", &|config| config.sync_ref_model(true)),
        ("`zero_stage` must be 0, 1 or 3, got 2", &|config| config.zero_stage(2)),
    ];
    for (expected, change) in cases {
        let got = refusal(change);
        assert!(got.contains(expected), "{got}");
    }
}
