"""The folder that a benchmark works in."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path


class folder:
    """The folder of a command: --keep, or one that vanishes."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.keep = args.keep

    def __enter__(self) -> Path:
        self.path = Path(self.keep or tempfile.mkdtemp(prefix="finetune-"))
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path

    def __exit__(self, *_: object) -> None:
        if not self.keep:
            shutil.rmtree(self.path, ignore_errors=True)
