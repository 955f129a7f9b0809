//! A run over several ranks is the run of one process.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smpo_collectives::{Collective, CollectiveError, Running, Threads};
use smpo_data::HoldOut;
use smpo_devices::Choice;
use smpo_fixtures::demo;
use smpo_losses::{LossConfig, Objective, WinsorScope};
use smpo_model::{Config, Decoder, LoraConfig};
use smpo_trainer::config::{Optim, ProbeConfig};
use smpo_trainer::{
    EarlierRun, Finish, Learner, LearnerOptions, MemoryBudget, Ranks, StepRecord, StepRow, TrainConfig,
    TrainConfigBuilder, TrainError, synthetic, train_on,
};
use support::one_step::{losses, modified, one_step_on, same};
use support::{demo_run, loss, on_ranks, on_threads, run_on, train_on_ranks};
use tempfile::TempDir;

#[test]
fn a_step_is_the_same_on_any_number_of_ranks() {
    for (name, loss) in losses() {
        let on = |world: usize, most: usize| {
            one_step_on(world, loss.clone(), |config| {
                let config = config.per_device_train_batch_size(4).gradient_accumulation_steps(2);
                config.max_tokens_per_pack(most)
            })
        };
        let alone = on(1, 100_000);
        // Uneven packs of about three rows; one pack for each rank; more ranks than rows.
        for (world, most) in [(2, 150), (3, 150), (4, 100_000), (9, 100_000)] {
            same(&format!("{name}, {world} ranks"), &alone, &on(world, most));
        }
    }
}

#[test]
fn ranks_without_a_pack_and_dropout_change_nothing() {
    let config = |world: usize, most: usize, dir: &TempDir| {
        let config = demo_run(&dir.path().join(format!("{world}-{most}")), 8, loss("kind = \"smpo\""))
            .max_steps(3)
            .learning_rate(1e-3)
            .use_peft(true)
            .lora_dropout(0.3)
            .max_tokens_per_pack(most)
            .build()
            .unwrap();
        run_on(world, &config)
    };
    let dir = TempDir::new().unwrap();
    for most in [150, 100_000] {
        let alone = config(1, most, &dir);
        for world in [2, 4] {
            assert_alike(&alone, &config(world, most, &dir));
        }
    }
}

#[test]
fn every_rank_has_the_same_weights_to_the_last_bit() {
    for zero_stage in [0, 1] {
        same_weights(zero_stage);
    }
}

fn same_weights(zero_stage: u8) {
    let settings = demo_run(Path::new("unused"), 8, modified(WinsorScope::Step)).zero_stage(zero_stage);
    let settings = settings.learning_rate(1e-3).build().unwrap();
    let weights = on_ranks(3, |ranks| {
        let decoder = Decoder::init(&Config::from_dir(demo("base")).unwrap(), 7).unwrap();
        let options = LearnerOptions::of(&settings, decoder.spec(), MemoryBudget::host(), None).unwrap();
        let objective = Objective::new(settings.loss.clone()).unwrap();
        let mut learner = Learner::on_ranks(decoder, objective, options, ranks).unwrap();
        let rows = synthetic::pairs(7, 40, 500, |id| id % 97 == 0, 1);
        let rows: Vec<StepRow<'_>> = rows.iter().map(|row| StepRow { row, reference: None, other: None }).collect();
        let outcomes: Vec<_> = (0..3).map(|step| learner.step(&rows, step, 1e-3).unwrap()).collect();
        let trained = learner.decoder().trainable();
        let bits = |var: &candle_core::Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (outcomes, trained.iter().flat_map(|(_, var)| bits(var)).map(f32::to_bits).collect::<Vec<u32>>())
    });
    assert!(weights.iter().all(|rank| *rank == weights[0]));
}

