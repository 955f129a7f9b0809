//! The body on NCCL, driven against a stand-in that records every call and exchanges values between processes:
//! `cargo test --release -p smpo-collectives --features nccl --test nccl`. Needs a C compiler, and no GPU.

#![cfg(feature = "nccl")]

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use smpo_collectives::{Collective, CollectiveError, DeviceOperation, DeviceType, DeviceValues, Launched, Nccl};

/// A directory with the two libraries.
fn libraries() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nccl/stub.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-w", "-o"]).arg(dir.join("libnccl.so.2")).arg(source);
        assert!(cc.status().unwrap().success());
        // One library under both names: what one half knows, the other does too.
        std::os::unix::fs::symlink("libnccl.so.2", dir.join("libcuda.so.1")).unwrap();
        dir
    })
}

/// Starts the test `work` of this file as a rank.
fn start(work: &str, rank: usize, world: usize, dir: &Path, variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", work, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("LD_LIBRARY_PATH", libraries()).env("STUB_DIR", dir);
    command.env("RANK", rank.to_string()).env("WORLD_SIZE", world.to_string()).env("LOCAL_RANK", rank.to_string());
    command.env("MASTER_ADDR", "node-0").env("MASTER_PORT", "29500").env_remove("NCCL_COMM_ID");
    command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Outputs and calls of each rank.
struct Told {
    outputs: Vec<Output>,
    logs: Vec<Vec<String>>,
    /// With the looks at streams.
    all: Vec<Vec<String>>,
}

impl Told {
    /// The words of a rank: the error of a failed one.
    fn said(&self, rank: usize) -> String {
        let Output { stdout, stderr, .. } = &self.outputs[rank];
        format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr))
    }
}

fn on_ranks(work: &str, world: usize, variables: &[(&str, &str)]) -> Told {
    let dir = tempfile::tempdir().unwrap();
    let started: Vec<Child> = (0..world).map(|rank| start(work, rank, world, dir.path(), variables)).collect();
    let outputs: Vec<Output> = started.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let log = |rank: usize| fs::read_to_string(dir.path().join(format!("log-{rank}"))).unwrap_or_default();
    let all: Vec<Vec<String>> = (0..world).map(|rank| log(rank).lines().map(str::to_owned).collect()).collect();
    let calls = |log: &Vec<String>| log.iter().filter(|line| *line != "cuStreamQuery").cloned().collect();
    Told { outputs, logs: all.iter().map(calls).collect(), all }
}

fn joined() -> Result<Nccl, CollectiveError> {
    Nccl::start(&Launched::from_env().unwrap().expect("several ranks"))
}

fn of(rank: usize, at: usize) -> f32 {
    (rank + 1) as f32 * 0.1 + at as f32
}

fn sums(world: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| (1..world).fold(of(0, at), |sum, rank| sum + of(rank, at))).collect()
}

#[test]
#[ignore = "a rank of the tests below"]
fn every_operation() {
    let nccl = joined().unwrap();
    let (rank, world) = (nccl.rank(), nccl.world());
    for count in [0, 1, 1000] {
        let mut values: Vec<f32> = (0..count).map(|at| of(rank, at)).collect();
        nccl.sum(&mut values).unwrap();
        assert_eq!(values, sums(world, count));
    }
    let mut bounds = vec![0];
    (0..world).for_each(|rank| bounds.push(bounds[rank] + [5, 0, 3][rank % 3]));
    let mut values: Vec<f32> = (0..bounds[world]).map(|at| of(rank, at)).collect();
    nccl.reduce_scatter(&mut values, &bounds).unwrap();
    let own = bounds[rank]..bounds[rank + 1];
    assert_eq!(values[own.clone()], sums(world, bounds[world])[own]);
    nccl.all_gather(&mut values, &bounds).unwrap();
    assert_eq!(values, sums(world, bounds[world]));
    let all = nccl.gather(&vec![7; rank]).unwrap();
    assert_eq!(all, (0..world).map(|rank| vec![7; rank]).collect::<Vec<_>>());
    let mut bytes = if rank == 1 { b"words".to_vec() } else { vec![1; 9] };
    nccl.broadcast(&mut bytes, 1).unwrap();
    assert_eq!(bytes, b"words");
    nccl.barrier().unwrap();
    let error = nccl.sum(&mut vec![0.0; 2 + rank]).unwrap_err();
    assert!(matches!(error, CollectiveError::Lengths { .. }), "{error:?}");
    println!("all is well");
}

