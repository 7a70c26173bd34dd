"""Traces on disk come back whole, or are refused; nobody else may read them."""

import json
import os
import pickle
import stat
import sys
from dataclasses import replace

import numpy as np
import pytest

import workbench as wb
from workbench.errors import InputError
from workbench.radiograph import Radiograph
from workbench.trace import load_trace
from workbench.trace.trace import ARRAYS, NOTES

posix = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


@pytest.fixture
def saved(lab, tmp_path):
    """A small trace in a folder."""
    return lab.run("A_tiny").trace.save(tmp_path / "case")


def edit(folder, change) -> None:
    """Change the notes of a saved trace."""
    notes = json.loads((folder / NOTES).read_text())
    change(notes)
    (folder / NOTES).write_text(json.dumps(notes))


def fields(generation) -> dict:
    return {key: value for key, value in vars(generation).items() if key != "logprobs"}


@pytest.mark.parametrize("change", [{}, {"vision": None}], ids=["whole", "no vision"])
def test_what_is_saved_comes_back(run, tmp_path, change):
    trace = replace(run.trace, **change)
    again = wb.load_trace(trace.save(tmp_path / "case"))
    assert again.layout == trace.layout
    assert again.image.contract == trace.image.contract
    assert fields(again.generation) == fields(trace.generation)
    assert np.array_equal(again.generation.logprobs, trace.generation.logprobs)
    for key in ("pixel_values", "logprobs"):
        found, wanted = getattr(again, key), getattr(trace, key)
        assert np.array_equal(found, wanted) and found.dtype == wanted.dtype
    np.testing.assert_allclose(again.image.pixels, trace.image.pixels, atol=0.5 / 65535 + 1e-7)
    for tower in ("language", "vision"):
        found, wanted = getattr(again, tower), getattr(trace, tower)
        if wanted is None:
            assert found is None
            continue
        assert np.array_equal(found.values, wanted.values)
        assert {**vars(found), "values": 0} == {**vars(wanted), "values": 0}
    assert again.text == trace.text and repr(again) == repr(trace)
    assert again.to_frame().equals(trace.to_frame())


def test_eight_bit_pixels_come_back_exactly(lab, tmp_path):
    trace = lab.run("A_tiny").trace
    levels = np.arange(256, dtype=np.float32).reshape(16, 16) / np.float32(255)
    image = Radiograph(levels, trace.image.contract)
    again = load_trace(replace(trace, image=image).save(tmp_path / "case"))
    assert np.array_equal(again.image.pixels, levels)


def test_rows_of_half_precision_and_mean_heads_stay_so(lab, tmp_path):
    run = lab.run("A_tiny")
    mean = run.model.trace(run.image, run.report, heads="mean", layers=[-1], vision="mean")
    half = replace(mean.language, values=mean.language.values.astype(np.float16))
    again = load_trace(replace(mean, language=half).save(tmp_path / "case"))
    assert again.language.values.dtype == np.float16
    assert again.language.layers == (1,) and again.language.mean_heads and again.vision.mean_heads
    assert np.array_equal(again.language.pick(-1), half.pick(-1))


def test_a_loaded_trace_needs_a_model_for_what_runs_it_again(lab, saved):
    run, other = lab.run("A_tiny"), lab.run("B_gqa_odd")
    trace = load_trace(saved)
    assert trace.model is None
    with pytest.raises(InputError, match=r"loaded trace has none.*load_model\('A_tiny'\)"):
        trace.need_model()
    with pytest.raises(InputError, match="attach the model that was traced"):
        trace.attach(other.model)
    attached = trace.attach(run.model)
    assert attached.need_model() is run.model
    again = run.model.trace(attached.image, attached.generation)
    np.testing.assert_allclose(again.language.values, trace.language.values, atol=1e-5)