/// Figures of the two runs agree, but for speed.
fn assert_alike(expected: &[StepRecord], got: &[StepRecord]) {
    assert_eq!(expected.len(), got.len());
    for (expected, got) in expected.iter().zip(got) {
        assert_eq!(expected.step, got.step);
        let names = |record: &StepRecord| record.metrics.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(expected), names(got));
        for ((name, expected), (_, got)) in expected.metrics.iter().zip(&got.metrics) {
            // As after a few updates in another order of additions.
            assert!((expected - got).abs() <= 2e-5 * expected.abs().max(1.0), "{name}: {expected} and {got}");
        }
    }
}

fn probed(out: &Path, loss: LossConfig) -> TrainConfig {
    let prompts = demo("ood.jsonl");
    let probe = format!("prompts = {prompts:?}\nmax_prompts = 7\nsteps = 3\nmax_new_tokens = 12");
    demo_run(out, 24, loss)
        .per_device_train_batch_size(8)
        .max_steps(6)
        .learning_rate(1e-3)
        .save_steps(2)
        .test_size(HoldOut::Rows(6))
        .probe(toml::from_str::<ProbeConfig>(&probe).unwrap())
        .build()
        .unwrap()
}

#[test]
fn probe_reference_and_held_out_rows_are_dealt() {
    let dir = TempDir::new().unwrap();
    for kind in ["dpo", "kto"] {
        let of = |world: usize| {
            let config = probed(&dir.path().join(format!("{kind}-{world}")), loss(&format!("kind = \"{kind}\"")));
            run_on(world, &config)
        };
        let alone = of(1);
        assert!(alone[0].metric("probe/eos_rate").is_some() && alone[0].metric("eval_loss").is_some());
        for world in [2, 3] {
            assert_alike(&alone, &of(world));
        }
    }
}

/// Three steps, the last of which is saved; the checkpoint's directory.
fn three_steps(world: usize, config: TrainConfigBuilder, out: &Path) -> PathBuf {
    let config = config.output_dir(out).save_steps(3).learning_rate(1e-3).max_grad_norm(0.0);
    // Stopped after its third step, so that the checkpoint stays.
    let config = config.max_steps(4).build().unwrap();
    let (finishes, _) = train_on_ranks(world, &config, Some(3));
    assert!(finishes.into_iter().all(|finish| finish.unwrap() == Finish::Stopped { step: 3 }));
    out.join("checkpoints/step-3")
}

#[test]
fn moments_dealt_to_ranks_change_no_bit() {
    let dir = TempDir::new().unwrap();
    let lora = |config: TrainConfigBuilder| config.use_peft(true).lora_r(8).modules_to_save(["norm", "embed_tokens"]);
    let emulated = |config: TrainConfigBuilder| config.device(Choice::Emulated).bf16(true);
    type Change<'a> = &'a dyn Fn(TrainConfigBuilder) -> TrainConfigBuilder;
    let changes: [(&str, usize, Change<'_>); 6] = [
        ("float32", 2, &|config| config),
        ("float32", 5, &|config| config),
        ("8 bits", 3, &|config| config.optim(Optim::AdamW8bit)),
        ("bfloat16", 3, &|config| config.optim(Optim::AdamWBf16)),
        ("adapter", 3, &lora),
        ("device", 2, &emulated),
    ];
    for (name, world, change) in changes {
        let of = |zero_stage: u8| {
            let out = dir.path().join(format!("{name}-{world}-{zero_stage}"));
            let config = demo_run(&out, 8, loss("kind = \"smpo\"")).zero_stage(zero_stage).max_tokens_per_pack(150);
            three_steps(world, change(config), &out)
        };
        let (whole, dealt) = (of(0), of(1));
        let model = if name == "adapter" { "adapter_model.safetensors" } else { "model.safetensors" };
        for file in ["optimizer.safetensors".to_owned(), format!("model/{model}")] {
            let read = |from: &Path| std::fs::read(from.join(&file)).unwrap();
            assert!(read(&whole) == read(&dealt), "{name} on {world}: {file}");
        }
    }
}

#[test]
fn a_run_with_dealt_moments_resumes_with_any_number_of_ranks() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str, zero_stage: u8| {
        let mut config = probed(&dir.path().join(name), modified(WinsorScope::Window(64)));
        config.zero_stage = zero_stage;
        config
    };
    let alone = run_on(1, &at("alone", 0));
    for (name, first, then) in
        [("a", (4, 1), (1, 0)), ("b", (4, 1), (2, 1)), ("c", (1, 0), (3, 1)), ("d", (2, 1), (3, 0))]
    {
        let (finishes, mut records) = train_on_ranks(first.0, &at(name, first.1), Some(3));
        assert!(finishes.into_iter().all(|finish| finish.unwrap() == Finish::Stopped { step: 3 }), "{name}");
        records.extend(run_on(then.0, &at(name, then.1)));
        assert_alike(&alone, &records);
    }
}

