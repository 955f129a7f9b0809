"""The parts of benches/gpu.sh, each with a limit, until the time is used up. Exits with 1 if a part failed."""
import importlib.util, json, os, pathlib, shutil, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMPO, DEVICE, OUT = os.environ["SMPO"], os.environ["DEVICE"], pathlib.Path(os.environ["OUT"])
TINY = os.environ["SHAPES"] == "tiny"
DEADLINE = time.monotonic() + float(os.environ.get("SECONDS_LEFT", 480))
ON_GPU = DEVICE.startswith("cuda")

#: Name, options of both trainers, options of smpo's alone, and the peers that train the same.
PEERS = ["torch-smpo", "trl-simpo"]
LONG = ["--length", "2048", "--batch-size", "8", "--steps", "5", "--warmup", "2"]
#: Random weights that all cores draw.
BF16 = ["--base", "bfloat16"]
BENCHES = [
    ("1.5b-lora", ["--shape", "qwen2.5-1.5b", "--lora-r", "128", *LONG], BF16, PEERS),
    ("0.5b-full", ["--shape", "qwen2.5-0.5b", *LONG], [], PEERS),
    ("1.5b-qlora", ["--shape", "qwen2.5-1.5b", "--lora-r", "128", *LONG], ["--base", "nf4"], []),
    ("1.5b-lora-checkpointing", ["--shape", "qwen2.5-1.5b", "--lora-r", "128", *LONG, "--checkpointing"], BF16, PEERS),
    ("1.5b-lora-one-pair-a-pack", ["--shape", "qwen2.5-1.5b", "--lora-r", "128", *LONG],
     [*BF16, "--max-tokens-per-pack", "3070"], []),
    ("7b-lora", ["--shape", "qwen2.5-7b", "--lora-r", "128", *LONG, "--checkpointing"], BF16, []),
    ("7b-qlora", ["--shape", "qwen2.5-7b", "--lora-r", "128", *LONG, "--checkpointing"], ["--base", "nf4"], []),
]
SMALL = ["--shape", "tiny", "--lora-r", "4", "--length", "64", "--batch-size", "4", "--steps", "3", "--warmup", "1"]
TINY_BENCHES = [("tiny-lora", SMALL, [], PEERS), ("tiny-qlora", SMALL, ["--base", "nf4", "--max-tokens-per-pack", "128"], [])]
PACKAGES = {"torch-smpo": ["torch", "transformers", "peft"], "trl-simpo": ["torch", "trl", "peft", "datasets"]}

#: Shape, sequences, tokens of each.
DECODES = [("tiny", 4, 40)] if TINY else [("qwen2.5-1.5b", 16, 1024), ("qwen2.5-1.5b", 64, 1024), ("qwen2.5-1.5b", 256, 1024)]

report = {"schema": 1, "device": DEVICE, "parts": [], "benches": [], "decode": []}


def left():
    return DEADLINE - time.monotonic()


def part(name, command, limit, **options):
    """Runs a command; its outcome and what it printed."""
    began = time.monotonic()
    limit = min(limit, left())
    if limit < 5:
        return outcome(name, "skipped", began, "no time left"), ""
    print(f"{name}: {' '.join(map(str, command))}", flush=True)
    try:
        done = subprocess.run([str(word) for word in command], timeout=limit, capture_output=True, text=True, **options)
    except subprocess.TimeoutExpired:
        return outcome(name, "timed out", began, f"{limit:.0f} s"), ""
    except OSError as error:
        return outcome(name, "failed", began, str(error)), ""
    if done.returncode == 0:
        return outcome(name, "passed", began, ""), done.stdout
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    errors = [line for line in said if "error" in line.lower()]
    reason = (errors or said or [""])[-1]
    return outcome(name, "failed", began, f"exit {done.returncode}: {reason[:300]}"), done.stdout


def outcome(name, status, began, reason):
    found = {"part": name, "status": status, "seconds": round(time.monotonic() - began, 1), "reason": reason}
    report["parts"].append(found)
    print(f"{name}: {status} {reason}", flush=True)
    write()
    return found


def skip(name, reason):
    outcome(name, "skipped", time.monotonic(), reason)


def card():
    if not ON_GPU:
        return skip("card", f"{DEVICE} is no GPU")
    query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm"
    _, said = part("card", ["nvidia-smi", query, "--format=csv,noheader"], 20)
    report["card"] = said.strip()


def program():
    _, said = part("version", [SMPO, "--version"], 20)
    report["version"] = said.strip()


def selftest():
    device = "emulated" if DEVICE == "cpu" else DEVICE  # the CPU itself is what others are compared with
    _, said = part("selftest", [SMPO, "selftest", "--device", device, "--format", "json"], 120 if ON_GPU else 300)
    report["selftest"] = json.loads(said) if said.strip().startswith("{") else None
    if ON_GPU:
        _, said = part("selftest --large", [SMPO, "selftest", "--device", device, "--large", "--format", "json"], 120)
        report["selftest_large"] = json.loads(said) if said.strip().startswith("{") else None


