"""`python -m tests.fuzz`: damaged files and texts for every reader, for as long as you like.

    python -m tests.fuzz --seconds 60
    python -m tests.fuzz --count 100000 --out out/fuzz.json
    python -m tests.fuzz --count 2000 --only DICOM --seed 7

Exits with 1 where anything but an error of the workbench came out, a process died, or an input
took more than five seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.fuzz.running import fuzz


def main() -> int:
    """Run the fuzzer and say what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--count", type=int, default=0, help="inputs")
    parser.add_argument("--seconds", type=float, default=0.0, help="instead of a count")
    parser.add_argument("--seed", type=int, default=0, help="other inputs")
    parser.add_argument("--only", default="", help="readers whose name holds this")
    parser.add_argument("--out", type=Path, help="also write the result as JSON there")
    args = parser.parse_args()
    if bool(args.count) == bool(args.seconds):
        parser.error("give one of --count and --seconds")
    outcome = fuzz(
        count=args.count, seconds=args.seconds, seed=args.seed, only=args.only, show=True
    )
    text = json.dumps(outcome.to_dict(), indent=1)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())
