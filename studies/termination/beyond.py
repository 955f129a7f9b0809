"""28 pairs of equal length whose prompts the arms of real.py have not seen, of the world of lengths.py: what was learned beside the length?

    python3 studies/termination/beyond.py OUT        # writes OUT/beyond.jsonl; then `smpo logps` of each arm on it, and held_out.py
"""

import json
import sys
from pathlib import Path

import real

COUNT = 28


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    rows = [json.loads(line) for line in (out / "confirm-lengths-equal/preferences.jsonl").read_text().splitlines()]
    real.write(out / "beyond.jsonl", [row for row in rows if real.part(row["prompt"])[0] == "development"][:COUNT])


if __name__ == "__main__":
    main()
