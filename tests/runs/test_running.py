"""A run: its rows, its folder, bad images, seeds, settings that changed, and what it records."""

from __future__ import annotations

import json
import os
import shutil
import stat
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import workbench as wb
from workbench.cli import main
from workbench.errors import InputError, OptionError, RunError
from workbench.runs.plan import Block, Item, RunPlan
from workbench.runs.store import RunStore
from workbench.runs.worker import BlockWorker

FAST = {"max_new_tokens": 7, "batch_size": 6}


@pytest.fixture(scope="module")
def ended(films, model, lab, tmp_path_factory):
    """A run of three tasks over eight pictures."""
    out = tmp_path_factory.mktemp("runs") / "first"
    return wb.run(films, model=model, tasks=lab.TASKS, out=out, **FAST)


def test_every_image_and_task_is_a_row_in_the_order_of_the_manifest(ended, lab):
    frame = ended.to_frame()
    assert (ended.rows, ended.done, ended.failed) == (24, 24, 0)
    assert ended.ended
    assert frame["id"].tolist() == [f"film-{n}" for n in range(8) for _ in range(3)]
    assert frame["task"].tolist() == ["report", "differential", "ptx"] * 8
    stored = pd.read_parquet(ended.folder / "results.parquet")
    pd.testing.assert_frame_equal(frame, stored)
    assert set(frame["status"]) == {"done"}
    assert frame["tokens"].between(1, 7).all()
    assert (frame["mean_logprob"] <= 0).all()
    assert set(frame["finish_reason"]) <= {"eos", "limit"}
    assert (frame["peak_rss_mb"] > 50).all()


def test_texts_are_those_of_the_model_alone(ended, films, model, lab):
    frame = ended.to_frame().set_index(["id", "task"])["text"]
    for n in (0, 3, 7):
        path = films.parent / f"{n}.png"
        assert frame[f"film-{n}", "report"] == model.report(path, max_new_tokens=7).text
        answer = model.ask(path, lab.QUESTION, max_new_tokens=7)
        assert frame[f"film-{n}", "ptx"] == answer.text


def test_pixels_are_pinned_once_for_all_tasks_where_there_is_a_gpu(films, model, lab, monkeypatch):
    """No GPU is needed to see who asks for pinned memory."""
    pinned = []

    def pin(tensor):
        pinned.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    tasks = wb.runs.plan.read_tasks(lab.TASKS)
    plan = RunPlan(tasks, wb.DecodingSettings(max_new_tokens=2))
    item = Item(0, "film-0", "made", "0.png")
    worker = BlockWorker(model, plan, films.parent)
    assert len(worker._read(item).jobs) > 1
    assert pinned == []
    identity = replace(model.identity, device="cuda:0")
    monkeypatch.setattr(model, "identity", identity)
    jobs = worker._read(item).jobs
    assert len(pinned) == 1
    assert all(job.request.pixel_values is jobs[0].request.pixel_values for job in jobs)
    assert torch.equal(jobs[0].request.pixel_values, pinned[0])


def test_the_prefix_of_an_image_is_computed_once(films, model, lab, tmp_path):
    cache = model.engine.prefixes
    cache.clear()
    before, budget = cache.misses, cache.max_bytes
    wb.run(films, model=model, tasks=lab.TASKS, out=tmp_path / "r", **FAST)
    assert cache.misses - before == 8
    assert (cache.max_bytes, len(cache)) == (budget, 0)


def test_a_prefix_survives_a_budget_that_is_too_small(films, model, lab, tmp_path, ended):
    cache = model.engine.prefixes
    budget, cache.max_bytes = cache.max_bytes, 1
    try:
        wb.run(films, model=model, tasks=lab.TASKS, out=tmp_path / "r", **FAST)
    finally:
        cache.max_bytes = budget
    assert lab.steady(tmp_path / "r") == lab.steady(ended.folder)


