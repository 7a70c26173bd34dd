"""Features of a frozen tower: computed once, the same, never of another tower."""

import pytest
import torch

from workbench.errors import TrainingError
from workbench.finetune.feature_cache import FeatureCache


@pytest.fixture
def pixels():
    return torch.randn(5, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def test_rows_are_what_the_tower_makes_and_are_made_once(loaded, pixels, tmp_path):
    tower = loaded.model.vision_tower
    cache = FeatureCache.open(tmp_path, tower, loaded.processor)
    with torch.no_grad():
        wanted = tower(pixels).tokens
    assert torch.equal(cache.rows(cache.add(pixels[[0, 1, 0]])), wanted[[0, 1, 0]])
    assert (cache.computed, len(cache)) == (2, 2)
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


def test_a_stop_between_rows_and_keys_loses_only_work(loaded, pixels, tmp_path):
    cache = FeatureCache.open(tmp_path, loaded.model.vision_tower, loaded.processor)
    cache.add(pixels[:2])
    with (tmp_path / "tokens.f32").open("ab") as handle:
        handle.write(b"half a row")
    again = FeatureCache.open(tmp_path, loaded.model.vision_tower, loaded.processor)
    with torch.no_grad():
        wanted = loaded.model.vision_tower(pixels).tokens
    assert torch.allclose(again.rows(again.add(pixels)), wanted, atol=1e-6)


def test_names_that_were_being_written_are_passed_over(loaded, pixels, tmp_path):
    tower = loaded.model.vision_tower
    cache = FeatureCache.open(tmp_path, tower, loaded.processor)
    cache.add(pixels[:2])
    with cache.keys.path.open("r+b") as handle:
        handle.truncate(cache.keys.path.stat().st_size - 9)
    again = FeatureCache.open(tmp_path, tower, loaded.processor)
    assert len(again) == 0
    with torch.no_grad():
        wanted = tower(pixels).tokens
    assert torch.allclose(again.rows(again.add(pixels[2:])), wanted[2:], atol=1e-6)
    later = FeatureCache.open(tmp_path, tower, loaded.processor)
    assert torch.allclose(later.rows(later.add(pixels)), wanted, atol=1e-6)
    assert (later.computed, later.found) == (2, 3)


def test_a_file_cut_short_is_refused(loaded, pixels, tmp_path):
    FeatureCache.open(tmp_path, loaded.model.vision_tower, loaded.processor).add(pixels)
    with (tmp_path / "tokens.f32").open("r+b") as handle:
        handle.truncate(100)
    with pytest.raises(TrainingError, match="cut short"):
        FeatureCache.open(tmp_path, loaded.model.vision_tower, loaded.processor)


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
    records = one.keys.read()[0]
    keys = [key for record in records for key in record["keys"]]
    assert len(keys) == len(set(keys)) == len(pixels)