#[test]
fn a_run_resumes_on_another_number_of_ranks() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| probed(&dir.path().join(name), modified(WinsorScope::Window(64)));
    let alone = run_on(1, &at("alone"));
    for (name, first, then) in [("a", 4, 1), ("b", 4, 2), ("c", 1, 3), ("d", 2, 5)] {
        let config = at(name);
        let (finishes, mut records) = train_on_ranks(first, &config, Some(3));
        assert!(finishes.into_iter().all(|finish| finish.unwrap() == Finish::Stopped { step: 3 }), "{name}");
        records.extend(run_on(then, &config));
        assert_alike(&alone, &records);
    }
}

/// A rank that ends after some operations, as a killed process does: without a word to the others.
#[derive(Debug)]
struct Mortal {
    rank: Threads,
    left: AtomicU64,
}

impl Mortal {
    fn live(&self) -> Result<&Threads, CollectiveError> {
        let alive = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        alive.map(|_| &self.rank).map_err(|_| CollectiveError::Gone(self.rank.rank()))
    }
}

impl Collective for Mortal {
    fn rank(&self) -> usize {
        self.rank.rank()
    }
    fn world(&self) -> usize {
        self.rank.world()
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
fn a_rank_that_dies_ends_the_others_and_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| probed(&dir.path().join(name), modified(WinsorScope::Step));
    let alone = run_on(1, &at("alone"));
    for (dying, operations) in [(1, 0), (1, 9), (2, 30), (0, 31), (1, 47), (2, 58)] {
        let config = at(&format!("{dying}-{operations}"));
        let outcomes = on_threads(3, |rank| {
            let left = if rank.rank() == dying { operations } else { u64::MAX };
            let ranks = Ranks::new(Mortal { rank, left: left.into() });
            train_on(&ranks, &config, EarlierRun::Resume, &AtomicBool::new(false), &mut |_| {}).unwrap_err()
        });
        for error in outcomes {
            assert!(
                matches!(&error, TrainError::Collective(CollectiveError::Gone(rank)) if *rank == dying),
                "{operations}: {error:?}"
            );
        }
        let checkpoints = config.output_dir.join("checkpoints");
        let saved = std::fs::read_dir(&checkpoints).map_or(0, |entries| entries.flatten().count());
        println!("rank {dying} after {operations} operations: {saved} checkpoints");
        assert!(!config.output_dir.join("model").exists());
        run_on(2, &config);
        let metrics = std::fs::read_to_string(config.output_dir.join("metrics.jsonl")).unwrap();
        let losses: Vec<f64> = metrics
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64())
            .collect();
        let expected: Vec<f64> = alone.iter().filter_map(|record| record.metric("loss")).collect();
        assert_eq!(losses.len(), expected.len());
        let close = |(got, expected): (&f64, &f64)| (got - expected).abs() < 2e-5;
        assert!(losses.iter().zip(&expected).all(close), "{losses:?} {expected:?}");
    }
}