#[test]
fn operations_give_what_they_promise_and_are_called_as_nccl_wants() {
    for world in [2, 3] {
        let told = on_ranks("every_operation", world, &[]);
        for rank in 0..world {
            assert!(told.said(rank).contains("all is well"), "{}", told.said(rank));
            let log = &told.logs[rank];
            let start = [
                format!("cuDeviceGet {rank}"),
                "cuStreamCreate 1".to_owned(),
                "cuEventCreate 2".to_owned(),
                "ncclGetUniqueId node-0:29501".to_owned(),
                format!(
                    "ncclCommInitRankConfig world {world} id node-0:29501 rank {rank} blocking 0 size 24 version 21400"
                ),
                // The number of values, then the values.
                "ncclAllGather count 8 dtype 1".to_owned(),
                "ncclAllReduce count 0 dtype 7 op 0 root -1 in place 1".to_owned(),
                "ncclAllGather count 8 dtype 1".to_owned(),
                "ncclAllReduce count 1 dtype 7 op 0 root -1 in place 1".to_owned(),
            ];
            assert_eq!(log[..start.len()], start);
            // A reduction to each owner that has values, in one group.
            let group = log.iter().position(|line| line == "ncclGroupStart").unwrap();
            assert_eq!(log[group + 1], "ncclReduce count 5 dtype 7 op 0 root 0 in place 1");
            let end = if world == 3 {
                assert_eq!(log[group + 2], "ncclReduce count 3 dtype 7 op 0 root 2 in place 1");
                group + 3
            } else {
                group + 2
            };
            assert_eq!(log[end], "ncclGroupEnd");
            assert_eq!(log[log.len() - 2..], ["ncclCommFinalize", "ncclCommDestroy"]);
            assert!(!log.contains(&"ncclCommAbort".to_owned()));
        }
    }
}

#[test]
#[ignore = "a rank of the test below"]
fn device_operations() {
    let nccl = joined().unwrap();
    let (rank, world) = (nccl.rank(), nccl.world());
    // The stand-in's GPU has the memory of the process.
    let mut first = [of(rank, 0), of(rank, 1)];
    let mut second = [of(rank, 2); 3];
    let mut halves = [0x3f80u16 + rank as u16; 4]; // bfloat16: 1 and a little more
    let values = |owner: usize, address: u64, len: usize, dtype| DeviceValues { address, len, dtype, owner };
    let parts = [
        values(0, first.as_mut_ptr() as u64, 2, DeviceType::Float32),
        values(1, second.as_mut_ptr() as u64, 3, DeviceType::Float32),
    ];
    // SAFETY: both are alive and used by nothing else.
    assert!(unsafe { nccl.on_device(DeviceOperation::SumOnOwner, &parts) }.unwrap());
    assert_eq!(first, if rank == 0 { [sums(world, 2)[0], sums(world, 2)[1]] } else { [of(rank, 0), of(rank, 1)] });
    // SAFETY: as above.
    assert!(unsafe { nccl.on_device(DeviceOperation::Spread, &parts) }.unwrap());
    assert_eq!((first[1], second), (sums(world, 3)[1], [sums(world, 3)[2]; 3]));
    // SAFETY: as above.
    assert!(unsafe { nccl.on_device(DeviceOperation::Sum, &parts[..1]) }.unwrap());
    assert_eq!(first[1], (1..world).fold(sums(world, 2)[1], |sum, _| sum + sums(world, 2)[1]));
    let part = values(1, halves.as_mut_ptr() as u64, 4, DeviceType::Bfloat16);
    // SAFETY: as above.
    assert!(unsafe { nccl.on_device(DeviceOperation::Spread, &[part]) }.unwrap());
    assert_eq!(halves, [0x3f81; 4]);
    println!("all is well");
}

#[test]
fn values_on_gpus_stay_there_and_wait_for_what_was_started() {
    let told = on_ranks("device_operations", 2, &[]);
    for rank in 0..2 {
        assert!(told.said(rank).contains("all is well"), "{}", told.said(rank));
        let log = told.logs[rank].join("\n");
        let expected = [
            "cuEventRecord of the default stream",
            "cuStreamWaitEvent",
            "ncclGroupStart",
            "ncclReduce count 2 dtype 7 op 0 root 0 in place 1",
            "ncclReduce count 3 dtype 7 op 0 root 1 in place 1",
            "ncclGroupEnd",
            "cuEventRecord of the default stream",
            "cuStreamWaitEvent",
            "ncclGroupStart",
            "ncclBroadcast count 2 dtype 7 root 0 in place 1",
            "ncclBroadcast count 3 dtype 7 root 1 in place 1",
            "ncclGroupEnd",
        ];
        assert!(log.contains(&expected.join("\n")), "{log}");
        assert!(log.contains("ncclBroadcast count 4 dtype 9 root 1 in place 1"), "{log}");
    }
}

/// Writes a line between the calls.
fn note(line: &str) {
    let path = Path::new(&env::var("STUB_DIR").unwrap()).join(format!("log-{}", env::var("RANK").unwrap()));
    let mut log = fs::OpenOptions::new().append(true).open(path).unwrap();
    writeln!(log, "{line}").unwrap();
}

