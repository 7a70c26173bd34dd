"""Texts are read as `label` reads them, once, and what was read is kept."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import workbench.review.readings as readings
from workbench.findings import CODES
from workbench.phantom.case import sample_scene
from workbench.phantom.wording import write_report
from workbench.reports import label
from workbench.review.readings import FILE, FINDINGS, SIDE_NAMES, read_texts

TRAPS = (
    "",
    "   ",
    "No finding of note",
    "INDICATION: Pneumothorax. FINDINGS: Small left effusion.",
    "Comparison: none. Pneumothorax. Impression: no effusion.",
    "A nodule of 1.5 cm. No large effusion.",
    "Left effusion approx. small. Right effusion.",
    "Effusion? No.",
    "Left pleural effusion. Right pleural effusion. No pleural effusion elsewhere.",
    "Possible left effusion. No right effusion.",
    "Pneumothorax!\nNo effusion.\n\n1. Edema. 2. Nodule.",
    "The heart is enlarged.There is edema.",
    "No acute abnormality. Impression: cardiomegaly",
)


def texts() -> list[str]:
    found = [
        write_report(sample_scene(n, domain=d).lesions, np.random.default_rng([n, 5]), d)
        for n in range(60)
        for d in ("internal", "external")
    ]
    rng = random.Random(7)
    pieces = [f"{piece.strip()}." for text in found for piece in text.split(".") if piece.strip()]
    mixed = [" ".join(rng.choices(pieces, k=rng.randint(1, 9))) for _ in range(300)]
    return [*found, *mixed, *TRAPS]


def test_reading_in_bulk_is_reading_one_by_one():
    given = texts()
    found = read_texts(pd.Series(given))
    for text, codes, sides in zip(given, found.codes, found.sides, strict=True):
        labels = label(text)
        for at, finding in enumerate(FINDINGS):
            row = labels[finding]
            assert CODES[codes[at]] == (row.code if row else "not mentioned"), (text, finding)
            assert SIDE_NAMES[sides[at]] == ((row.side or "") if row else ""), (text, finding)


def test_missing_texts_mention_nothing():
    found = read_texts(pd.Series(["No effusion.", None]))
    assert found.codes.shape == (2, len(FINDINGS))
    assert (found.codes[1] == CODES.index("not mentioned")).all()
    assert found.read == 1


def test_equal_texts_are_read_once_and_kept(tmp_path):
    given = pd.Series(["No effusion.", "No effusion.", "There is a left effusion."])
    first = read_texts(given, folder=tmp_path)
    again = read_texts(given, folder=tmp_path)
    assert (first.read, again.read) == (2, 0)
    assert (first.codes == again.codes).all() and (first.sides == again.sides).all()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    more = read_texts(pd.Series(["No effusion.", "New pneumothorax."]), folder=tmp_path)
    assert more.read == 1
    assert parquet.read_table(tmp_path / FILE).num_rows == 3


def test_no_text_is_kept(tmp_path):
    read_texts(pd.Series(["Secret sentence about an effusion."]), folder=tmp_path)
    assert b"Secret" not in (tmp_path / FILE).read_bytes()


@pytest.mark.parametrize("how", ["other reader", "damaged", "no cells", "no text"])
def test_kept_readings_of_another_reader_are_not_used(tmp_path, monkeypatch, how):
    given = pd.Series(["No effusion."])
    read_texts(given, folder=tmp_path)
    table = parquet.read_table(tmp_path / FILE)
    if how == "damaged":
        (tmp_path / FILE).write_bytes(b"PAR1 and nothing else")
    elif how == "no cells":
        empty = pa.nulls(len(table), table.schema.field("cells").type)
        parquet.write_table(table.set_column(1, "cells", empty), tmp_path / FILE)
    elif how == "no text":
        wrong = table.replace_schema_metadata({b"reader": b"\xb6\xff"})
        parquet.write_table(wrong, tmp_path / FILE)
    else:
        monkeypatch.setattr(readings, "reader_version", lambda: "of another day")
    assert read_texts(given, folder=tmp_path).read == 1
    assert read_texts(given, folder=tmp_path).read == 0


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    found = read_texts(pd.Series(["No effusion."]), folder=tmp_path / "nowhere")
    assert found.read == 1