def test_run_json_says_what_a_run_is(ended, films, model, lab):
    record = json.loads((ended.folder / "run.json").read_text())
    fixed, (session,) = record["fixed"], record["sessions"]
    assert fixed["model"]["sha256"] == model.identity.sha256
    assert fixed["model"]["notice"] == model.notice
    assert set(fixed["model"]) >= {"id", "revision", "files", "licence", "dtype", "template"}
    assert len(fixed["manifest"]["sha256"]) == 64
    assert [task["name"] for task in fixed["tasks"]] == ["report", "differential", "ptx"]
    prompt = fixed["tasks"][2]["prompt"]
    assert prompt == model.ask(films.parent / "0.png", lab.QUESTION, max_new_tokens=1).prompt
    assert fixed["decoding"]["seed"] == 0
    assert session["versions"]["torch"]
    assert (session["device"], session["engine"]) == ("cpu", "local")
    assert record["outcome"]["done"] == 24


@pytest.mark.skipif(os.name == "nt", reason="needs permissions of files")
def test_folder_and_files_are_private(ended):
    assert stat.S_IMODE(ended.folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in ended.folder.iterdir()}
    assert set(modes) >= {"rows.sqlite", "run.json", "results.parquet"}
    assert set(modes.values()) == {0o600}


def test_an_ended_run_answers_at_once_and_writes_the_same_bytes(ended, films, model, lab):
    before = (ended.folder / "results.parquet").read_bytes()
    again = wb.run(films, model=model, tasks=lab.TASKS, out=ended.folder, **FAST)
    assert again.rows == 24
    assert (ended.folder / "results.parquet").read_bytes() == before
    assert wb.runs.load(ended.folder).done == 24


def test_changed_settings_are_refused_with_the_difference(ended, films, model, lab):
    options = {"model": model, "out": ended.folder}
    with pytest.raises(RunError, match=r"decoding.max_new_tokens was 7, is 5"):
        wb.run(films, tasks=lab.TASKS, **options, **{**FAST, "max_new_tokens": 5})
    with pytest.raises(RunError, match=r"tasks was \[\"report\", \"differential\", \"ptx\"\]"):
        wb.run(films, tasks="report", **options, **FAST)
    with pytest.raises(RunError, match=r"batch_size was 6, is 4.*another folder"):
        wb.run(films, tasks=lab.TASKS, **options, **{**FAST, "batch_size": 4})


def test_a_changed_manifest_and_another_model_are_refused(ended, films, model, lab, tmp_path):
    other = films.parent / "other.csv"
    other.write_text(films.read_text().replace("film-3", "film-33"))
    with pytest.raises(RunError, match=r"manifest.sha256 was"):
        wb.run(other, model=model, tasks=lab.TASKS, out=ended.folder, **FAST)
    with pytest.raises(RunError, match=r"model.*was"):
        wb.run(films, model="mini", tasks=lab.TASKS, out=ended.folder, **FAST)


def test_bad_images_are_failed_rows_with_reasons(films, model, lab, tmp_path):
    manifest = lab.draw(tmp_path / "films", 5)
    folder = manifest.parent
    (folder / "1.png").write_bytes(b"not a picture")
    (folder / "2.png").unlink()
    text = manifest.read_text().replace("3.png", "../../3.png").replace("4.png", "")
    manifest.write_text(text)
    found = wb.run(manifest, model=model, out=tmp_path / "r", max_new_tokens=3)
    frame = found.to_frame().set_index("id")
    assert (found.rows, found.done, found.failed) == (5, 1, 4)
    assert frame["status"].tolist() == ["done", "failed", "failed", "failed", "failed"]
    assert "out of the root" in frame["error"]["film-3"]
    assert "no image" in frame["error"]["film-4"]
    assert frame["error"].iloc[1:].str.len().gt(10).all()
    assert frame["text"].isna().tolist() == [False, True, True, True, True]
    assert len(found.errors()) >= 3