#[test]
#[ignore = "a rank of the test below"]
fn sums_beside_other_work() {
    let nccl = joined().unwrap();
    let (rank, world) = (nccl.rank(), nccl.world());
    let mut buckets: Vec<Vec<f32>> = (0..3).map(|bucket| vec![of(rank, bucket); 4]).collect();
    for (number, bucket) in buckets.iter_mut().enumerate() {
        note(&format!("backward through block {}", 2 - number));
        let (address, len) = (bucket.as_mut_ptr() as u64, bucket.len());
        let values = DeviceValues { address, len, dtype: DeviceType::Float32, owner: 0 };
        // SAFETY: the values are alive, and used by nothing else before the end.
        assert!(unsafe { nccl.start_on_device(DeviceOperation::Sum, &[values]) }.unwrap());
    }
    note("end of the backward pass");
    nccl.finish_on_device().unwrap();
    let expected: Vec<Vec<f32>> = sums(world, 3).into_iter().map(|sum| vec![sum; 4]).collect();
    assert_eq!(buckets, expected);
    println!("all is well");
}

#[test]
fn sums_run_beside_the_backward_pass_and_are_waited_for_at_its_end() {
    let told = on_ranks("sums_beside_other_work", 2, &[]);
    for rank in 0..2 {
        assert!(told.said(rank).contains("all is well"), "{}", told.said(rank));
        let mut expected = Vec::new();
        for block in [2, 1, 0] {
            // Behind what the block has started, and nothing is waited for.
            expected.extend([
                format!("backward through block {block}"),
                "cuEventRecord of the default stream".to_owned(),
                "cuStreamWaitEvent".to_owned(),
                "ncclGroupStart".to_owned(),
                "ncclAllReduce count 4 dtype 7 op 0 root -1 in place 1".to_owned(),
                "ncclGroupEnd".to_owned(),
            ]);
        }
        expected.extend(["end of the backward pass".to_owned(), "cuStreamQuery".to_owned()]);
        let log = told.all[rank].join("\n");
        assert!(log.contains(&expected.join("\n")), "{log}");
    }
}

#[test]
#[ignore = "a rank of the tests below"]
fn one_sum_after_another() {
    let nccl = match joined() {
        Ok(nccl) => nccl,
        Err(error) => return println!("start: {error}"),
    };
    for _ in 0..3 {
        if let Err(error) = nccl.sum(&mut [1.0, 2.0]) {
            let again = nccl.barrier().unwrap_err();
            return println!("error: {error}; again: {again}");
        }
    }
    println!("no error");
}

fn aborts(told: &Told, rank: usize) -> usize {
    told.logs[rank].iter().filter(|line| *line == "ncclCommAbort").count()
}

#[test]
fn errors_end_in_an_abort() {
    for (failing, at, said) in [
        ("ncclAllReduce", "1", "error: ncclAllReduce: internal error"),
        ("ncclAllGather", "2", "error: ncclAllGather: internal error"),
        ("async", "20", "internal error"),
    ] {
        let told = on_ranks("one_sum_after_another", 2, &[("STUB_FAIL", failing), ("STUB_FAIL_AT", at)]);
        for rank in 0..2 {
            let text = told.said(rank);
            assert!(
                text.contains(said) && text.contains("again: ncclAllGather: an earlier operation has failed"),
                "{text}"
            );
            assert_eq!(aborts(&told, rank), 1, "{failing}");
            assert!(!told.logs[rank].iter().any(|line| line == "ncclCommDestroy"), "an aborted communicator is gone");
        }
    }
}

#[test]
fn a_rank_that_does_not_take_part_ends_in_an_abort() {
    let began = Instant::now();
    for silent in ["ncclCommInitRankConfig", "ncclAllReduce"] {
        let told = on_ranks("one_sum_after_another", 2, &[("STUB_SILENT", silent), ("SMPO_NCCL_TIMEOUT", "1")]);
        for rank in 0..2 {
            let text = told.said(rank);
            assert!(text.contains("another rank did not take part within 1 s"), "{text}");
            assert_eq!(aborts(&told, rank), 1, "{silent}");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_does_not_start_says_why() {
    for (variables, said) in [
        (
            &[("STUB_FAIL", "ncclGetUniqueId")][..],
            "start: NCCL: ncclGetUniqueId: internal error; the ranks meet at node-0:29501",
        ),
        (&[("STUB_FAIL", "ncclCommInitRankConfig")], "start: NCCL: ncclCommInitRankConfig: internal error"),
        (&[("STUB_FAIL", "cuInit")], "start: NCCL: GPU 1: cuInit: CUDA_ERROR_NO_DEVICE"),
        (&[("SMPO_NCCL_TIMEOUT", "soon")], "SMPO_NCCL_TIMEOUT: expected a number of seconds, got `soon`"),
        (&[("MASTER_PORT", "65535")], "MASTER_PORT: expected a port from 1 to 65534, got `65535`"),
        (&[("LD_LIBRARY_PATH", "/nowhere")], "libnccl.so.2"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let output = start("one_sum_after_another", 1, 2, dir.path(), variables).wait_with_output().unwrap();
        let told = Told { outputs: vec![output], logs: Vec::new(), all: Vec::new() };
        assert!(told.said(0).contains(said), "{}", told.said(0));
    }
}
