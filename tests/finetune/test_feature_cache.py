"""Features of a frozen tower: computed once, the same, never of another tower."""

import pytest
import torch

from workbench.errors import TrainingError
from workbench.finetune.datasets import FeatureCache


@pytest.fixture
def pixels():
    return torch.randn(5, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def test_rows_are_what_the_tower_makes_and_are_made_once(loaded, pixels, tmp_path):
    tower = loaded.model.vision_tower
    cache = FeatureCache.open(tmp_path, tower, loaded.processor)
    with torch.no_grad():
        wanted = tower(pixels).tokens
    assert torch.equal(cache.rows(cache.add(pixels[[0, 1, 0]])), wanted[[0, 1, 0]])
    assert cache.computed == len(list(tmp_path.glob("*.safetensors"))) == 2
    again = FeatureCache.open(tmp_path, tower, loaded.processor)
    assert torch.allclose(again.rows(again.add(pixels)), wanted, atol=1e-6)
    assert (again.computed, again.found) == (3, 2)


def test_another_tower_or_preparation_is_refused(loaded, pixels, tmp_path):
    FeatureCache.open(tmp_path, loaded.model.vision_tower, loaded.processor).add(pixels[:1])
    loaded.processor.mean += 0.01
    with pytest.raises(TrainingError, match="another preprocessing"):
        FeatureCache.open(tmp_path, loaded.model.vision_tower, loaded.processor)
    loaded.processor.mean -= 0.01
    with torch.no_grad():
        loaded.model.vision_tower.ln_post.bias[0] += 1e-6
    with pytest.raises(TrainingError, match="another encoder"):
        FeatureCache.open(tmp_path, loaded.model.vision_tower, loaded.processor)


def test_a_stop_loses_only_the_image_that_was_being_written(loaded, pixels, tmp_path):
    tower = loaded.model.vision_tower
    name = FeatureCache.open(tmp_path, tower, loaded.processor).add(pixels[:3])[1]
    whole = tmp_path / f"{name}.safetensors"
    whole.with_name(f"{whole.name}.partial").write_bytes(whole.read_bytes()[:-9])
    whole.unlink()
    again = FeatureCache.open(tmp_path, tower, loaded.processor)
    with torch.no_grad():
        wanted = tower(pixels).tokens
    assert torch.allclose(again.rows(again.add(pixels)), wanted, atol=1e-6)
    assert (again.computed, again.found) == (3, 2)


def test_a_file_cut_short_is_refused(loaded, pixels, tmp_path):
    cache = FeatureCache.open(tmp_path, loaded.model.vision_tower, loaded.processor)
    names = cache.add(pixels)
    with (tmp_path / f"{names[3]}.safetensors").open("r+b") as handle:
        handle.truncate(100)
    with pytest.raises(TrainingError, match="cut short"):
        cache.rows(names)


def test_two_writers_of_one_folder_share_their_work(loaded, pixels, tmp_path):
    tower = loaded.model.vision_tower
    one, two = (FeatureCache.open(tmp_path, tower, loaded.processor) for _ in range(2))
    one.add(pixels[:3])
    rows = two.add(pixels[1:])
    assert (one.computed, two.computed, two.found) == (3, 2, 2)
    with torch.no_grad():
        wanted = tower(pixels).tokens
    assert torch.allclose(two.rows(rows), wanted[1:], atol=1e-6)
    assert torch.allclose(one.rows(one.add(pixels)), wanted, atol=1e-6)
    assert one.computed == 3
    assert len(list(tmp_path.glob("*.safetensors"))) == len(pixels)
