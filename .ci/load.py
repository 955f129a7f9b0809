#!/usr/bin/env python3
"""Memory, file descriptors and bookkeeping under load; called by `.ci/nightly load`.

    .ci/load.py SMPO DIR [results] [data] [soak] [server]

Each part prints its figures and fails beyond its bounds. SMPO_LOAD=full takes the sizes that docs/reliability.md names, SMPO_LOAD=hours
those too, two hours of training and one of the server; without it they are a tenth, for a few minutes on two cores.
"""
import gzip
import http.server
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

SMPO, DIR = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
ROOT = Path(__file__).resolve().parent.parent
LOAD = os.environ.get("SMPO_LOAD", "")
if LOAD not in ("", "full", "hours"):
    sys.exit(f"SMPO_LOAD is {LOAD!r}, expected full, hours or none")
FULL = LOAD != ""
MIB = 1 << 20
PADDING = "as long as prompts are " * 60
# KiB of memory for each prompt with three samples; of two runs where a command takes two.
BOUNDS = {"score": 1.8, "gate": 1.8, "leaderboard": 1.8}
failures = []


def expect(holds, message):
    print(("ok    " if holds else "FAILED ") + message, flush=True)
    if not holds:
        failures.append(message)


def peak(*arguments, codes=(0, 3)):
    """Runs smpo; its peak of memory in MiB and its seconds."""
    begun = time.time()
    process = subprocess.Popen([SMPO, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    error = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in codes:
        sys.exit(f"{arguments[0]} ended with {code}: {error[-500:]}")
    return usage.ru_maxrss / 1024, time.time() - begun


def results():
    """score, gate and board of many prompts: the peak grows by a known number of bytes per prompt."""
    prompts = 1_000_000 if FULL else 20_000
    words = "a an answer and are as at by for from in is it not of on or that the this to was which with you".split()
    peaks = {}
    for size in (prompts // 2, prompts):
        for name, seed in (("a", 1), ("b", 2)):
            draw = random.Random(seed)
            with open(DIR / "completions.jsonl", "w") as file:
                for prompt in range(size):
                    for sample in range(3):
                        row = {"prompt_id": f"p{prompt}", "sample": sample, "prompt": f"Question {prompt}?",
                               "completion": " ".join(draw.choices(words, k=20)) + ".", "model": name,
                               "finish_reason": "eos" if draw.random() < 0.97 else "length", "tokens": 24}
                        file.write(json.dumps(row) + "\n")
            shutil.rmtree(DIR / name, ignore_errors=True)
            measured = peak("score", DIR / "completions.jsonl", "--out", DIR / name)
        peaks["score", size] = measured
        peaks["gate", size] = peak("gate", "--baseline", DIR / "a", "--candidate", DIR / "b", "--inconclusive", "pass")
        peaks["leaderboard", size] = peak("leaderboard", DIR / "a", DIR / "b", "--out", DIR / "board")
    for command in ("score", "gate", "leaderboard"):
        (small, _), (large, seconds) = peaks[command, prompts // 2], peaks[command, prompts]
        slope = (large - small) * MIB / (prompts - prompts // 2)
        print(f"{command}: {prompts} prompts x 3: peak {large:.0f} MiB, {slope / 1024:.1f} KiB a prompt, {seconds:.0f} s")
        expect(slope < BOUNDS[command] * 1024, f"{command}: {slope / 1024:.1f} KiB a prompt, bound {BOUNDS[command]}")
        if FULL:
            expect(large < 2048, f"{command}: {large:.0f} MiB for {prompts} prompts, bound 2 GiB")


def data():
    """`smpo data check` of preference files of two sizes: the peak is the same, what finds duplicates is on disk."""
    # Both have more rows than are held in memory.
    sizes = {"": (600, 1200), "full": (1000, 5000), "hours": (5000, 50000)}[LOAD]
    # Compressed, fifty gigabytes need no disk of that size.
    compressed = LOAD == "hours"
    path = DIR / ("preferences.jsonl.gz" if compressed else "preferences.jsonl")
    # Each row in two pieces, around the number of its question.
    rows = [json.loads(line) for line in open(ROOT / "datasets/demo/preferences.jsonl")]
    rows = [row | {"prompt": [{"role": "user", "content": f"Question <number>: {PADDING}"}]} for row in rows]
    rows = [json.dumps(row).encode().split(b"<number>") for row in rows]
    peaks, counts = [], []
    for size in sizes:
        written, number = 0, 0
        with gzip.open(path, "wb", 1) if compressed else open(path, "wb") as file:
            while written < size * MIB:
                numbers = range(number, number + len(rows))
                written += file.write(b"".join(b"%s%d%s\n" % (head, n, tail) for n, (head, tail) in zip(numbers, rows)))
                number += len(rows)
        memory, seconds = peak("data", "check", path, codes=(0, 1))
        peaks.append(memory)
        counts.append(number)
        print(f"data check: {size} MiB, {number} rows: peak {memory:.0f} MiB, {seconds:.0f} s, {size / seconds:.0f} MiB/s")
        path.unlink()
    growth = (peaks[1] - peaks[0]) * MIB / (counts[1] - counts[0])
    expect(growth < 10, f"data check: {growth:.1f} bytes of memory for each row, bound 10")


def usage(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return resident, len(os.listdir(f"/proc/{pid}/fd"))


def soak():
    """Training with probe, evaluation and checkpoints: memory and file descriptors are flat."""
    seconds = {"": 60, "full": 600, "hours": 7200}[LOAD]
    base = ROOT / "datasets/demo"
    run = DIR / "soak"
    shutil.rmtree(run, ignore_errors=True)
    (DIR / "soak.toml").write_text(f"""
model_name_or_path = "{base}/base"
output_dir = "{run}"
dataset = "{base}/preferences.jsonl"
dataset_sample = 200
eval_dataset = "{base}/held_out.jsonl"
max_length = 256
per_device_train_batch_size = 8
max_steps = 100000
save_steps = 20
eval_steps = 20
learning_rate = 1e-5
report_to = ["tensorboard", "openmetrics"]
[probe]
prompts = "{base}/ood.jsonl"
steps = 20
max_prompts = 16
max_new_tokens = 32
[loss]
kind = "simpo"
""")
    process = subprocess.Popen([SMPO, "train", DIR / "soak.toml"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=open(DIR / "soak.log", "w"))
    samples, begun = [], time.time()
    while time.time() - begun < seconds and process.poll() is None:
        samples.append(usage(process.pid))
        time.sleep(0.2)
    if process.poll() is not None:
        sys.exit(f"soak: ended with {process.poll()}: {(DIR / 'soak.log').read_text()[-500:]}")
    process.terminate()
    code = process.wait(timeout=120)
    steps = sum(1 for _ in open(run / "metrics.jsonl"))
    # from the second of four parts on, when everything has been done once
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[3 * quarter :]
    mean = lambda part: sum(memory for memory, _ in part) / len(part)
    files = max(files for _, files in late), max(files for _, files in early)
    growth = mean(late) / mean(early) - 1
    print(f"soak: {steps} steps in {seconds} s, {mean(late):.0f} MiB, {files[0]} file descriptors")
    expect(code == 130, f"soak: SIGTERM ends it with {code}, expected 130")
    expect(growth <= 0.01, f"soak: memory grows by {growth:.2%} between the second and the last quarter, bound 1 %")
    expect(files[0] <= files[1], f"soak: {files[0]} file descriptors at the end, {files[1]} before")


class Misbehaving(http.server.BaseHTTPRequestHandler):
    """Answers by the question alone, or refuses, breaks off, waits or sends garbage."""

    protocol_version = "HTTP/1.1"
    draw, lock, served, faults = random.Random(7), threading.Lock(), 0, 0

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if LOAD == "hours":
            time.sleep(0.2)  # an hour of waiting, not of work
        with self.lock:
            dice = self.draw.random()
            Misbehaving.served += 1
            Misbehaving.faults += dice < 0.3
        text = asked["messages"][-1]["content"][::-1]
        body = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}],
                           "usage": {"completion_tokens": len(text)}}).encode()
        if dice < 0.06:
            self.hang_up()
        elif dice < 0.12:
            self.answer(503, b"overloaded", len(b"overloaded"))
        elif dice < 0.18:
            self.answer(429, b"slower", len(b"slower"), {"Retry-After": "0"})
        elif dice < 0.24:
            self.answer(200, body[: len(body) // 2], len(body))
            self.hang_up()
        elif dice < 0.30:
            time.sleep(0.3)
            self.answer(500, b"<html>", 6)
        else:
            self.answer(200, body, len(body))

    def hang_up(self):
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def answer(self, status, body, length, headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def server():
    """A server that misbehaves on three requests of ten: nothing is lost, nothing is counted twice."""
    prompts, samples = {"": (300, 4), "full": (2000, 4), "hours": (12000, 4)}[LOAD]
    http.server.ThreadingHTTPServer.handle_error = lambda *_: None
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    suite, out = DIR / "suite.jsonl", DIR / "served"
    shutil.rmtree(out, ignore_errors=True)
    suite.write_text("".join(json.dumps({"id": f"p{n}", "prompt": f"Question number {n}?"}) + "\n" for n in range(prompts)))
    command = [SMPO, "eval", f"http://127.0.0.1:{served.server_port}/v1", "--model", "served", "--suite", suite,
               "--out", out, "--samples", str(samples), "--concurrency", "8"]
    begun, calls = time.time(), 0
    while True:
        calls += 1
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
        rows = [json.loads(line) for line in open(out / "samples.jsonl")]
        if done.returncode == 0 and all(row["finish_reason"] != "error" for row in rows):
            break
        if calls == 20 or done.returncode not in (0, 4):
            sys.exit(f"server: call {calls} ended with {done.returncode}: {done.stderr[-500:]}")
    keys = [(row["prompt_id"], row["sample"]) for row in rows]
    texts = all(row["completion"] == f"Question number {row['prompt_id'][1:]}?"[::-1] for row in rows)
    print(f"server: {Misbehaving.served} requests, {Misbehaving.faults} of them met a fault, {calls} calls, {time.time() - begun:.0f} s")
    expect(len(keys) == len(set(keys)) == prompts * samples, f"server: {len(set(keys))} samples, expected {prompts * samples}, none twice")
    expect(texts, "server: every sample is the answer to its own question")
    metrics = json.loads((out / "metrics.json").read_text())
    expect(str(prompts) in json.dumps(metrics), f"server: the metrics count {prompts} prompts")


DIR.mkdir(parents=True, exist_ok=True)
for part in sys.argv[3:] or ["results", "data", "soak", "server"]:
    {"results": results, "data": data, "soak": soak, "server": server}[part]()
sys.exit(bool(failures))
