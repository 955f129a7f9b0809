"""Training speed and memory of `smpo train` and its Python peers, on the same model, pairs and threads, in one run.

    pip install torch transformers trl peft datasets
    cargo build --release
    python benches/peers/step.py                      # workload A against all peers
    python benches/peers/step.py --workload B --trainers smpo torch-smpo
    python benches/peers/step.py --workload D --trainers smpo
    python benches/peers/step.py --pairs pairs.jsonl  # real pairs instead of made ones
    python benches/peers/step.py --trainers smpo smpo-ranks   # one process against ranks of `mpirun` (a build with the feature `mpi`)

Tokens are counted as a padding-free trainer without shared prompts feeds them: prompt and completion, the prompt once a
side. Each trainer runs `--rounds` times, in turn; the first two steps of a run are left out; figures are medians over
steps, and ratios are of medians. Memory is the peak resident set of the whole process, of ranks that of the largest.
"""
import argparse, json, os, pathlib, statistics, subprocess, sys, tempfile

from workloads import WORKLOADS, make_model, make_pairs

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: What each trainer's own objective is called in a configuration of ours: ours is compared with a peer on the same work.
LOSSES = {
    "smpo": 'kind = "smpo"\nloss_type = "smooth_lower_bound"\nuse_margin_schedule = false',
    "smpo-modified": 'kind = "smpo"\neos_term = "invert"\nlower_clip_percentile = 0.02\nmin_log_prob = -2.3',
    "smpo-simpo": 'kind = "simpo"\nbeta = 2.0\ngamma = 1.0',
    "smpo-dpo": 'kind = "dpo"\nbeta = 0.1',
}
RANKS = "smpo-ranks"  # as "smpo", on `--ranks` processes that share the threads
LOSSES[RANKS] = LOSSES["smpo"]


def run(command, **more):
    """Runs a process to its end; returns its peak resident memory in MB."""
    process = subprocess.Popen(command, **more)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, command))} failed; see above")
    return usage.ru_maxrss / 1024


