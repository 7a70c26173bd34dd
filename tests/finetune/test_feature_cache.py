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
    cache = FeatureCache(tmp_path, tower)
    with torch.no_grad():
        wanted = tower(pixels).tokens
    assert torch.equal(cache.rows(cache.add(pixels[[0, 1, 0]])), wanted[[0, 1, 0]])
    assert cache.computed == len(list(tmp_path.glob("*.safetensors"))) == 2
    again = FeatureCache(tmp_path, tower)
    assert torch.allclose(again.rows(again.add(pixels)), wanted, atol=1e-6)
    assert (again.computed, again.found) == (3, 2)


def test_another_tower_has_files_of_its_own(loaded, pixels, tmp_path):
    tower = loaded.model.vision_tower
    FeatureCache(tmp_path, tower).add(pixels)
    with torch.no_grad():
        tower.ln_post.bias[0] += 1
        wanted = tower(pixels).tokens
    other = FeatureCache(tmp_path, tower)
    assert torch.allclose(other.rows(other.add(pixels)), wanted, atol=1e-6)
    assert (other.computed, other.found) == (5, 0)


def test_a_stop_loses_only_the_image_that_was_being_written(loaded, pixels, tmp_path):
    tower = loaded.model.vision_tower
    name = FeatureCache(tmp_path, tower).add(pixels[:3])[1]
    whole = tmp_path / f"{name}.safetensors"
    whole.with_name(f"{whole.name}.partial").write_bytes(whole.read_bytes()[:-9])
    whole.unlink()
    again = FeatureCache(tmp_path, tower)
    with torch.no_grad():
        wanted = tower(pixels).tokens
    assert torch.allclose(again.rows(again.add(pixels)), wanted, atol=1e-6)
    assert (again.computed, again.found) == (3, 2)


def test_a_file_cut_short_is_refused(loaded, pixels, tmp_path):
    cache = FeatureCache(tmp_path, loaded.model.vision_tower)
    names = cache.add(pixels)
    with (tmp_path / f"{names[3]}.safetensors").open("r+b") as handle:
        handle.truncate(100)
    with pytest.raises(TrainingError, match="cut short"):
        cache.rows(names)


def test_two_writers_of_one_folder_share_their_work(loaded, pixels, tmp_path):
    tower = loaded.model.vision_tower
    one, two = (FeatureCache(tmp_path, tower) for _ in range(2))
    one.add(pixels[:3])
    rows = two.add(pixels[1:])
    assert (one.computed, two.computed, two.found) == (3, 2, 2)
    with torch.no_grad():
        wanted = tower(pixels).tokens
    assert torch.allclose(two.rows(rows), wanted[1:], atol=1e-6)
    assert torch.allclose(one.rows(one.add(pixels)), wanted, atol=1e-6)
    assert one.computed == 3
    assert len(list(tmp_path.glob("*.safetensors"))) == len(pixels)
