"""Draws flagged answers of all files, long or short, to be read.

    python draw_flags.py CLONES SCORED flags.jsonl [COUNT]
"""
import hashlib
import json
import sys

from answers import read_all
from scored import flags

SEED = "20261129"


def order(sha):
    """A random order that does not depend on which answers are flagged."""
    return hashlib.sha256(f"{SEED}{sha}".encode()).hexdigest()


def main(clones, scored, out, count=150):
    flagged = flags(scored)
    pool, missing = {}, 0
    for a in read_all(clones):
        missing += a.sha256 not in flagged
        if flagged.get(a.sha256):
            pool.setdefault(a.sha256, a)
    drawn = sorted(pool, key=order)[: int(count)]
    with open(out, "w") as f:
        for number, sha in enumerate(drawn):
            a = pool[sha]
            f.write(json.dumps({"n": number, "source": a.source, "file": a.file, "model": a.model, "question": a.question,
                                "sha256": sha, "characters": len(a.text), "detectors": flagged[sha]}) + "\n")
    print(f"{len(pool)} different answers flagged, {len(drawn)} drawn; {missing} answers were not scored")


if __name__ == "__main__":
    main(*sys.argv[1:])