def test_failed_rows_are_tried_again_on_request(model, lab, tmp_path):
    manifest = lab.draw(tmp_path / "films", 5)
    good = (manifest.parent / "1.png").read_bytes()
    whole = wb.run(manifest, model=model, out=tmp_path / "whole", max_new_tokens=3, batch_size=2)
    (manifest.parent / "1.png").write_bytes(b"torn")
    options = {"model": model, "out": tmp_path / "r", "max_new_tokens": 3, "batch_size": 2}
    assert wb.run(manifest, **options).failed == 1
    (manifest.parent / "1.png").write_bytes(good)
    assert wb.run(manifest, **options).failed == 1
    assert wb.run(manifest, **options, retry_failed=True).failed == 0
    assert lab.steady(tmp_path / "r") == lab.steady(whole.folder)


def test_sampled_texts_depend_on_seed_and_row_and_not_on_the_batch(films, model, lab, tmp_path):
    options = {"model": model, "tasks": lab.TASKS, "max_new_tokens": 6, "temperature": 1.0}
    small = wb.run(films, out=tmp_path / "a", batch_size=1, **options).to_frame()
    large = wb.run(films, out=tmp_path / "b", batch_size=24, **options).to_frame()
    other = wb.run(films, out=tmp_path / "c", batch_size=24, seed=1, **options).to_frame()
    assert small["text"].tolist() == large["text"].tolist() != other["text"].tolist()
    assert small["seed"].nunique() == 24
    alone = model.report(
        films.parent / "4.png", temperature=1.0, max_new_tokens=6, seed=int(small["seed"][12])
    )
    assert alone.text == small["text"][12]


def test_a_manifest_object_a_parquet_file_and_a_root_work_too(films, model, tmp_path):
    built = wb.data.build("folder", source=films.parent, hash_files=False)
    table = built.save(tmp_path / "m.parquet")
    options = {"model": model, "max_new_tokens": 2}
    one = wb.run(built, out=tmp_path / "a", **options)
    two = wb.run(table, root=films.parent, out=tmp_path / "b", **options)
    assert one.done == two.done == len(built)
    assert one.to_frame()["text"].tolist() == two.to_frame()["text"].tolist()


def test_a_cohort_is_verified(films, model, tmp_path):
    built = wb.data.build("folder", source=films.parent, hash_files=False)
    cohort = wb.data.freeze(built, tmp_path / "c.json")
    some = built.select([0, 1])
    found = wb.run(some, model=model, out=tmp_path / "a", max_new_tokens=1,
                   cohort=wb.data.freeze(some))  # fmt: skip
    assert found.done == 2
    with pytest.raises(InputError, match="not the frozen cohort"):
        wb.run(some, model=model, out=tmp_path / "b", cohort=cohort)


def test_one_answer_that_fails_in_company_fails_alone(films, model, monkeypatch):
    plan = RunPlan(wb.runs.plan.read_tasks("report"), wb.DecodingSettings(max_new_tokens=2), 3)
    worker = BlockWorker(model, plan, films.parent)
    block = Block(0, tuple(Item(n, f"film-{n}", "", f"{n}.png") for n in range(3)))
    answer_batch = model.answer_batch
    poison = worker.read(block)[1].jobs[0].source

    def fragile(jobs):
        if any(job.source == poison for job in jobs):
            raise RuntimeError("a patient's name could be here")
        return answer_batch(jobs)

    monkeypatch.setattr(model, "answer_batch", fragile)
    rows = worker.answer(block)
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert rows[1]["error"].startswith("RuntimeError while")

    def broken(jobs):
        raise torch_out_of_memory

    import torch

    torch_out_of_memory = torch.OutOfMemoryError("4 GB")
    monkeypatch.setattr(model, "answer_batch", broken)
    with pytest.raises(RunError, match=r"OutOfMemoryError.*smaller batch_size"):
        worker.answer(block)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": []}, "at least one task"),
        ({"tasks": ["poem"]}, "unknown task 'poem'"),
        ({"tasks": ["report", "report"]}, "two tasks are called 'report'"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"fit": "squash"}, "fit must be one of crop, pad"),
        ({"engine": "spark"}, "engine must be one of local, ray"),
        ({"workers": 2}, "belong to engine='ray'"),
        ({"temprature": 1}, "unknown decoding option"),
    ],
)
def test_wrong_options_leave_nothing_behind(options, message, films, model, tmp_path):
    with pytest.raises(OptionError, match=message):
        wb.run(films, model=model, out=tmp_path / "r", **options)
    assert not (tmp_path / "r").exists()