#[test]
fn an_error_of_one_rank_is_told_to_all() {
    let dir = TempDir::new().unwrap();
    let config = |rows: usize| {
        demo_run(&dir.path().join("run"), rows, loss("kind = \"smpo\""))
            .max_steps(2)
            .learning_rate(1e-3)
            .build()
            .unwrap()
    };
    let outcomes = on_ranks(2, |ranks| {
        let mut config = config(8);
        if ranks.rank() == 1 {
            config.dataset = vec![dir.path().join("gone.jsonl")];
        }
        train_on(&ranks, &config, EarlierRun::Resume, &AtomicBool::new(false), &mut |_| {}).unwrap_err().to_string()
    });
    assert!(outcomes[1].contains("gone.jsonl"), "{outcomes:?}");
    assert_eq!(outcomes[0], format!("rank 1: {}", outcomes[1]));
}

#[test]
fn ranks_with_other_models_are_refused() {
    let settings = demo_run(Path::new("unused"), 8, loss("kind = \"smpo\"")).learning_rate(1e-3).build().unwrap();
    let errors = on_ranks(2, |ranks| {
        let mut decoder = Decoder::init(&Config::from_dir(demo("base")).unwrap(), 7).unwrap();
        if ranks.rank() == 1 {
            decoder.train_only(&["model.layers.0.*".to_owned()]).unwrap();
        }
        let options = LearnerOptions::of(&settings, decoder.spec(), MemoryBudget::host(), None).unwrap();
        let objective = Objective::new(settings.loss.clone()).unwrap();
        let mut learner = Learner::on_ranks(decoder, objective, options, ranks).unwrap();
        let rows = synthetic::pairs(4, 40, 500, |id| id % 97 == 0, 1);
        let rows: Vec<StepRow<'_>> = rows.iter().map(|row| StepRow { row, reference: None, other: None }).collect();
        learner.step(&rows, 0, 1e-3).unwrap_err().to_string()
    });
    assert!(errors.iter().all(|error| error.contains("expected as many values of every rank")), "{errors:?}");
}

/// A rank that notes the course of its sums, which are done only when they are waited for.
#[derive(Debug)]
struct Late {
    rank: Arc<Threads>,
    notes: Arc<Mutex<Vec<String>>>,
    started: AtomicU64,
}

/// A sum of [`Late`].
#[derive(Debug)]
struct LateSum {
    rank: Arc<Threads>,
    notes: Arc<Mutex<Vec<String>>>,
    number: u64,
    values: Vec<f32>,
    bounds: Option<Vec<usize>>,
}

impl Running for LateSum {
    fn is_done(&mut self) -> Result<bool, CollectiveError> {
        self.notes.lock().unwrap().push("mark".to_owned());
        Ok(false)
    }
    fn finish(mut self: Box<Self>) -> Result<Vec<f32>, CollectiveError> {
        self.notes.lock().unwrap().push(format!("end {}", self.number));
        match &self.bounds {
            Some(bounds) => self.rank.reduce_scatter(&mut self.values, bounds)?,
            None => self.rank.sum(&mut self.values)?,
        }
        Ok(self.values)
    }
}

impl Collective for Late {
    fn rank(&self) -> usize {
        self.rank.rank()
    }
    fn world(&self) -> usize {
        self.rank.world()
    }
    fn sum(&self, _: &mut [f32]) -> Result<(), CollectiveError> {
        unreachable!("gradients are summed beside the backward pass")
    }
    fn start_sum(&self, values: Vec<f32>, bounds: Option<&[usize]>) -> Result<Box<dyn Running>, CollectiveError> {
        let number = self.started.fetch_add(1, Ordering::SeqCst);
        self.notes.lock().unwrap().push(format!("start {number}"));
        let (rank, notes) = (Arc::clone(&self.rank), Arc::clone(&self.notes));
        Ok(Box::new(LateSum { rank, notes, number, values, bounds: bounds.map(<[usize]>::to_vec) }))
    }
    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.notes.lock().unwrap().push("gather".to_owned());
        self.rank.gather(bytes)
    }
    fn broadcast(&self, bytes: &mut Vec<u8>, from: usize) -> Result<(), CollectiveError> {
        self.rank.broadcast(bytes, from)
    }
    fn barrier(&self) -> Result<(), CollectiveError> {
        self.rank.barrier()
    }
}

