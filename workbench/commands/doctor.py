"""`workbench doctor`: is the installation sound, does a checkpoint compute right, is mini good."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import workbench.commands._shared as shared
from workbench._version import DISTRIBUTION, __version__
from workbench.commands.evaluate import add_exam_arguments, examine_model
from workbench.errors import OptionError
from workbench.settings import FIRST_HELD_OUT_SEED, Settings

if TYPE_CHECKING:
    from workbench.generation.parity import ParityReport

OK, WARN, FAIL = "ok", "warn", "fail"

_REINSTALL = "install again: pip install " + (
    "--constraint constraints.txt --editable ."
    if (Path(__file__).resolve().parents[2] / "constraints.txt").is_file()
    else "--force-reinstall FILE.whl, the wheel that it came from"
)

#: DICOM transfer syntaxes that a chest radiograph may come in, by pydicom's name.
_SYNTAXES = (
    "RLELossless", "JPEGBaseline8Bit", "JPEGExtended12Bit", "JPEGLosslessSV1", "JPEGLSLossless",
    "JPEG2000Lossless", "JPEG2000",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    vectors = (
        "compare with reference vectors: a folder with checkpoints/, golden/ and images/, or one "
        "of its checkpoints; exit 1 on any miss"
    )
    shared.option(what, "--parity DIR", vectors, type=Path)
    shared.option(what, "--mini", "examine the model on unseen phantoms", action="store_true")
    exam = parser.add_argument_group("with --mini")
    unseen = "first phantom; below 10,000,000 is not unseen"
    shared.option(exam, "--seed N", unseen, default=FIRST_HELD_OUT_SEED)
    add_exam_arguments(exam)
    shared.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.parity:
        return _parity(args)
    if args.mini:
        return examine_model(args)
    return _environment(args) if args.model == "mini" else _model(args)


def _model(args: argparse.Namespace) -> int:
    from workbench.backends.checks import check
    from workbench.backends.vlm_reader import VlmReader, is_vlm, load_vlm
    from workbench.model.source import resolve_source

    found = resolve_source(args.model)
    if not is_vlm(found.directory):
        raise OptionError(
            f"{found.name} is no image-text-to-text model of transformers; compare a CXR-LLaVA "
            "checkpoint with reference vectors by --parity DIR"
        )
    shared.loading(args)
    device, dtype = args.device or "auto", args.dtype or "auto"
    checks = check(VlmReader(*load_vlm(found, device=device, dtype=dtype, verify=False)))
    return _compared(args, checks)


def _parity(args: argparse.Namespace) -> int:
    from workbench.generation.parity import compare

    return _compared(args, compare(args.parity, progress=not args.json))


def _compared(args: argparse.Namespace, report: ParityReport) -> int:
    cells = []
    for row in report.rows:
        numbers = ["-" if n is None else f"{n:.2e}" for n in (row.max_abs_diff, row.tolerance)]
        verdict = "ok" if row.ok else "MISS"
        cells.append((row.case, row.array, *numbers, row.measure, verdict, row.note))
    header = ("case", "array", "difference", "tolerance", "measured as", "verdict", "note")
    said = [shared.table(cells, header=header), str(report)]
    return shared.answer(args, report.to_dict(), said, good=report.ok)


# --- the installation ----------------------------------------------------------------------------


class Check(NamedTuple):
    """What was looked at, "ok", "warn" or "fail", what is there, and the repair where one helps."""

    check: str
    status: str
    found: str
    repair: str = ""


def _environment(args: argparse.Namespace) -> int:
    checks = (_packages, _bytecode, _machine, _codecs, _notebooks, _mini)
    rows = [row for check in checks for row in check()]
    lines = []
    for row in rows:
        lines.append(f"{row.status:4}  {row.check:13}  {row.found}")
        lines += [f"{'':19}  -> {row.repair}"] if row.repair else []
    statuses = [row.status for row in rows]
    worried = len(rows) - statuses.count(OK)
    lines.append(f"{worried} of {len(rows)} need a look" if worried else "everything is in order")
    sound = FAIL not in statuses
    found = {"ok": sound, "rows": [row._asdict() for row in rows]}
    return shared.answer(args, found, lines, good=sound)


def _judged(check: str, good: bool, found: str, repair: str, *, bad: str = FAIL) -> Check:
    """Return a row whose repair is needed only where something is not good."""
    return Check(check, OK, found) if good else Check(check, bad, found, repair)


def _packages() -> Iterator[Check]:
    from packaging.requirements import Requirement

    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Check("python", OK, python)
    own = _version(DISTRIBUTION)
    if own is None:
        note = f"{__version__}, run from its folder without being installed"
        yield Check("workbench", WARN, note, _REINSTALL)
        return
    yield Check("workbench", OK, own)
    core = [Requirement(one) for one in requires(DISTRIBUTION) or [] if "extra ==" not in one]
    found = {need.name: _version(need.name) for need in core}
    shown = ("torch", "transformers", "numpy", "pydicom", "pillow")
    versions = ", ".join(f"{name} {found[name]}" for name in shown if found.get(name))
    missing = [name for name, there in found.items() if there is None]
    yield Check("libraries", OK, f"{len(core) - len(missing)} of {len(core)} found: {versions}")
    if missing:
        yield Check("libraries", FAIL, f"missing: {', '.join(missing)}", _REINSTALL)
    outside = [
        f"{need.name} {there} (needs {need.specifier})"
        for need in core
        if (there := found[need.name]) and not need.specifier.contains(there, prereleases=True)
    ]
    if outside:
        yield Check("libraries", WARN, f"out of range: {', '.join(outside)}", _REINSTALL)


def _version(distribution: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(distribution)
    return None


def _bytecode() -> Iterator[Check]:
    import torch

    source = Path(torch.__file__)
    compiled = Path(importlib.util.cache_from_source(str(source))).is_file()
    found = "compiled at install" if compiled else "missing: every start compiles anew, about 40 s"
    repair = f"{sys.executable} -m compileall -q -j 2 {source.parents[1]}"
    yield _judged("bytecode", compiled, found, repair, bad=WARN)


def _machine() -> Iterator[Check]:
    import psutil
    import torch

    from workbench.model.placement import find_hardware

    yield Check("cpu", OK, f"{torch.get_num_threads()} threads")
    hardware = find_hardware()
    for gpu in hardware.gpus:
        yield Check(gpu.device, OK, f"{gpu.name}, {gpu.free / 2**30:.0f} GiB free, {gpu.dtype}")
    if hardware.mps:
        yield Check("mps", OK, "Apple GPU")
    elif not hardware.gpus:
        yield Check("gpu", OK, "none: mini runs on the CPU; the 7B model wants a GPU of 16 GB")
    free = psutil.virtual_memory().available / 2**30
    repair = "close other programs: a report with mini takes up to 1.5 GiB"
    yield _judged("memory", free >= 1.5, f"{free:.1f} GiB available", repair, bad=WARN)


def _codecs() -> Iterator[Check]:
    from pydicom import uid
    from pydicom.pixels import get_decoder  # pyright: ignore[reportPrivateImportUsage]

    missing = [name for name in _SYNTAXES if not get_decoder(getattr(uid, name)).is_available]
    found = f"{len(_SYNTAXES)} compressed transfer syntaxes decode"
    found = f"cannot decode {', '.join(missing)}" if missing else found
    repair = "pip install python-gdcm pylibjpeg pylibjpeg-openjpeg pylibjpeg-rle"
    yield _judged("dicom codecs", not missing, found, repair)


def _notebooks() -> Iterator[Check]:
    from jupyter_client.kernelspec import KernelSpecManager

    good = "python3" in KernelSpecManager().find_kernel_specs()
    found = "kernel python3" if good else "no kernel named python3"
    repair = f"{sys.executable} -m ipykernel install --sys-prefix"
    yield _judged("notebooks", good, found, repair)
    yield Check("settings", OK, "offline" if Settings.from_env().offline else "network allowed")


def _mini() -> Iterator[Check]:
    """The weights in the package are those its model card was written for."""
    from workbench.errors import WorkbenchError
    from workbench.model.card import card

    try:
        mini = card("mini")
    except WorkbenchError as error:
        yield Check("mini", FAIL, " ".join(str(error).split()), _REINSTALL)
        return
    (file, digest), *_ = mini.sha256s.items()
    found = f"{mini.parameters['total']:,} parameters, {file} sha256 {digest[:12]}"
    recorded = mini.facts.get("sha256", {}).get(file, digest)
    found += "" if recorded == digest else f", but its card says {recorded[:12]}"
    yield _judged("mini", recorded == digest, found, _REINSTALL)