def ours(trainer, workload, args, pairs, model, work):
    config = work / "run.toml"
    lines = [f'model_name_or_path = "{model}"', f'output_dir = "{work / "run"}"', f'dataset = "{pairs}"',
             f"max_length = {workload.max_length}", f"max_prompt_length = {workload.max_length - 8}",
             f"per_device_train_batch_size = {workload.batch}", "learning_rate = 1e-5",
             f"max_steps = {workload.steps}", f"gradient_checkpointing = {str(workload.checkpointing).lower()}"]
    if workload.lora:
        lines += ["use_peft = true", "lora_dropout = 0.0", f"lora_r = {workload.lora}", f"lora_alpha = {workload.lora}"]
    lines += args.set
    config.write_text("\n".join(lines) + f"\n[loss]\n{LOSSES[trainer]}\n")
    command = [args.smpo, "train", config, "--restart", "--threads", str(args.threads)]
    if trainer == RANKS:
        command[-1] = str(max(args.threads // args.ranks, 1))
        command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", str(args.ranks), *command]
    memory = run(command, stdout=subprocess.DEVNULL)
    steps = [json.loads(line) for line in open(work / "run" / "metrics.jsonl")]
    return [step["tokens_per_s"] for step in steps][2:], memory


def peer(trainer, workload, args, pairs, model, work):
    job = dict(trainer=trainer, model=str(model), pairs=str(pairs), threads=args.threads, batch=workload.batch,
               steps=workload.steps, max_length=workload.max_length, lora=workload.lora,
               checkpointing=workload.checkpointing)
    (work / "job.json").write_text(json.dumps(job))
    out = work / "out.jsonl"
    memory = run([sys.executable, pathlib.Path(__file__).with_name("peer.py"), work / "job.json"],
                 stdout=open(out, "w"), stderr=None if args.verbose else subprocess.DEVNULL)
    seconds = json.loads(out.read_text().splitlines()[-1])["seconds"]
    tokens = token_counts(workload, pairs, model)
    return [t / s for t, s in zip(tokens, seconds)][2:], memory


def token_counts(workload, pairs, model, cache={}):
    """Tokens of each step, in file order."""
    if model not in cache:
        cache[model] = apart(f"count_tokens({str(model)!r}, {str(pairs)!r}, {workload.max_length}, {workload.batch})")
    return cache[model]


def apart(call):
    """A function of `workloads`, called in a process of its own: a process starts with its parent's peak memory as its
    own, so this one must stay small."""
    code = f"import json; from workloads import *; print(json.dumps({call}))"
    made = subprocess.run([sys.executable, "-c", code], cwd=pathlib.Path(__file__).parent, stdout=subprocess.PIPE, check=True)
    return json.loads(made.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="A", choices=WORKLOADS)
    parser.add_argument("--trainers", nargs="+", default=["smpo", "smpo-simpo", "smpo-dpo", "torch-smpo", "trl-simpo", "trl-dpo"],
                        choices=[*LOSSES, "torch-smpo", "trl-simpo", "trl-dpo"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--ranks", type=int, default=2, help="processes of smpo-ranks")
    parser.add_argument("--smpo", type=pathlib.Path, default=ROOT / "target/release/smpo")
    parser.add_argument("--pairs", type=pathlib.Path, help="preference pairs instead of made ones")
    parser.add_argument("--set", action="append", default=[], help="a line for the configuration of ours")
    parser.add_argument("--work", type=pathlib.Path, help="keep models and pairs here and use them again")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    workload = WORKLOADS[args.workload]
    work = args.work or pathlib.Path(tempfile.mkdtemp())
    work = (work / args.workload).resolve()
    work.mkdir(parents=True, exist_ok=True)
    pairs, model = work / "pairs.jsonl", work / "model"
    if not pairs.exists():
        if args.pairs:
            lines = args.pairs.read_text(encoding="utf-8").splitlines(True)[: workload.steps * workload.batch]
            pairs.write_text("".join(lines), encoding="utf-8")
        else:
            make_pairs(pairs, workload)
    if not model.exists():
        apart(f"make_model({str(model)!r}, WORKLOADS[{args.workload!r}], {str(pairs)!r})")
    print(f"workload {args.workload}: {workload.text}; {args.threads} threads; "
          f"{statistics.median(token_counts(workload, pairs, model)):.0f} tokens a step")
    rates, memory = {t: [] for t in args.trainers}, {t: 0.0 for t in args.trainers}
    for _ in range(args.rounds):
        for trainer in args.trainers:
            measure = ours if trainer in LOSSES else peer
            speeds, peak = measure(trainer, workload, args, pairs, model, work)
            rates[trainer] += speeds
            memory[trainer] = max(memory[trainer], peak)
    weights = (model / "model.safetensors").stat().st_size / 2**20 if (model / "model.safetensors").exists() else 0
    print(f"{'trainer':<16}{'tokens/s':>10}{'quartiles':>16}{'peak MB':>9}{'over weights':>14}")
    for trainer in args.trainers:
        low, median, high = statistics.quantiles(rates[trainer], n=4) if len(rates[trainer]) > 1 else rates[trainer] * 3
        median = statistics.median(rates[trainer])
        print(f"{trainer:<16}{median:>10.0f}{f'{low:.0f}–{high:.0f}':>16}{memory[trainer]:>9.0f}{memory[trainer] - weights:>14.0f}")
    if {"smpo", RANKS} <= set(args.trainers):
        share = statistics.median(rates[RANKS]) / statistics.median(rates["smpo"])
        print(f"{args.ranks} ranks / one process: {share:.2f}× the speed")
    for trainer in (t for t in args.trainers if t in LOSSES):
        for other in (t for t in args.trainers if t not in LOSSES):
            speed = statistics.median(rates[trainer]) / statistics.median(rates[other])
            print(f"{trainer} / {other}: {speed:.2f}× the speed, 1/{memory[other] / memory[trainer]:.1f} of the memory")


main()