def test_wrong_input_is_said(films, model, tmp_path):
    with pytest.raises(InputError, match=r"nothing.csv: no such manifest"):
        wb.run(tmp_path / "nothing.csv", model=model, out=tmp_path / "r")
    (tmp_path / "table.csv").write_text("name,path\na,b\n")
    with pytest.raises(InputError, match="no column 'image_id'"):
        wb.run(tmp_path / "table.csv", model=model, out=tmp_path / "r")
    (tmp_path / "empty.csv").write_text("image_id,path\n")
    with pytest.raises(InputError, match="no rows"):
        wb.run(tmp_path / "empty.csv", model=model, out=tmp_path / "r")
    with pytest.raises(InputError, match="no run in this folder"):
        wb.runs.load(tmp_path)


def test_a_result_shows_itself(ended):
    assert "24 done" in repr(ended)
    assert "ptx" in ended._repr_html_()
    assert ended.summary()["rows"] == 24


ROW = {"row": 0, "id": "a", "task": "report", "status": "done", "text": "x", "position": 0}


@pytest.mark.parametrize(
    "name",
    ["r#1", "r?a", "r?mode=memory", "r%41", "r 1&b=c", "r;1", "résumé ✓", "file:r", "a%23#?"],
)
def test_a_folder_may_be_called_anything_and_nothing_is_written_beside_it(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with RunStore(name) as store:
        store.add(0, [ROW])
        store.export()
        assert wb.runs.load(name).done == 1
    found = wb.runs.load(tmp_path / name)
    assert found.to_frame()["text"].tolist() == ["x"]
    assert found.summary()["without_words"] == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in (tmp_path / name).iterdir()} >= {"rows.sqlite", "results.parquet"}


def test_answers_without_words_are_counted_and_said(films, tiny, tmp_path, capsys):
    folder = shutil.copytree(tiny, tmp_path / "zeros", copy_function=shutil.copyfile)
    state = load_file(folder / "model.safetensors")
    save_file({n: torch.zeros_like(v) for n, v in state.items()}, folder / "model.safetensors")
    common = ["run", "--manifest", str(films), "--model", str(folder), "--out", str(tmp_path / "r")]
    assert main([*common, "--max-new-tokens", "4"]) == 0
    assert "in 8 of them the model wrote no word" in capsys.readouterr().out
    assert main([*common, "--max-new-tokens", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["without_words"] == 8
    frame = wb.runs.load(tmp_path / "r").to_frame()
    assert all("no-words" in codes.split("|") for codes in frame["warnings"])
    assert "(8 without a word)" in wb.runs.load(tmp_path / "r")._repr_html_()


def test_answers_with_words_are_not(ended):
    assert ended.without_words == 0
    assert ended.summary()["without_words"] == 0


@pytest.mark.parametrize("task", ["ask:caf\udce9?", {"ask": "a nodule?", "name": "\ud800"}])
def test_half_a_character_in_a_task_is_said_before_anything_is_written(
    task, films, model, tmp_path
):
    with pytest.raises(InputError, match="is not a whole one"):
        wb.run(films, model=model, tasks=[task], out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_question_with_a_token_beyond_the_embedding_is_said(films, tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "added", copy_function=shutil.copyfile)
    (folder / "added_tokens.json").write_text('{"[PAD]": 512}')
    options = {"model": str(folder), "device": "cpu", **FAST}
    with pytest.raises(InputError, match="do not embed"):
        wb.run(films, tasks=["report", "ask:Is there [PAD]?"], out=tmp_path / "r", **options)
    assert wb.run(films, tasks=["report", "ask:Is it?"], out=tmp_path / "s", **options).done == 16
