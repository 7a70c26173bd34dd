"""Training of `mini`: stopped runs go on to the same weights, held-out seeds stay held out."""

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from recipes.mini import encoder as encoder_module
from recipes.mini import sides as sides_module
from recipes.mini.data import CHANNELS, STRUCTURES, PhantomSet, patch_cover, rendered
from recipes.mini.encoder import FINDINGS, EncoderData, evaluate_encoder
from recipes.mini.muon import orthogonalise
from recipes.mini.recipe import MiniRecipe
from recipes.mini.schedule import trapezoid
from recipes.mini.sides import SidedData, keep_old_meaning, side_loss
from recipes.mini.train import ALL_STAGES, train_mini
from workbench.errors import OptionError, TrainingError
from workbench.findings import PHANTOM_FINDINGS
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.phantom.case import phantom
from workbench.settings import FIRST_HELD_OUT_SEED

TINY = replace(
    MiniRecipe().smoke(),
    threads=1,
    train_count=24,
    val_count=8,
    encoder_images=48,
    encoder_batch=8,
    language_texts=16,
    align_images=8,
    instruct_images=16,
    polish_images=8,
    sides_count=16,
    sides_images=32,
    polish_again_images=8,
    ct_count=8,
    ct_drawn=8,
    ct_images=16,
    polish_ct_images=8,
    vocabulary=700,
)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return train_mini(tmp_path_factory.mktemp("whole"), recipe=TINY)