@posix
def test_only_the_owner_may_read(lab, tmp_path):
    before = os.umask(0)
    try:
        folder = lab.run("A_tiny").trace.save(tmp_path / "new")
        lab.run("A_tiny").trace.save(folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in (ARRAYS, NOTES):
        assert stat.S_IMODE((folder / file).stat().st_mode) == 0o600
    assert {path.name for path in folder.iterdir()} == {ARRAYS, NOTES}


@posix
def test_files_are_private_before_anything_is_in_them(lab, tmp_path, monkeypatch):
    module = sys.modules[load_trace.__module__]
    modes, write = [], module.save_file

    def spy(arrays, path):
        modes.append(stat.S_IMODE(path.stat().st_mode))
        write(arrays, path)
        modes.append(stat.S_IMODE(path.stat().st_mode))

    monkeypatch.setattr(module, "save_file", spy)
    lab.run("A_tiny").trace.save(tmp_path / "case")
    assert modes == [0o600, 0o600]


def test_tags_of_a_file_are_not_written(lab, chest_dicom, tmp_path):
    model = lab.model("A_tiny")
    image = wb.load_radiograph(chest_dicom)
    assert image.meta, "the file has tags to leave out"
    marked = Radiograph(image.pixels, image.contract, {**image.meta, "StationName": "Sentinel-9"})
    trace = model.trace(marked, model.report(marked, max_new_tokens=3))
    assert trace.image.meta["StationName"] == "Sentinel-9"
    folder = trace.save(tmp_path / "case")
    for path in folder.iterdir():
        assert b"Sentinel-9" not in path.read_bytes()
        assert b"StationName" not in path.read_bytes()
    again = load_trace(folder)
    assert again.image.meta == {}
    assert again.image.contract == image.contract
    np.testing.assert_allclose(again.image.pixels, image.pixels, atol=1e-5)


# ------------------------------------------------------------------ files that are refused


@pytest.mark.parametrize("file", [ARRAYS, NOTES])
def test_a_missing_file_is_named(saved, file):
    (saved / file).unlink()
    with pytest.raises(InputError, match=rf"holds no {file}; expected a folder that trace\.save"):
        load_trace(saved)


def test_no_folder_at_all_is_an_error(tmp_path):
    with pytest.raises(InputError, match="expected a folder"):
        load_trace(tmp_path / "nothing")


@pytest.mark.parametrize("file", [ARRAYS, NOTES])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_cut_file_is_damaged(saved, file, share):
    data = (saved / file).read_bytes()
    (saved / file).write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"the trace in .* is damaged .*; record it again"):
        load_trace(saved)


@pytest.mark.parametrize("place", [3, 40, 5000, -1])
def test_one_flipped_bit_is_damage(saved, place):
    data = bytearray((saved / ARRAYS).read_bytes())
    data[place] ^= 1
    (saved / ARRAYS).write_bytes(data)
    with pytest.raises(InputError, match="is damaged"):
        load_trace(saved)


def test_arrays_of_another_trace_are_damage(lab, saved, tmp_path):
    run = lab.run("A_tiny")
    other = replace(run.trace, logprobs=run.trace.logprobs + 1).save(tmp_path / "other")
    (other / ARRAYS).replace(saved / ARRAYS)
    with pytest.raises(InputError, match=r"is not the file that trace\.json was written with"):
        load_trace(saved)


def test_a_save_that_was_cut_off_is_not_taken_for_a_trace(lab, saved, monkeypatch):
    run, replaced = lab.run("A_tiny"), []
    move = os.replace

    def once(source, target):
        if replaced:
            raise OSError("no space left")
        replaced.append(move(source, target))

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(OSError, match="no space left"):
        replace(run.trace, logprobs=run.trace.logprobs + 1).save(saved)
    monkeypatch.undo()
    with pytest.raises(InputError, match="is damaged"):
        load_trace(saved)
    run.trace.save(saved)
    assert np.array_equal(load_trace(saved).logprobs, run.trace.logprobs)
    assert {path.name for path in saved.iterdir()} == {ARRAYS, NOTES}


@pytest.mark.parametrize(
    "change",
    [
        lambda n: n.pop("format"),
        lambda n: n.pop("layout"),
        lambda n: n.pop("sha256"),
        lambda n: n["towers"].update(language=None),
        lambda n: n["towers"].pop("vision"),
        lambda n: n["towers"]["language"].update(extra=1),
        lambda n: n["contract"].update(patient="x"),
        lambda n: n["contract"].pop("warnings"),
        lambda n: n["layout"].update(offsets=5),
        lambda n: n["layout"]["tokens"].pop() and n["layout"]["offsets"].pop(),
        lambda n: n["layout"]["question_tokens"].append("x"),
        lambda n: n["generation"]["settings"].update(top_p=7),
        lambda n: n["generation"].update(model="x"),
    ],
)
def test_notes_that_do_not_fit_are_damage(saved, change):
    edit(saved, change)
    with pytest.raises(InputError, match="is damaged"):
        load_trace(saved)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", "\x00", '{"format": "other"'])
def test_notes_that_are_not_notes_are_damage(saved, text):
    (saved / NOTES).write_text(text)
    with pytest.raises(InputError, match="is damaged"):
        load_trace(saved)


def test_another_format_is_named_even_where_nothing_else_fits(saved):
    edit(saved, lambda notes: notes.update(format="cxr-workbench-trace/7"))
    (saved / ARRAYS).write_bytes(b"new ways")
    message = "format 'cxr-workbench-trace/7'; this version reads 'cxr-workbench-trace/1'"
    with pytest.raises(InputError, match=message):
        load_trace(saved)


class Payload:
    """Leaves a mark where somebody unpickles it."""

    def __init__(self, mark) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("file", [ARRAYS, NOTES])
def test_a_pickle_is_not_opened(saved, tmp_path, file):
    (saved / file).write_bytes(pickle.dumps(Payload(tmp_path / "mark")))
    with pytest.raises(InputError, match="is damaged"):
        load_trace(saved)
    assert not (tmp_path / "mark").exists()
