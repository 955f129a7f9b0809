"""Draws flagged answers of all files, long or short, to be read.

    python draw_flags.py SAMPLE CLONES SCORED flags.jsonl [COUNT]
"""
import hashlib
import json
import sys

from answers import different
from scored import flags

SEED = {"first": "20261129", "second": "20261201"}


def order(sample, sha):
    """A random order that does not depend on which answers are flagged."""
    return hashlib.sha256(f"{SEED[sample]}{sha}".encode()).hexdigest()


def main(sample, clones, scored, out, count=150):
    flagged = flags(scored)
    pool = {answer.sha256: answer for answer in different(sample, clones) if flagged[answer.sha256]}
    drawn = sorted(pool, key=lambda sha: order(sample, sha))[: int(count)]
    with open(out, "w") as f:
        for number, sha in enumerate(drawn):
            a = pool[sha]
            f.write(json.dumps({"n": number, "source": a.source, "file": a.file, "model": a.model, "question": a.question,
                                "sha256": sha, "characters": len(a.text), "detectors": flagged[sha]}) + "\n")
    print(f"{len(pool)} different answers flagged, {len(drawn)} drawn")


if __name__ == "__main__":
    main(*sys.argv[1:])
