"""Cases: what is known stays known, what is unknown stays unknown, patients stay apart."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from workbench.cases import cases_of, manifest_regions, phantom_case
from workbench.commands.phantom import save
from workbench.data import build, load
from workbench.errors import InputError, TrainingError
from workbench.finetune.cases import _case_set, gather, manifest_cases, unlabelled_cases
from workbench.finetune.comparing import examine
from workbench.finetune.datasets import Images, patch_targets
from workbench.finetune.measuring import explained_rows
from workbench.finetune.recipe import DataRecipe, PhantomData, read_recipe
from workbench.interface import load_model
from workbench.phantom.case import phantom

DATA = DataRecipe(manifest="films.parquet", validation=0.3)


def test_patients_of_a_manifest_are_on_one_side(manifest):
    for seed in range(6):
        found = manifest_cases(manifest, DATA, seed=seed)
        sides = [{case.patient for case in part} for part in (found.train, found.validation)]
        assert not sides[0] & sides[1]
        assert len(found.train) + len(found.validation) == 6


def test_shared_patients_are_refused(manifest):
    cases = manifest_cases(manifest, DATA).train
    with pytest.raises(TrainingError, match="divide by patient"):
        _case_set([*cases, cases[0]], [*(False for _ in cases), True])


def test_test_rows_are_never_touched(manifest):
    import pandas as pd

    frame = manifest.to_frame()
    frame["split"] = pd.Categorical(["test"] * 2 + [None] * 4, ["train", "validate", "test"])
    found = manifest_cases(manifest.with_frame(frame), DATA)
    assert {case.patient.split("/")[1] for case in (*found.train, *found.validation)} == set("bcd")
    frame["split"] = pd.Categorical(["test"] * 6, ["train", "validate", "test"])
    with pytest.raises(InputError, match="outside its test split"):
        manifest_cases(manifest.with_frame(frame), DATA)


def test_what_a_row_does_not_mention_is_unknown(manifest):
    cases = manifest_cases(manifest, DATA)
    case = next(c for c in (*cases.train, *cases.validation) if c.id == "film3")
    assert case.code("nodule") == "present"
    assert case.code("pleural effusion") == "not mentioned"


def test_boxes_become_patches(manifest):
    cases = manifest_cases(manifest, DATA)
    case = next(c for c in (*cases.train, *cases.validation) if c.id == "film0")
    mask = case.regions()["pleural effusion"]
    assert mask.shape == (80, 70) and mask.sum() == 20 * 30
    target, known = patch_targets({"x": np.eye(8) > 0}, ("x", "y"), 8, 4)
    assert target[:, 0].tolist() == [0.25, 0, 0, 0.25]
    assert known.tolist() == [True, False]


@pytest.mark.parametrize("lenient", [False, True])
def test_regions_are_read_as_images_are(tmp_path, monkeypatch, lenient):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    Image.fromarray(np.zeros((60, 50), np.uint8)).save(tmp_path / "film.png")
    mask = np.zeros((60, 50), np.uint16)
    mask[10:20, 5:9] = 65535
    Image.fromarray(mask).save(tmp_path / "deep.png")
    noise = np.random.default_rng(3).integers(0, 255, (60, 50), np.uint8)
    Image.fromarray(noise).save(tmp_path / "torn.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "torn.png").read_bytes()[:-900])

    def regions(name: str):
        masks = json.dumps([{"finding": "nodule", "path": name}])
        return manifest_regions({"boxes": None, "masks": masks}, tmp_path / "film.png", tmp_path)

    assert np.array_equal(regions("deep.png")["nodule"], mask > 0)
    with pytest.raises(InputError, match=r"torn\.png: is damaged or cut short"):
        regions("torn.png")


def test_a_taught_finding_comes_in_its_share_on_both_sides():
    recipe = read_recipe("stage3_lora").replace(
        data={"phantoms": {"count": 40, "share": 0.5}, "validation": 0.2}
    )
    found = gather(recipe)
    for part, size in ((found.train, 32), (found.validation, 8)):
        assert len(part) == size
        assert sum(case.code("fracture") == "present" for case in part) == size // 2


def test_a_finding_that_seeds_decide_is_found_by_looking():
    recipe = read_recipe("stage3_lora").replace(
        data={"phantoms": {"count": 20, "finding": "support device"}}
    )
    found = gather(recipe)
    cases = (*found.train, *found.validation)
    assert sum(case.code("support device") == "present" for case in cases) == 10
    assert not any("fracture" in case.codes for case in cases)


def test_images_without_labels_are_others_and_nothing_is_known_of_them():
    phantoms = {"count": 20, "finding": "support device", "unlabelled": 0}
    recipe = read_recipe("stage3_lora").replace(data={"phantoms": phantoms})
    without, found = (gather(recipe.replace(data={"phantoms": {"unlabelled": n}})) for n in (0, 5))
    assert not without.unlabelled and len(found.unlabelled) == 5
    assert without.digest != found.digest
    labelled = {case.drawn().seed for case in (*found.train, *found.validation)}
    assert min(int(case.id.split("-")[2]) for case in found.unlabelled) == max(labelled) + 1
    for case in found.unlabelled:
        assert not case.codes and not case.report and not case.regions() and case.drawn is None
        assert case.load().pixels.shape


def test_images_without_labels_stay_off_the_reserved_seeds():
    cases = [phantom_case(9_999_996)]
    assert len(unlabelled_cases(PhantomData(unlabelled=3), behind=cases)) == 3
    with pytest.raises(TrainingError, match="reserved for evaluation"):
        unlabelled_cases(PhantomData(unlabelled=4), behind=cases)


def test_the_digest_follows_the_data():
    recipe = read_recipe("stage3_lora").replace(data={"phantoms": {"count": 10}})
    other = recipe.replace(data={"phantoms": {"first_seed": 7_000_001}})
    assert gather(recipe).digest == gather(recipe).digest != gather(other).digest


def test_a_drawn_case_is_the_same_chest_with_and_without():
    with_, without = (phantom_case(7_100_200, add=name, known="fracture") for name in
                      ("fracture", None))  # fmt: skip
    changed = np.abs(with_.load().pixels - without.load().pixels)
    assert changed[with_.regions()["fracture"]].mean() > 0.1
    assert (with_.code("fracture"), without.code("fracture")) == ("present", "absent")


def test_prepared_images_are_read_when_they_are_asked_for(loaded, manifest):
    cases = manifest_cases(manifest, DATA).train
    reads = []
    watched = [replace(c, load=lambda c=c: reads.append(c.id) or c.load()) for c in cases]
    images = Images(watched, loaded.processor)
    assert len(images) == len(cases)
    assert reads == []
    assert torch.equal(images.batch([2])[0], loaded.processor(cases[2].load()))
    shapes = [tuple(pixels.shape) for pixels in images.batches(2)]
    assert shapes[0] == (2, 1, 64, 64) and sum(shape[0] for shape in shapes) == len(cases)
    assert reads == [cases[2].id, *(case.id for case in cases)]


def test_models_are_examined_on_cases(manifest):
    """Before and after; cases that do not know the taught finding are not counted for it."""

    class Model:
        def __init__(self, text):
            self.text = text

        def report_many(self, images, **_):
            return [SimpleNamespace(text=self.text) for _ in images]

    codes = ("present", "absent", "uncertain", "absent")
    cases = [(at, {"fracture": code, "nodule": "absent"}) for at, code in enumerate(codes)]
    models = Model("Clear."), Model("There is a fracture.")
    found = examine(*models, finding="fracture", cases=cases)
    assert (found.n, found.known, found.held_out) == (4, 3, None)
    assert (found.taught.before, found.taught.after) == (0, pytest.approx(2 / 4))
    assert found.others is None  # no other finding is known both ways
    assert "known of 3" in found._repr_html_() and "seed" not in found._repr_html_()
    assert len(cases_of(manifest)) == 6
    with pytest.raises(InputError, match="known to be present in one case and absent in another"):
        examine(*models, finding="nodule", cases=manifest)


def test_evidence_takes_boxes_of_a_manifest(tmp_path):
    """What is explained before and after points into a box of a radiograph, or says nothing."""
    model = load_model("mini", device="cpu", dtype="float32")
    save(phantom(5_000_001, findings=["pleural effusion"], size=256), tmp_path)
    frame = build("phantom", source=tmp_path).to_frame()
    box = {"x": 0, "y": 0, "width": 256, "height": 256}
    frame["masks"], frame["boxes"] = None, json.dumps([{"finding": "pleural effusion", **box}])
    frame.to_parquet(tmp_path / "m.parquet")
    cases = cases_of(load(tmp_path / "m.parquet"))
    rows = explained_rows(model, model, cases)
    assert {row["when"] for row in rows} == {"before", "after"}
    assert {row["finding"]: row["points"] for row in rows if row["stated"]} == {
        "pleural effusion": True
    }
    assert all(row["drawn"] and row["contribution"] is not None for row in rows)
