"""`python -m docs.lab`, the first half of `make lab`: copies of the lessons to work in.

JupyterLab writes outputs into whatever it opens, so a learner gets copies and the lessons of the
repository stay as they are. Run again, a copy that somebody has changed is kept; one that nobody
has changed follows its lesson. Where both have changed, the new lesson is put beside the copy.

Does not know: JupyterLab.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What lies in a copy as it does in the repository, since lessons name it relative to their folder.
FOLDERS = ("notebooks", "data_manifests")
#: In the folder of the copies: name of each file -> SHA-256 of the lesson that it was copied from.
NOTE = ".copied.json"
NEWER = ".newer"


@dataclass
class Copied:
    """What became of the files.

    Attributes:
        written: new, or changed with their lesson.
        kept: changed by somebody and therefore left alone.
        beside: new lessons beside copies that were kept.
    """

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)


def copy_lessons(out: Path, *, root: Path = ROOT) -> Copied:
    """Copy the lessons and what they read into a folder; see the module.

    Args:
        out: folder of the copies; made if it is not there.
        root: the repository.
    """
    out.mkdir(parents=True, exist_ok=True)
    note = out / NOTE
    known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    found = Copied()
    for source in sorted(path for name in FOLDERS for path in (root / name).rglob("*")):
        if source.is_file() and ".ipynb_checkpoints" not in source.parts:
            name = source.relative_to(root).as_posix()
            known[name] = _copy(source, out / name, known.get(name), name, found)
    note.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return found


def _copy(source: Path, copy: Path, before: str | None, name: str, found: Copied) -> str:
    """Copy one file unless it was changed; return the hash of what it was copied from."""
    now = _sha256(source)
    there = _sha256(copy) if copy.is_file() else None
    if there == now:
        return now
    newer = copy.with_name(f"{copy.stem}{NEWER}{copy.suffix}")
    if there is not None and there != before:
        found.kept.append(name)
        if before != now and before is not None:
            shutil.copy(source, newer)
            found.beside.append(newer.name)
        return now
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, copy)
    found.written.append(name)
    return now


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    """Make the copies in out/lab and say where they are."""
    out = ROOT / "out" / "lab"
    found = copy_lessons(out)
    print(f"Your copies of the lessons are in {out / 'notebooks'}; what you change there is kept.")
    if found.kept:
        print(f"Kept as you left them: {', '.join(Path(name).name for name in found.kept)}.")
    if found.beside:
        print(f"Newer lessons lie beside yours: {', '.join(found.beside)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