/// Weights after two steps on a rank.
fn two_steps(settings: &TrainConfig, rows: usize, ranks: Ranks) -> Vec<u32> {
    let mut decoder = Decoder::init(&Config::from_dir(demo("base")).unwrap(), 7).unwrap();
    if settings.use_peft {
        let targets = vec!["all-linear".to_owned()];
        decoder.add_lora(&LoraConfig { r: 32, dropout: 0.2, targets, ..LoraConfig::default() }, 1).unwrap();
    }
    let options = LearnerOptions::of(settings, decoder.spec(), MemoryBudget::host(), None).unwrap();
    let objective = Objective::new(settings.loss.clone()).unwrap();
    let mut learner = Learner::on_ranks(decoder, objective, options, ranks).unwrap();
    let rows = synthetic::pairs(rows, 40, 500, |id| id % 97 == 0, 1);
    let rows: Vec<StepRow<'_>> = rows.iter().map(|row| StepRow { row, reference: None, other: None }).collect();
    (0..2).for_each(|step| drop(learner.step(&rows, step, 1e-3).unwrap()));
    let bits = |var: &candle_core::Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    learner.decoder().trainable().iter().flat_map(|(_, var)| bits(var)).map(f32::to_bits).collect()
}

#[test]
fn sums_start_while_the_backward_pass_runs_and_change_no_bit() {
    let window = || modified(WinsorScope::Window(64));
    let single = || loss("kind = \"smpo\"");
    type Case = (&'static str, LossConfig, bool, bool, u8, usize, usize, usize);
    // Name, loss, recomputed blocks, adapters with dropout, ZeRO, ranks, rows, tokens of a pack.
    let cases: [Case; 7] = [
        ("pairs", single(), false, false, 0, 3, 7, 150),
        ("recomputed", single(), true, false, 0, 2, 7, 150),
        ("whole step", window(), false, false, 0, 3, 7, 150),
        ("whole step, one pack", window(), true, false, 0, 2, 4, 100_000),
        ("moments dealt", single(), true, false, 1, 4, 7, 150),
        ("adapters", single(), false, true, 0, 2, 7, 150),
        ("ranks without packs", single(), false, true, 1, 4, 2, 100_000),
    ];
    for (name, loss, recomputed, peft, zero, world, rows, most) in cases {
        let settings = demo_run(Path::new("unused"), 8, loss).learning_rate(1e-3).zero_stage(zero);
        let settings = settings.max_tokens_per_pack(most);
        let settings = settings.gradient_checkpointing(recomputed).use_peft(peft).build().unwrap();
        let at_once = on_ranks(world, |ranks| two_steps(&settings, rows, ranks));
        let late = on_threads(world, |rank| {
            let notes = Arc::new(Mutex::new(Vec::new()));
            let late = Late { rank: Arc::new(rank), notes: Arc::clone(&notes), started: 0.into() };
            let weights = two_steps(&settings, rows, Ranks::new(late));
            let notes = notes.lock().unwrap().clone();
            (weights, notes)
        });
        let starts =
            |notes: &[String]| notes.iter().filter(|note| note.starts_with("start")).cloned().collect::<Vec<_>>();
        let first = starts(&late[0].1);
        assert!(first.len() > 4, "{name}: {first:?}");
        for (rank, (weights, notes)) in late.iter().enumerate() {
            assert!(*weights == at_once[rank] && *weights == at_once[0], "{name}: weights of rank {rank}");
            assert_eq!(starts(notes), first, "{name}: the order of sums is that of all ranks");
            // A mark of the backward pass comes between the start of one sum and that of another.
            let place = |wanted: &str| notes.iter().position(|note| note == wanted);
            let last = notes.iter().rposition(|note| note.starts_with("start")).unwrap();
            let overlaps = place("start 0").zip(place("mark")).is_some_and(|(start, mark)| start < mark && mark < last);
            // Packs are not cut for ranks where adapters have dropout: two rows are one pack.
            let has_pack = name != "ranks without packs" || rank == 0;
            assert_eq!(overlaps, has_pack, "{name}, rank {rank}: {notes:?}");
        }
    }
}
