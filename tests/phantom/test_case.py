"""Invariants of drawn phantoms: same seed same pixels, exact masks, sides, sizes, removal."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import zoom

from workbench.errors import OptionError
from workbench.findings import CARDIOMEGALY, PHANTOM_FINDINGS
from workbench.phantom.case import phantom, sample_scene

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "phantoms"
FOCAL = ("consolidation", "atelectasis", "nodule", "pneumothorax", "pleural effusion")


def grey(case) -> np.ndarray:
    return np.round(case.image.pixels * 255).astype(int)


@pytest.mark.parametrize("domain", ["internal", "external"])
def test_pixels_match_the_stored_reference_within_one_grey_level(domain):
    stored = np.asarray(Image.open(GOLDEN / f"seed11_{domain}_256.png")).astype(int)
    drawn = grey(phantom(11, findings=list(PHANTOM_FINDINGS), domain=domain, size=256))
    assert np.abs(drawn - stored).max() <= 1


def test_same_seed_same_pixels_other_seed_other_pixels():
    first, again, other = (phantom(seed, size=128) for seed in (5, 5, 6))
    assert np.array_equal(first.image.pixels, again.image.pixels)
    assert np.abs(first.image.pixels - other.image.pixels).mean() > 0.01


def test_pixels_lie_on_256_grey_levels_and_use_them():
    pixels = phantom(3, size=256).image.pixels
    assert pixels.dtype == np.float32
    assert np.allclose(pixels * 255, np.round(pixels * 255), atol=1e-4)
    assert pixels.max() > 0.8 and pixels.min() < 0.05


@pytest.mark.parametrize("seed", [1, 2, 9])
def test_a_smaller_size_shows_the_same_scene(seed):
    large, small = phantom(seed, size=512), phantom(seed, size=256)
    shrunk = large.image.pixels.reshape(256, 2, 256, 2).mean((1, 3))
    assert np.corrcoef(shrunk.ravel(), small.image.pixels.ravel())[0, 1] > 0.99
    assert [vars(a) for a in large.lesions] == [vars(b) for b in small.lesions]
    for name, mask in large.masks.items():
        other = zoom(small.masks[name].astype(np.uint8), 2, order=0) > 0
        overlap = (mask & other).sum() / (mask | other).sum()
        assert overlap > (0.45 if name in ("support device", "atelectasis") else 0.8), name


@pytest.mark.parametrize("name", PHANTOM_FINDINGS)
def test_a_wished_finding_is_drawn_alone_and_visible(name):
    for seed in range(6):
        case = phantom(seed, findings=[name], size=128)
        assert list(case.masks) == [name]
        assert [f for f, code in case.labels.items() if code == "present"] == [name]
        mask = case.masks[name]
        assert mask.any() and mask.mean() < 0.5
        if name != CARDIOMEGALY:
            change = np.abs(case.image.pixels - case.without(name).image.pixels)
            assert change[mask].mean() > 0.04
            assert change[mask].mean() > 4 * change[~mask].mean()


def test_no_finding_asked_for_means_no_finding_drawn():
    case = phantom(4, findings=[], size=128)
    assert case.masks == {} and set(case.labels.values()) == {"absent"}


def test_masks_lie_on_the_stated_side_and_zone():
    seen = 0
    for seed in range(40):
        case = phantom(seed, findings=["nodule", "consolidation", "pneumothorax"], size=128)
        middle = 128 * case.scene.anatomy["midline"]
        for lesion in case.lesions:
            rows, columns = np.nonzero(case.masks[lesion.finding])
            if lesion.side in ("left", "right"):
                assert (columns.mean() > middle) == (lesion.side == "left"), (seed, lesion)
                seen += 1
            if lesion.finding == "nodule":
                top = case.scene.anatomy["top"]
                bottom = case.scene.anatomy[f"dome_{lesion.side}"]
                third = int(3 * (rows.mean() / 128 - top) / (bottom - top))
                assert abs(third - ("upper", "mid", "lower").index(lesion.zone)) <= 0.5 or (
                    abs(rows.mean() / 128 - top - (bottom - top) / 3 * third) < 0.03
                ), (seed, lesion)
    assert seen > 80


def test_effusion_grows_with_severity_and_heart_with_cardiomegaly():
    area = [
        phantom(8, findings=["effusion"], side="left", severity=s, size=128)
        .masks["pleural effusion"]
        .sum()
        for s in ("small", "moderate", "large")
    ]
    assert area[0] < area[1] < area[2]
    hearts = [phantom(8, findings=f, size=128).anatomy["heart"].sum() for f in ([], CARDIOMEGALY)]
    assert hearts[1] > 1.2 * hearts[0]


def test_removing_a_finding_leaves_the_rest_of_the_film_alone():
    case = phantom(21, findings=["nodule", "pneumothorax"], size=256)
    clean = case.without("nodule")
    far = ~case.masks["nodule"]
    assert "nodule" not in clean.masks and "pneumothorax" in clean.masks
    assert np.abs(case.image.pixels - clean.image.pixels)[far].mean() < 0.002


def test_wishes_are_followed():
    lesion = phantom(2, findings="nodule", side="left", zone="mid", severity="large").lesions[0]
    assert (lesion.side, lesion.zone, lesion.severity) == ("left", "mid", "large")
    assert 25 <= lesion.size_mm <= 30


def test_every_scene_of_many_seeds_keeps_its_drawn_findings():
    counts = dict.fromkeys(PHANTOM_FINDINGS, 0)
    normal = 0
    for seed in range(2000):
        lesions = sample_scene(seed).lesions
        names = [lesion.finding for lesion in lesions]
        assert len(set(names)) == len(names)
        normal += not names
        for name in names:
            counts[name] += 1
    assert 0.17 < normal / 2000 < 0.28
    assert all(0.12 < count / 2000 < 0.32 for count in counts.values()), counts


def test_all_findings_at_once_find_a_place():
    for seed in range(100):
        names = [lesion.finding for lesion in sample_scene(seed, findings=PHANTOM_FINDINGS).lesions]
        assert names == list(PHANTOM_FINDINGS)


def test_findings_that_cannot_share_a_chest_are_an_error():
    with pytest.raises(OptionError, match=r"no free place for .*nodule"):
        sample_scene(
            1,
            findings=["effusion", "pneumothorax", "nodule", "consolidation", "atelectasis"],
            side="bilateral",
            severity="large",
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"findings": ["scoliosis"]}, "unknown finding 'scoliosis'"),
        ({"findings": ["pneumonia"]}, "phantoms cannot draw pneumonia"),
        ({"domain": "foreign"}, "domain must be one of internal, external"),
        ({"size": 8}, "size must be between 64 and 2048"),
        ({"seed": -1}, "seed must be a whole number of 0 or more"),
        ({"findings": "nodule", "side": "middle"}, "side must be one of"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(arguments, message):
    with pytest.raises(OptionError, match=message):
        phantom(**arguments)


def test_removing_what_is_not_there_is_an_error():
    with pytest.raises(OptionError, match="has no nodule"):
        phantom(1, findings=[], size=64).without("nodule")


def test_external_domain_has_more_devices_and_noise():
    inside = sum(
        "support device" in {x.finding for x in sample_scene(s).lesions} for s in range(400)
    )
    outside = sum(
        "support device" in {x.finding for x in sample_scene(s, domain="external").lesions}
        for s in range(400)
    )
    assert outside > 1.4 * inside


def test_texts_are_the_same_for_the_same_seed():
    first, again = phantom(31, size=64), phantom(31, size=64)
    assert first.report == again.report and first.questions == again.questions
    assert first.differential == again.differential and first.report.endswith(".")


def test_a_pneumothorax_is_on_one_side_whatever_is_wished():
    (lesion,) = phantom(3, findings=["pneumothorax"], side="bilateral", size=64).lesions
    assert lesion.side in ("left", "right")
