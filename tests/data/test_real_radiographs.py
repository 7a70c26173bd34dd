"""The 799 real radiographs beside the repository: one command, then check, split, quality."""

from __future__ import annotations

import pytest

import workbench as wb
from workbench.cli import main


@pytest.fixture(scope="module")
def films(shared, tmp_path_factory):
    """The manifest that one command makes, and the folder of the radiographs."""
    folder = shared / "real_cxr"
    if not folder.is_dir():
        pytest.skip("needs ../shared/real_cxr")
    out = tmp_path_factory.mktemp("real") / "films.parquet"
    options = ["--provenance", "report-mined", "--licence", "NIH no restrictions"]
    assert main(["manifest", "build", "csv", "--source", str(folder), "--out", str(out), *options,
                 "--json"]) == 0  # fmt: skip
    return wb.data.load(out, root=folder)


def test_every_radiograph_is_a_row_with_labels_and_hashes(films):
    summary = films.summary()
    assert (summary["rows"], summary["images"], summary["patients"]) == (799, 799, 718)
    assert summary["findings"]["pleural effusion"]["present"] == 125
    assert summary["findings"]["pleural effusion"]["absent"] == 0
    assert films.frame["sha256"].notna().all()
    assert films.frame["dhash"].notna().all()


def test_the_check_names_the_one_true_duplicate_and_nothing_else(films):
    (problem,) = films.check(root=films.root).problems
    assert (problem.rule, problem.image_id) == ("duplicate-image", "00002658_002")
    assert "same bytes as 00002658_001" in problem.repair


def test_they_are_divided_by_patient(films):
    divided = wb.data.split(films, seed=1)
    assert divided.check(rules=["patient-in-two-splits"]).ok
    assert 520 < divided.summary()["splits"]["train"] < 600


def test_a_radiograph_planted_under_another_name_is_found(films, tmp_path):
    from PIL import Image

    name = films.frame["path"].iloc[100]
    Image.open(films.path(100)).resize((400, 400)).save(tmp_path / "holiday.png")
    planted = wb.data.build("folder", source=tmp_path)
    both = films.check(against=planted).problems
    assert [p.image_id for p in both if p.rule == "image-in-both"] == [
        name.rsplit("/", 1)[-1].removesuffix(".jpg")
    ]


def test_quality_control_finds_the_inverted_radiograph(films):
    some = films.select(films.frame["image_id"].str.startswith(("000176", "00002658")).to_numpy())
    table = wb.data.quality(some, workers=1)
    found = dict(zip(table.frame["image_id"], table.frame["reasons"], strict=True))
    assert found["00017625_000"] == "inverted?"
    assert found["00002658_002"] == "same image as 00002658_001"
    assert table.summary()["readable"] == len(some)


def test_a_radiograph_of_the_manifest_gets_a_report(films):
    image = wb.load_radiograph(films.path(0))
    generation = wb.load_model("mini").report(image, max_new_tokens=8)
    assert generation.text
    assert image.contract.domain == "radiograph"
