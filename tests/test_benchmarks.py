"""`benchmarks/bench.py` runs, judges what it measured, and the page about GPUs is its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "benchmarks" / "bench.py"


@pytest.fixture
def speed(monkeypatch):
    """Makes the sections importable, as for the script."""
    monkeypatch.syspath_prepend(str(BENCH.parent))


def test_quick_sections_leave_numbers_and_a_page(tmp_path, speed, monkeypatch, capsys):
    import bench as script

    names = ("labeler", "report", "questions", "batch", "grounding")
    # a process of its own for one section; the others, which are added to it, in this process
    for some, child in ((names[:1], script._child), (names[1:], _here)):
        command = ["bench.py", "--quick", "--threads", "1", "--out", str(tmp_path)]
        command += [word for name in some for word in ("--only", name)]
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.setattr(script, "_child", child)
        # tiny models reach no bar; the verdict is not asked for here
        assert script.main() in (0, 1)
    result = json.loads((tmp_path / "bench.json").read_text())
    sections = result["sections"]
    assert list(sections) == list(names)
    assert [found.get("error") for found in sections.values()] == [None] * len(names)
    assert result["machine"]["clock"] == "cpu"
    for name in ("report", "questions", "batch"):
        assert sections[name]["same_tokens"], name
    assert sections["grounding"]["largest_difference"] < 1e-4
    assert all(found["memory"]["peak_bytes"] > 1e8 for found in sections.values())
    page = (tmp_path / "bench.html").read_text()
    assert "quick: numbers mean nothing" in page
    assert page.count("<img alt='") == 2
    assert "http" not in page
    assert "times faster than six passes" in capsys.readouterr().out


def _here(name: str, options: argparse.Namespace) -> dict:
    import bench as script

    return script._measure(argparse.Namespace(**vars(options) | {"section": name}))


def test_a_section_that_fails_is_said_and_is_no_success(tmp_path, speed, monkeypatch):
    import bench as script
    from speed.bars import judged

    bad = {"report": {"error": "no such thing"}}
    assert judged(bad, "cpu") == []
    result = {"machine": script._machine(2), "sections": bad}
    assert result["machine"]["clock"] == "wall"
    assert script._show(result, tmp_path) == 1
    assert "no such thing" in (tmp_path / "bench.html").read_text()


def test_every_bar_is_of_a_section_and_fails_on_its_other_side(speed):
    import bench as script
    from speed.bars import BARS, judged

    assert {bar.section for bar in BARS} <= set(script.SECTIONS)
    found = {
        "recomputed_over_together": {"cpu": 5.1, "wall": 4.9},
    }
    assert judged({"questions": found}, "cpu")[0]["ok"]
    assert not judged({"questions": found}, "wall")[0]["ok"]
    study = {"overhead": {"cpu": 0, "wall": 0}, "long": {"drift": -0.03, "memory_growth": 0}}
    assert [bar["ok"] for bar in judged({"runs": study}, "cpu")] == [True, False, True]


def test_a_ratio_says_how_far_its_rounds_differ(speed):
    from speed.bars import judged, table
    from speed.clock import Times, ratio

    slow, fast = Times([6.0, 10, 8], [6, 6, 6]), Times([1.0, 1, 2], [1, 1, 1])
    found = ratio(slow, fast, share=0.5, less=1)
    assert (found["wall"], found["range"]["wall"]) == (11, [7, 19])
    told = table(judged({"questions": {"recomputed_over_together": found}}, "wall"))
    assert "11.00  (>= 5.00; rounds 7.00 to 19.00)" in told
    assert "rounds" not in table(judged({"questions": {"recomputed_over_together": found}}, "cpu"))


def test_the_page_about_gpus_is_what_the_cost_model_says(speed):
    from speed import gpu

    assert (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8") == gpu.page()
    one, many = (gpu.predict(gpu.CARDS[1], "16 bit", batch) for batch in (1, 8))
    assert one["memory_bytes"] > gpu.full_size().sizes.bytes_as("bfloat16")
    read = 2 * gpu.full_size().sizes.quantisable
    assert one["tokens_per_second"] < gpu.CARDS[1].bandwidth / read
    assert one["tokens_per_second"] < many["tokens_per_second"] < 8 * one["tokens_per_second"]


def test_a_trial_of_the_gpu_script_leaves_every_number_and_a_page(tmp_path, speed, monkeypatch):
    import gpu as script
    from speed.gpu import page

    names = ("load", "report", "questions", "inside", "precision", "training")
    given = ["--size", "tiny", "--device", "cpu", "--out", tmp_path, "--minutes", "9"]
    only = [word for name in names for word in ("--only", name)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, given), *only])
    assert script.main() == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    sections = found["sections"]
    assert list(sections) == list(names)
    assert [row["batch"] for row in sections["report"]["batches"]] == [1, 2]
    assert sections["precision"]["float32"]["largest_difference"] == 0
    assert 0 < sections["precision"]["bfloat16"]["largest_difference"] < 0.1
    assert all("seconds" in one for one in list(sections["inside"].values())[1:-1])
    assert sections["training"]["frozen_unchanged"] is True
    assert sections["training"]["memory"].keys() >= {"predicted", "measured"}
    assert "| relevancy |" in page(found)
    assert "Nothing yet" not in page(found)
    # a process of its own only to see that it starts; what is measured, in this process
    subprocess.run([sys.executable, script.__file__, "--help"], check=True, capture_output=True)
