"""Images change from pass to pass, sides never."""

import torch

from workbench.finetune.datasets import augment, augmented


def test_a_change_is_decided_by_seed_pass_and_case_alone():
    pixels = torch.rand(40, 40, generator=torch.Generator().manual_seed(0))
    one, again = (augmented(pixels, seed=1, epoch=2, case=3) for _ in range(2))
    assert torch.equal(one, again)
    others = [augmented(pixels, seed=1, epoch=e, case=c) for e, c in ((3, 3), (2, 4))]
    assert not any(torch.equal(one, other) for other in others)


def test_no_change_moves_anything_to_the_other_side():
    pixels = torch.full((40, 40), 0.3)
    pixels[10:20, 4:10] = 0.9
    for epoch in range(12):
        changed = augmented(pixels, seed=0, epoch=epoch, case=0)
        assert changed[12:18, 5:9].mean() > changed[12:18, 31:35].mean() + 0.1
        assert changed.min() >= 0 and changed.max() <= 1


def test_augmentation_moves_nothing():
    pixels = torch.zeros(4, 32, 32)
    pixels[:, 5:9, 20:27] = 1
    changed = augment(pixels, torch.Generator().manual_seed(1))
    inside, outside = changed[:, 6:8, 21:26].mean((1, 2)), changed[:, 16:, :16].mean((1, 2))
    assert (inside > outside + 0.2).all()
    assert changed.min() >= 0 and changed.max() <= 1
