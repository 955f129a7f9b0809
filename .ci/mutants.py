"""Mutation testing with one build: every mutant of cargo-mutants' list is compiled in behind a switch, and chosen when a test runs.

    python3 .ci/mutants.py                      # all scopes
    python3 .ci/mutants.py gate chat            # these
    python3 .ci/mutants.py --every 10           # every tenth mutant of each
    python3 .ci/mutants.py losses --again       # only what no test caught the last time

A mutant changes one operator, comparison, guard, match arm, field or result. cargo-mutants builds the crate anew for each; here one
build holds all of them, each test tells which it reaches, and a mutant is tried on those tests alone, the fastest first. What does
not compile is left out and counted, and so is what has no place for a switch: constants, results of opaque types. Survivors are
killed by a test, or argued equivalent in .cargo/mutants.toml, which takes them off the list. docs/reliability.md has the results.

Needs cargo-mutants (for its list) and the packages tree-sitter and tree-sitter-rust. Below target/mutants: `outcomes.jsonl` of each
scope, and a copy of the repository whose sources have the switches. The exit code is 1 if a mutant survived.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

from switches import RUNTIME, Source, blamed

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Scope: package, its files (all if none are named), the tests that are tried (all if none are named).
SCOPES = {
    "stats": ("smpo-stats", [], []),
    "gate": ("smpo-gate", [], []),
    "chat": ("smpo-chat", [], []),
    "metrics": ("smpo-metrics", [], []),
    "losses": ("smpo-losses", [], []),
    "truncation": ("smpo-data", ["**/truncation.rs"], ["--lib"]),
    "judge": ("smpo-trainer", ["**/early_stopping.rs", "**/retention.rs", "**/alarm.rs"], ["--lib"]),
}
CAUGHT, SLOW, SURVIVED, UNREACHED = "caught", "timed out", "survived", "not reached"
NOT_BUILT, NO_PLACE = "does not compile", "no place for a switch"


def output(command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def mutants_of(package, files):
    listed = json.loads(output(["cargo", "mutants", "--list", "--json", "--package", package, *(f"--file={f}" for f in files)], cwd=ROOT))
    for n, mutant in enumerate(listed):
        mutant["n"] = n
    return listed


def copy_of_the_repository(tree):
    shutil.rmtree(tree, ignore_errors=True)
    for name in output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)  # of now, or cargo takes what an earlier run built of it for fresh


class Scope:
    """The mutants of a scope, the tests that reach them, and what became of each."""

    def __init__(self, name, out, every, jobs, cases):
        self.name, self.out, self.tree, self.jobs = name, out / name, out / "tree", jobs
        self.package, files, tests = SCOPES[name]
        self.targets = tests or ["--tests"]
        self.mutants = mutants_of(self.package, files)[::every]
        of_file = collections.defaultdict(list)
        for mutant in self.mutants:
            of_file[mutant["file"]].append(mutant)
        self.sources = {path: Source((ROOT / path).read_bytes(), mutants) for path, mutants in sorted(of_file.items())}
        self.outcome = {n: NO_PLACE for source in self.sources.values() for n in source.without_place}
        self.crate = next(iter(self.sources)).split("/src/")[0]
        self.environment = os.environ | {
            "CARGO_TARGET_DIR": str(out / "target"), "RUSTFLAGS": "-Awarnings", "RUST_BACKTRACE": "0",
            "RUST_TEST_THREADS": "1", "RAYON_NUM_THREADS": "1",
            "PROPTEST_CASES": str(cases), "PROPTEST_RNG_SEED": "1", "PROPTEST_DISABLE_FAILURE_PERSISTENCE": "1",
        }
        self.out.mkdir(parents=True, exist_ok=True)

    def write(self):
        library = f"{self.crate}/src/lib.rs"
        for path, source in self.sources.items():
            (self.tree / path).write_text(source.switched(self.outcome))
        if library not in self.sources:
            shutil.copyfile(ROOT / library, self.tree / library)
        with open(self.tree / library, "a") as file:
            file.write(RUNTIME.replace("COUNT", str(1 + max(m["n"] for m in self.mutants))))

    def restore(self):
        for path in [*self.sources, f"{self.crate}/src/lib.rs"]:
            shutil.copyfile(ROOT / path, self.tree / path)

    def cargo(self, *arguments):
        command = ["cargo", *arguments, "--package", self.package, *self.targets, "--message-format", "json"]
        run = subprocess.run(command, cwd=self.tree, env=self.environment, capture_output=True, text=True)
        return run, [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]

    def build(self):
        """Leaves mutants out until the rest compiles; the test programs."""
        while True:
            self.write()
            run, messages = self.cargo("check")
            if run.returncode == 0:
                break
            errors = [m["message"] for m in messages if m.get("reason") == "compiler-message" and m["message"]["level"] == "error"]
            places, left_out = collections.defaultdict(set), len(self.outcome)
            for span in (span for error in errors for span in error["spans"] if span["is_primary"]):
                places[span["file_name"]].add((span["byte_start"], span["byte_end"]))
            for file in places.keys() & self.sources.keys():
                within, around = blamed((self.tree / file).read_bytes(), places[file])
                self.outcome |= {n: NOT_BUILT for n in within} | {n: NO_PLACE for n in around}
            if len(self.outcome) == left_out:
                rendered = "\n".join(error["rendered"] for error in errors)
                sys.exit(f"{self.name}: these errors belong to no mutant:\n{rendered[:4000]}{run.stderr[-2000:]}")
        run, messages = self.cargo("test", "--no-run")
        if run.returncode:
            sys.exit(run.stderr[-4000:])
        return [m["executable"] for m in messages if m.get("executable") and m["profile"]["test"]]

    def run(self, program, tests, seconds, **environment):
        """True if these tests pass, None if they take more than so many seconds of processor time; a busy machine fails none."""

        def limits():
            resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))

        try:
            status = subprocess.run(
                [program, "--exact", *tests], cwd=self.tree / self.crate, env=self.environment | environment, preexec_fn=limits,
                timeout=60 + 10 * seconds, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ).returncode
        except subprocess.TimeoutExpired:
            return None
        return None if status in (-signal.SIGXCPU, -signal.SIGKILL) else status == 0

    def tests_of(self, program):
        names = lambda *more: output([program, "--list", "--format", "terse", *more], cwd=self.tree / self.crate, env=self.environment)
        ignored = names("--ignored").splitlines()
        return [line.removesuffix(": test") for line in names().splitlines() if line.endswith(": test") and line not in ignored]

    def reach(self, programs):
        """Per mutant the tests that reach it, with their seconds."""

        def one(numbered):
            number, (program, test) = numbered
            record = self.out / f"reached-{number}"
            record.unlink(missing_ok=True)
            begun = time.monotonic()
            passed = self.run(program, [test], 600, SMPO_MUTANTS_REACHED=str(record))
            seconds = time.monotonic() - begun
            found = {int(n) for n in record.read_text().split()} if record.exists() else set()
            record.unlink(missing_ok=True)
            if not passed:
                print(f"{self.name}: left out, it does not pass without a mutant: {test}", flush=True)
            return program, test, seconds, found if passed else set()

        tests = [(program, test) for program in programs for test in self.tests_of(program)]
        reached = collections.defaultdict(list)
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            for program, test, seconds, found in pool.map(one, enumerate(tests)):
                for n in found:
                    reached[n].append((seconds, program, test))
        print(f"{self.name}: {len(tests)} tests, {len(reached)} of {len(self.mutants)} mutants reached", flush=True)
        return reached

    def attempt(self, n, reached):
        """Outcome of a mutant. Fast tests of a program share a process; the fastest come first."""
        batches = []
        for seconds, program, test in sorted(reached[n]):
            batch = next((b for b in batches if b["program"] == program and b["seconds"] + seconds < 0.5), None)
            if batch is None:
                batches.append(batch := {"program": program, "seconds": 0.0, "tests": []})
            batch["seconds"] += seconds
            batch["tests"].append(test)
        for batch in sorted(batches, key=lambda batch: batch["seconds"]):
            passed = self.run(batch["program"], batch["tests"], 3 + 5 * batch["seconds"], SMPO_MUTANT=str(n))
            if not passed:
                return SLOW if passed is None else CAUGHT
        return SURVIVED if batches else UNREACHED

    def all(self, again):
        """Tries the mutants, writes and prints the outcomes; the number of survivors."""
        record = self.out / "outcomes.jsonl"
        reached = self.reach(self.build())
        if again and record.exists():
            before = {row["name"]: row["outcome"] for row in map(json.loads, record.read_text().splitlines())}
            caught = {m["n"]: before[m["name"]] for m in self.mutants if before.get(m["name"]) in (CAUGHT, SLOW)}
            self.outcome = caught | self.outcome
        numbers = [m["n"] for m in self.mutants if m["n"] not in self.outcome]
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            self.outcome |= zip(numbers, pool.map(lambda n: self.attempt(n, reached), numbers))
        self.restore()
        record.write_text("".join(json.dumps({"name": m["name"], "outcome": self.outcome[m["n"]]}) + "\n" for m in self.mutants))
        counts = collections.Counter(self.outcome.values()).most_common()
        print(f"{self.name}: {len(self.mutants)} mutants:", ", ".join(f"{outcome} {count}" for outcome, count in counts), flush=True)
        survivors = [m["name"] for m in self.mutants if self.outcome[m["n"]] in (SURVIVED, UNREACHED)]
        print("".join(f"  {name}\n" for name in survivors), end="", flush=True)
        return len(survivors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scopes", nargs="*", metavar="SCOPE", help=", ".join(SCOPES))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth mutant")
    parser.add_argument("--again", action="store_true", help="only what no test caught the last time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="mutants at once")
    parser.add_argument("--cases", type=int, default=32, metavar="N", help="cases of each property test")
    a = parser.parse_args()
    if unknown := set(a.scopes) - SCOPES.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; scopes: {', '.join(SCOPES)}")
    out = ROOT / "target/mutants"
    copy_of_the_repository(out / "tree")
    survived = sum(Scope(scope, out, a.every, a.jobs, a.cases).all(a.again) for scope in a.scopes or SCOPES)
    sys.exit(1 if survived else 0)


main()
