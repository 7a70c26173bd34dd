"""Made-up runs of which everything is known: texts, labels, devices, and where errors were put."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from workbench.data import Manifest
from workbench.data.frames import conform

FINDINGS = ("pleural effusion", "pneumothorax", "cardiomegaly", "consolidation")


def text_of(states: dict[str, str]) -> str:
    """Write a report that states findings as wished; "" leaves one out."""
    words = {"present": "There is {}.", "absent": "No {}.", "uncertain": "Possible {}."}
    return " ".join(words[code].format(name) for name, code in states.items() if code in words)


def rows(texts: dict[str, str], **columns) -> pd.DataFrame:
    """The rows of a run, as `results.parquet` has them."""
    frame = pd.DataFrame({"id": list(texts), "text": list(texts.values())})
    frame = frame.assign(source="made", task="report", status="done", mean_logprob=-0.5, tokens=40)
    return frame.assign(**columns)


def manifest(states: dict[str, dict[str, str]], reports=None, **columns) -> Manifest:
    """A manifest with the given labels; a finding that is not named is not mentioned."""
    table = pd.DataFrame([{"image_id": key, **codes} for key, codes in states.items()])
    table = table.assign(source="made", study_id=table["image_id"], licence="own")
    if "patient_id" not in columns:
        table["patient_id"] = table["image_id"]
    if reports is not None:
        table["report_findings"] = [reports.get(key) for key in states]
    return Manifest(conform(table.assign(**columns), sort=False))


def planted(count: int, *, seed: int = 0, rate: float = 0.03, times: float = 3.0):
    """A run in which one of four devices errs `times` as often; rows and manifest."""
    rng = np.random.default_rng(seed)
    device = rng.choice(["fixed A", "fixed B", "portable C", "portable D"], count)
    errs = np.where(device == "portable C", rate * times, rate)[:, None]
    truth = rng.random((count, len(FINDINGS))) < 0.2
    said = truth ^ (rng.random(truth.shape) < errs)
    code = np.array(["absent", "present"], dtype=object)
    keys = [f"film-{n}" for n in range(count)]
    texts = {
        key: text_of(dict(zip(FINDINGS, row, strict=True)))
        for key, row in zip(keys, code[said.astype(int)], strict=True)
    }
    states = {
        key: dict(zip(FINDINGS, row, strict=True))
        for key, row in zip(keys, code[truth.astype(int)], strict=True)
    }
    known = manifest(
        states,
        device=device,
        sex=rng.choice(["female", "male"], count),
        age=rng.integers(20, 90, count),
        view=rng.choice(["PA", "AP"], count),
        patient_id=[f"p{n // 2}" for n in range(count)],
    )
    return rows(texts, mean_logprob=-rng.random(count)), known


@pytest.fixture(scope="session")
def lab() -> SimpleNamespace:
    """The helpers of this file."""
    return SimpleNamespace(
        FINDINGS=FINDINGS, text_of=text_of, rows=rows, manifest=manifest, planted=planted
    )