def bench(name, trainer, options, own):
    """A row of the table; without one where a trainer cannot run."""
    label = f"{name} {trainer}"
    lacking = [package for package in PACKAGES.get(trainer, []) if importlib.util.find_spec(package) is None]
    if lacking:
        return skip(label, f"no Python package {', '.join(lacking)}")
    command = [sys.executable, ROOT / "benches/peers/gpu.py", "--json", "--device", DEVICE, "--smpo", SMPO,
               "--trainers", trainer, *options, *(f"--smpo-option={option}" for option in own)]
    _, said = part(label, command, 150 if ON_GPU else 300)
    if said.strip():
        found = json.loads(said.splitlines()[-1])
        if found.get(trainer):
            report["benches"].append({"bench": name, "trainer": trainer, "options": options + own, **found[trainer]})
            write()


def decode(shape, batch, context):
    """Steps of sampling."""
    command = [SMPO, "bench", "decode", "--shape", shape, "--batch-size", batch, "--context", context, "--device", DEVICE,
               "--format", "json"]
    _, said = part(f"decode {shape} × {batch}", command, 60 if ON_GPU else 120)
    if said.strip().startswith("{"):
        report["decode"].append(json.loads(said))
        write()


def sampling():
    """Tokens a second of the native engine."""
    model = os.environ.get("MODEL", ROOT / "datasets/demo/base")
    with tempfile.TemporaryDirectory() as scratch:
        prompts = pathlib.Path(scratch) / "prompts.jsonl"
        count, cap = (16, 16) if TINY else (256, 256)
        prompts.write_text("".join(json.dumps({"prompt": f"Question {index}"}) + "\n" for index in range(count)))
        out = pathlib.Path(scratch) / "answers"
        command = [SMPO, "generate", "--prompts", prompts, "--engine", "native", "--device", DEVICE, "--batch", 64,
                   "--cap", cap, "--temperature", 1, "--no-fidelity-check", "--out", out, model]
        found, _ = part("sampling", command, 120)
        if found["status"] == "passed":
            rows = [json.loads(line) for line in (out / "responses.jsonl").read_text().splitlines()]
            tokens = sum(sum(row["completion_tokens"]) if isinstance(row["completion_tokens"], list)
                         else row["completion_tokens"] for row in rows)
            report["sampling"] = {"model": str(model), "batch": 64, "answers": len(rows), "tokens": tokens,
                                  "tokens_per_s_with_loading": tokens / found["seconds"]}
            write()


def sanitizer():
    """compute-sanitizer on one step of a tiny model: it is some hundred times slower."""
    program = shutil.which("compute-sanitizer")
    if not ON_GPU or program is None:
        return skip("compute-sanitizer", "not on the path" if ON_GPU else f"{DEVICE} is no GPU")
    step = [SMPO, "bench", "step", "--device", DEVICE, "--shape", "tiny", "--lora-r", "4", "--length", "128",
            "--batch-size", "2", "--steps", "1", "--warmup", "0"]
    for tool in ["memcheck", "racecheck", "synccheck", "initcheck"]:
        part(f"compute-sanitizer {tool}", [program, "--tool", tool, "--error-exitcode", "9", *step], 60)


def write():
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    lines = [f"{report.get('version', 'smpo')} on {report.get('card') or DEVICE}", "",
             "| bench | trainer | tokens/s | peak memory | utilisation |", "|---|---|---|---|---|"]
    for row in report["benches"]:
        share = f"{100 * row['mfu']:.0f} %" if row.get("mfu") else "–"
        memory = f"{row['memory'] / 1e9:.2f} GB" if row.get("memory") else "–"
        trainer = row["trainer"] + (f" ({row['note'].rstrip('; ')})" if row.get("note") else "")
        lines.append(f"| {row['bench']} | {trainer} | {row['tokens_per_s']:,.0f} | {memory} | {share} |")
    if report["decode"]:
        lines += ["", "| sampling | sequences | tokens of each | tokens/s | ms a step | of the measured bandwidth |", "|---|---|---|---|---|---|"]
        for row in report["decode"]:
            share = f"{100 * row['share']:.0f} %" if row.get("share") else "–"
            lines.append(f"| {row['shape']} | {row['batch_size']} | {row['context']} | {row['tokens_per_s']['median']:,.0f} | "
                         f"{1e3 * row['seconds']['median']:.2f} | {share} |")
    if "sampling" in report:
        sampled = report["sampling"]
        lines += ["", f"Sampling from {sampled['model']}, batch {sampled['batch']}: {sampled['tokens']} tokens, "
                      f"{sampled['tokens_per_s_with_loading']:,.0f} tokens/s with loading"]
    lines += ["", "| part | outcome | seconds | |", "|---|---|---|---|"]
    lines += [f"| {row['part']} | {row['status']} | {row['seconds']} | {row['reason']} |" for row in report["parts"]]
    (OUT / "gpu.md").write_text("\n".join(lines) + "\n")


def main():
    card()
    program()
    selftest()
    benches = TINY_BENCHES if TINY else BENCHES
    for name, options, own, _ in benches:
        bench(name, "smpo", options, own)
    for shape, batch, context in DECODES:
        decode(shape, batch, context)
    sampling()
    for name, options, own, peers in benches:
        for trainer in peers:
            bench(name, trainer, options, own)
    sanitizer()
    write()
    print((OUT / "gpu.md").read_text())
    print(f"{OUT / 'gpu.json'} and {OUT / 'gpu.md'} have it")
    return 1 if any(row["status"] in ("failed", "timed out") for row in report["parts"]) else 0


sys.exit(main())