@pytest.mark.parametrize(
    ("module", "every", "stop", "last"),
    [
        (encoder_module, 3, 1, ("encoder", 3)),
        (sides_module, 2, 1, ("sides", 2)),
        (sides_module, 2, 3, ("ct", 2)),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    module, every, stop, last, whole_run, tmp_path, monkeypatch
):
    saves = []

    def save_then_stop(path, network, optimisers_, step):
        save(path, network, optimisers_, step)
        saves.append((path.stem, step))
        if len(saves) == stop:
            raise KeyboardInterrupt

    save = module.save_state
    monkeypatch.setattr(module, "SAVE_EVERY", every)
    monkeypatch.setattr(module, "save_state", save_then_stop)
    shutil.copytree(whole_run.parent / "phantoms", tmp_path / "run" / "phantoms")
    with pytest.raises(KeyboardInterrupt):
        train_mini(tmp_path / "run", recipe=TINY)
    assert saves[-1] == last and len(saves) == stop
    monkeypatch.setattr(module, "save_state", save)
    folder = train_mini(tmp_path / "run", recipe=TINY, resume=True)
    first, second = (load_file(f / "model.safetensors") for f in (whole_run, folder))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_the_exported_folder_is_whole(whole_run):
    names = {path.name for path in whole_run.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.model",
        "tokenizer_config.json",
        "generation_config.json",
        "model_card.json",
    } <= names
    assert all(
        w.dtype == torch.float16 for w in load_file(whole_run / "model.safetensors").values()
    )


def test_a_used_folder_is_refused_without_resume_and_with_another_recipe(whole_run):
    run = whole_run.parent
    with pytest.raises(TrainingError, match="add --resume"):
        train_mini(run, recipe=TINY)
    with pytest.raises(TrainingError, match="another recipe"):
        train_mini(run, recipe=replace(TINY, seed=8), resume=True)


def test_a_run_of_a_recipe_with_other_fields_is_refused(tmp_path):
    old = TINY.to_dict() | {"sharpen_images": 32, "settle_images": 8}
    (tmp_path / "recipe.json").write_text(json.dumps(old))
    with pytest.raises(TrainingError, match=r"another version .*settle_images, sharpen_images"):
        train_mini(tmp_path, recipe=TINY, resume=True)


def test_every_stage_leaves_its_history(whole_run):
    card = json.loads((whole_run / "model_card.json").read_text())
    assert list(card["history"]) == [n for n in ALL_STAGES if n not in ("phantoms", "export")]
    assert card["seeds"]["sides and polish_again"] == [24_000, 24_015]
    assert card["seeds"]["ct and polish_ct"] == [80_000, 80_007]


def test_the_stages_of_ct_can_start_from_a_checkpoint(whole_run, tmp_path):
    shutil.copytree(whole_run.parent / "phantoms", tmp_path / "phantoms")
    folder = train_mini(tmp_path, recipe=TINY, start=whole_run)
    first, second = (load_file(f / "model.safetensors") for f in (whole_run, folder))
    assert first.keys() == second.keys()
    assert not torch.equal(first["lm_head.weight"], second["lm_head.weight"])
    before, after = (
        json.loads((f / "model_card.json").read_text())["history"] for f in (whole_run, folder)
    )
    assert list(before) == list(after)
    assert [name for name in before if before[name] != after[name]] == ["ct", "polish_ct"]


def test_two_sets_together_know_the_scene_of_every_row(whole_run):
    settings = {"size": TINY.image_size, "patch": TINY.patch_size, "workers": 1, "count": 8}
    folder, first = whole_run.parent / "phantoms", TINY.ct_first_seed
    projected = rendered(folder / "ct", first_seed=first, domain="ct", **settings)
    drawn = rendered(folder / "beside ct", first_seed=first, domain="internal", **settings)
    both = projected + drawn
    assert [both.scene(row).domain for row in (0, 8)] == ["ct", "internal"]
    assert [both.scene(row).view for row in (0, 3)] == ["PA", "AP"]
    assert both.scene(9).seed == first + 1
    case = phantom(both.scene(3).seed, domain="ct", view="AP", size=TINY.image_size)
    np.testing.assert_array_equal(both.pixels[3], np.round(case.image.pixels * 255))


def test_side_loss_counts_every_finding_once():
    logits = torch.zeros(2, 5, 7, 3)
    cover = torch.zeros(2, 5, 7)
    side = torch.full((2, 7), -1)
    assert side_loss(logits, cover, side) == 0
    cover[0, 1, 2] = cover[0, 3, 2] = 0.5  # two patches of one finding, one of them right
    side[0, 2] = 1
    logits[0, 1, 2, 1] = 100.0
    cover[1, 4, 6], side[1, 6] = 0.1, 0  # one faint patch, undecided
    found = side_loss(logits, cover, side)
    assert torch.isclose(found, torch.tensor((np.log(3) / 2 + np.log(3)) / 2, dtype=torch.float32))


@pytest.fixture(scope="module")
def fresh_phantoms(whole_run):
    return rendered(
        whole_run.parent / "phantoms" / "sides",
        first_seed=TINY.sides_first_seed,
        count=TINY.sides_count,
        domain="internal",
        size=TINY.image_size,
        patch=TINY.patch_size,
        workers=1,
    )


def test_hard_sides_are_shown_more_often(fresh_phantoms):
    data = SidedData(fresh_phantoms)
    assert np.isclose(data.chance.sum(), 1) and data.chance.max() > data.chance.min()
    assert set(np.unique(data.side)) <= {-1, 0, 1, 2}
    assert ((data.side >= 0) <= (data.present > 0)).all()


def test_a_refitted_projector_keeps_what_an_unchanged_tower_says(whole_run, fresh_phantoms):
    model = CxrLlavaForConditionalGeneration.from_pretrained(whole_run, dtype=torch.float32)
    before = copy.deepcopy(model)
    keep_old_meaning(model, before.vision_tower, fresh_phantoms)
    pixels = torch.randn(2, 1, 128, 128, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        there, here = (m.encode_image(pixels) for m in (before, model))
    assert (there - here).norm() < 0.02 * there.norm()


def test_reserved_seeds_cannot_be_trained_on():
    with pytest.raises(OptionError, match="reserved for evaluation"):
        MiniRecipe(val_first_seed=FIRST_HELD_OUT_SEED - 10, val_count=20)
    with pytest.raises(OptionError, match="must end before the validation"):
        MiniRecipe(train_first_seed=4_999_999)
    with pytest.raises(OptionError, match="reserved for evaluation"):
        MiniRecipe(sides_first_seed=FIRST_HELD_OUT_SEED)
    with pytest.raises(OptionError, match="reserved for evaluation"):
        MiniRecipe(ct_first_seed=FIRST_HELD_OUT_SEED)


def test_unknown_stage_is_named(tmp_path):
    with pytest.raises(OptionError, match="unknown stage 'varnish'"):
        train_mini(tmp_path, recipe=TINY, stages=("varnish",))


def test_phantoms_of_other_settings_are_refused(tmp_path):
    settings = {"count": 2, "domain": "internal", "patch": 16, "workers": 1}
    made = rendered(tmp_path, first_seed=3, size=64, **settings)
    assert made.pixels.shape == (2, 64, 64) and made.cover.shape == (2, 16, len(CHANNELS))
    again = rendered(tmp_path, first_seed=3, size=64, **settings)
    assert np.array_equal(made.pixels, again.pixels)
    with pytest.raises(TrainingError, match="other settings"):
        rendered(tmp_path, first_seed=4, size=64, **settings)


def test_patch_cover_counts_pixels():
    mask = np.zeros((4, 4), bool)
    mask[0, 0] = mask[2:, 2:] = True
    assert patch_cover(mask, 2).tolist() == [0.25, 0, 0, 1]


def test_orthogonalised_updates_have_singular_values_near_one():
    update = torch.randn(2, 31, 17, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(update))
    assert values.min() > 0.6 and values.max() < 1.3


def test_schedule_rises_holds_and_falls():
    values = [trapezoid(p) for p in (0.0, 0.02, 0.3, 0.6, 0.9, 1.0)]
    assert values[0] < values[1] < values[2] == values[3] == 1 > values[4] > values[5] > 0


def test_scores_of_the_encoder_by_hand():
    """A finding of which one class only is there has no AUROC, and is not scored 0."""
    phantoms = PhantomSet(
        tuple(("internal", seed) for seed in range(4)),
        np.zeros((4, 8, 8), np.uint8),
        np.zeros((4, 1, len(CHANNELS)), np.uint8),
        np.zeros((4, 1, len(STRUCTURES)), np.uint8),
    )
    data = EncoderData(phantoms)
    data.present[:] = 0
    data.present[[0, 2], 0] = data.present[:, 1] = 1

    class Fixed(torch.nn.Module):
        def forward(self, pixels):
            logits = torch.full((len(pixels), FINDINGS), -1.0)
            logits[:, 0] = torch.tensor([0.9, -0.2, -0.1, 0.5])
            return None, logits, None

    found = evaluate_encoder(Fixed(), data)
    nodule, effusion, other = PHANTOM_FINDINGS[:3]
    assert (found["auroc"][nodule], found["f1"][nodule]) == (0.75, 0.5)
    assert np.isnan(found["auroc"][effusion]) and found["f1"][effusion] == 0
    assert np.isnan(found["auroc"][other]) and np.isnan(found["f1"][other])
