"""`python -m smpo` is `smpo`."""

import subprocess
import sys

from ._program import program

if __name__ == "__main__":
    try:
        sys.exit(subprocess.run([program(), *sys.argv[1:]]).returncode)
    except KeyboardInterrupt:  # the program was told too, and saved its work
        sys.exit(130)
