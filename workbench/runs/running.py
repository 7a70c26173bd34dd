"""`wb.run`: a model over a manifest, resumable, in one folder."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from workbench.backends.levels import WRITER, needs
from workbench.errors import OptionError, check_one_of, check_whole
from workbench.generation.options import DecodingOptions, decoding_settings
from workbench.model.prompt import PUBLISHED_PROMPTS, Prompts
from workbench.runs.items import Items
from workbench.runs.plan import ENGINES, RunPlan, Task, read_tasks
from workbench.runs.record import check_same, kept_places, now, place, read_record, write_record
from workbench.runs.result import RunResult
from workbench.runs.store import DONE, FAILED, RunStore

if TYPE_CHECKING:
    from workbench.data import Cohort, Manifest
    from workbench.interface import ChestXrayModel
    from workbench.runs.ray_engine import RayEngine
    from workbench.runs.worker import BlockWorker

_LOG = logging.getLogger(__name__)


@needs(WRITER)
def run(
    manifest: Manifest | str | os.PathLike,
    *,
    model: ChestXrayModel | str | os.PathLike = "mini",
    tasks: Sequence[str | Mapping | Task] | str = ("report",),
    out: str | os.PathLike,
    root: str | os.PathLike | None = None,
    cohort: Cohort | str | os.PathLike | None = None,
    engine: str = "local",
    batch_size: int = 8,
    fit: str = "crop",
    upright: bool = False,
    retry_failed: bool = False,
    progress: bool = False,
    workers: int | None = None,
    address: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str | None = None,
    revision: str | None = None,
    prompts: str | Prompts | None = None,
    **decoding: Unpack[DecodingOptions],
) -> RunResult:
    """Run a model over every image of a manifest, or resume a run that was interrupted.

    Args:
        manifest: a `Manifest` or its file; a file is read as a stream, whatever its length.
        model: a loaded model, or what `wb.load_model` loads; with engine "ray" the latter, since
            every worker loads its own.
        tasks: "report", "differential", {"ask": question, "name": optional}; all tasks of an image
            share what was computed for it.
        out: folder of the run; made where it is not there.
        root: folder that the paths are relative to. It is kept in the run; by default the one that
            is kept there, else that of the manifest.
        cohort: a frozen cohort that the manifest must be.
        engine: "local" or "ray" (several GPUs or machines; extra `ray`).
        batch_size: answers decoded together at most. It is part of the settings: in 16 bit, near
            ties may fall otherwise in other company.
        fit: "crop" as published, or "pad".
        upright: turn or mirror images as their files say, see `load_radiograph`. It is kept in the
            run, and a review shows them as the model got them.
        retry_failed: try failed rows again.
        progress: show a bar with rate and time left on stderr.
        workers: of engine "ray"; by default one for each GPU, or one for each CPU but one.
        address: of a Ray cluster; None starts one on this machine that listens on loopback only.
        device, dtype, quantize, revision, prompts: as for `wb.load_model`.
        **decoding: see `DecodingOptions`; greedy by default. The seed of a row comes from `seed`
            (0 by default), the row and the task.

    Raises:
        RunError: the folder is in use, full, read-only, or holds a run with other settings. What
            was finished is kept, and the same call resumes.
        InputError: the manifest cannot be read, or is not the cohort.
        OptionError: an option is not allowed.
        MissingDependencyError: engine "ray" without the extra.

    >>> wb.run(manifest, model=model, root="images", out="runs/first").done
    6
    """
    started = time.perf_counter()
    plan = RunPlan(read_tasks(tasks), decoding_settings(decoding), batch_size, fit, upright)
    options = {"device": device, "dtype": dtype, "quantize": quantize, "revision": revision}
    options["prompts"] = prompts
    _check_engine(engine, workers, address)
    if cohort is not None:
        from workbench.data import Manifest, load, verify

        whole = manifest if isinstance(manifest, Manifest) else load(manifest, check=False)
        verify(whole, cohort).require()
    items = Items(manifest, root, kept_places(read_record(Path(out)), Path(out)))
    with RunStore(out) as store:
        ray = {"workers": workers, "address": address} if engine == "ray" else None
        with _engine(model, options, plan, items.root, ray) as chosen:
            record = _begin(store, chosen, plan, items)
            if retry_failed:
                _LOG.info("%d blocks with failed rows are tried again", store.forget_failures())
            for number, rows in _watched(store, chosen, plan, items, progress):
                store.add(number, rows)
        store.export()
        counts = store.counts()
        seconds = time.perf_counter() - started
        outcome = {**counts, "rows": sum(counts.values()), "seconds": round(seconds, 3)}
        with store.writing():
            write_record(store.folder, {**record, "outcome": {**outcome, "finished": now()}})
    return RunResult(Path(out), outcome["rows"], counts[DONE], counts[FAILED], seconds)


def _begin(store: RunStore, engine: BlockWorker | RayEngine, plan: RunPlan, items: Items) -> dict:
    """Compare the settings with those of the folder, and write down that a session begins."""
    described = engine.describe()
    model, asked = described.pop("model"), plan.to_dict(described.pop("prompts"))
    fixed = {"model": model, "manifest": items.identity, **asked}
    old = read_record(store.folder)
    if old:
        # runs of before there was a choice
        before = {"upright": False, **old["fixed"]}
        before["model"] = {"prompts": PUBLISHED_PROMPTS.version, **before["model"]}
        check_same(before, fixed, store.folder)
    sessions = old.get("sessions", [])
    if sessions and sessions[-1]["versions"] != described["versions"]:
        _LOG.warning("package versions differ from those that began this run; see run.json")
    session = {"started": now(), "engine": engine.name, "manifest": items.name, **described}
    session["root"] = place(items.root, store.folder)
    if items.folder is not None:
        session["manifest_folder"] = place(items.folder, store.folder)
    record = {"fixed": fixed, "sessions": [*sessions, session]}
    with store.writing():
        write_record(store.folder, record)
    return record


def _watched(
    store: RunStore, engine: BlockWorker | RayEngine, plan: RunPlan, items: Items, show: bool
) -> Iterator[tuple[int, list[dict]]]:
    """Yield finished blocks under a bar that counts rows, those of earlier sessions included."""
    from tqdm import tqdm

    counts = store.counts()
    failed = counts[FAILED]
    blocks = (block for block in plan.blocks(items) if not store.finished(block.number))
    with tqdm(
        total=len(items) * len(plan.tasks),
        initial=sum(counts.values()),
        unit="row",
        desc="run",
        smoothing=0.05,
        file=sys.stderr,
        disable=None if show else True,
    ) as bar:
        for number, rows in engine.answer_all(blocks):
            yield number, rows
            failed += sum(row["status"] == FAILED for row in rows)
            bar.set_postfix(failed=failed, refresh=False)
            bar.update(len(rows))


def _engine(
    model: ChestXrayModel | str | os.PathLike,
    options: dict[str, str | Prompts | None],
    plan: RunPlan,
    root: Path,
    ray: dict | None,
) -> AbstractContextManager[BlockWorker | RayEngine]:
    """Return the engine that answers blocks: with workers and address of Ray, or the local one."""
    from workbench.interface import ChestXrayModel, load_model
    from workbench.runs.ray_engine import RayEngine
    from workbench.runs.worker import BlockWorker

    if ray is None and isinstance(model, ChestXrayModel):
        return nullcontext(BlockWorker(model, plan, root))
    if not isinstance(model, (str, os.PathLike)):
        raise OptionError(
            "model must be what wb.load_model loads (mini, a hub id, a directory): every worker of "
            f"engine 'ray' loads its own; got {type(model).__name__}"
        )
    # workers have another working directory
    name = str(Path(model).resolve()) if Path(model).is_dir() else str(model)
    load = partial(load_model, name, **options)
    if ray is None:
        return nullcontext(BlockWorker(load(), plan, root))
    return RayEngine(load, plan, root, **ray)


def _check_engine(engine: str, workers: int | None, address: str | None) -> None:
    check_one_of("engine", engine, ENGINES)
    if engine == "local" and (workers is not None or address is not None):
        raise OptionError("workers and address belong to engine='ray'; leave them out")
    if workers is not None:
        check_whole(1, workers=workers)
