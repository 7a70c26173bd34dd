"""Phantoms projected from the CT: geometry, shapes, and truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import workbench as wb
from workbench.errors import OptionError
from workbench.findings import CARDIOMEGALY, ON_REQUEST, PHANTOM_FINDINGS
from workbench.phantom.ct.projection import Beam, cast, lattice, project
from workbench.phantom.ct.render import sample_chest
from workbench.phantom.ct.shape import GROWTH, cardiothoracic_ratio, jacobians
from workbench.phantom.ct.volume import CREDIT, VOLUME, Volume, chest

SIZE = 128


def ball(middle: np.ndarray, radius: float) -> Volume:
    """A volume of other sizes along each axis, with a ball that attenuates 1/mm."""
    shape, spacing = (89, 127, 113), np.array([2.3, 1.1, 1.7])
    empty = np.zeros(shape, np.uint8)
    made = Volume(np.zeros(shape, np.float32), empty, spacing, empty, empty, empty)
    z, y, x = np.meshgrid(*(made.axis(at) for at in range(3)), indexing="ij", sparse=True)
    away = np.sqrt((z - middle[0]) ** 2 + (y - middle[1]) ** 2 + (x - middle[2]) ** 2)
    return replace(made, density=np.clip((radius - away) / 2 + 0.5, 0, 1).astype(np.float32))


@pytest.mark.parametrize("view", ["PA", "AP", "LATERAL"])
@pytest.mark.parametrize("middle", [(0, 0, 0), (-30, 22, 41), (25, -31, -35)])
def test_a_ball_has_the_line_integral_size_and_place_of_geometry(view, middle):
    beam = Beam(view, field=300, distance=900, gap=35, centre=(7, -11), turn=(8, -5, 3))
    volume = ball(np.array(middle, float), 27.0)
    where, size = lattice(volume, beam, 301), 301
    path = project(volume.density[None], where, beam, size, beam.depth(volume), edges="zeros")[0]
    assert path.max() == pytest.approx(54, rel=0.01)
    centre = np.array([(path * at).sum() / path.sum() for at in np.mgrid[:size, :size]])
    (expected,) = cast(np.array([middle], float), volume, beam, size)
    assert np.abs(centre - expected).max() < 0.5
    # a disc as wide as the ball, enlarged by where it stands between source and detector
    rim = np.array([middle, middle]) + np.array([[13.5, 0, 0], [-13.5, 0, 0]])
    larger = np.linalg.norm(np.diff(cast(rim, volume, beam, size), axis=0)) * beam.pixel(size) / 27
    assert path.sum() * beam.pixel(size) ** 2 == pytest.approx(
        larger**2 * 4 / 3 * np.pi * 27**3, rel=0.03
    )


def test_no_shape_folds_and_every_one_can_be_undone():
    volume, points = chest(), np.random.default_rng(0).uniform(-90, 90, (200, 3))
    for seed in range(8):
        drawn = sample_chest(np.random.default_rng(seed))
        for heart in GROWTH:
            shape = replace(drawn["shape"], heart=heart)
            assert jacobians(shape, volume).min() > 0.05
            there = shape.to_chest(points, volume)
            np.testing.assert_allclose(shape.to_scan(there, volume), points, atol=0.3)


def test_the_scan_is_left_and_its_nodule_measures_what_radiologists_outlined():
    volume = chest()
    agreed = (volume.votes >= 2).sum() * np.prod(volume.spacing)
    assert (6 * agreed / np.pi) ** (1 / 3) == pytest.approx(24.6, abs=0.4)
    part = tuple(
        slice(at, at + n) for at, n in zip(volume.corner, volume.nodule.shape, strict=True)
    )
    here, back = volume.density[part], volume.density[part] + volume.nodule
    assert np.median(here[volume.votes >= 2]) < -700
    assert np.median(back[volume.votes >= 2]) > -100
    assert VOLUME.stat().st_size < 6e6
    left = volume.mask("left lung").any((0, 1))
    assert np.flatnonzero(left).mean() > volume.shape[2] / 2


@pytest.mark.parametrize("finding", [*PHANTOM_FINDINGS, *ON_REQUEST])
def test_an_image_changes_where_the_mask_is(finding):
    with_it = wb.phantom(4, domain="ct", findings=[finding], size=256)
    without = with_it.without(finding)
    assert without.masks == {}
    change = np.square(with_it.image.pixels - without.image.pixels)
    mask = with_it.masks[finding]
    inside = change[mask].sum() / change.sum()
    # a heart that grows pushes lung aside, beyond its own outline
    assert inside >= (0.4 if finding == CARDIOMEGALY else 0.99)
    assert change[mask].mean() > 1e-5
    assert with_it.labels[finding] == "present"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("view", ["PA", "AP"])
def test_the_left_of_the_patient_is_on_the_right_of_the_image(side, view):
    drawn = wb.phantom(
        2, domain="ct", findings=["pleural effusion"], side=side, view=view, size=SIZE
    )
    columns = np.nonzero(drawn.masks["pleural effusion"])[1]
    assert (columns.mean() > SIZE / 2) == (side == "left")
    lungs = [np.nonzero(drawn.anatomy[f"{name} lung"])[1].mean() for name in ("right", "left")]
    assert lungs[0] < lungs[1]


@pytest.mark.parametrize("severity", ["small", "large"])
def test_the_heart_has_the_ratio_that_was_asked_for(severity):
    drawn = wb.phantom(1, domain="ct", findings=[CARDIOMEGALY], severity=severity, size=256)
    lungs = drawn.anatomy["left lung"] | drawn.anatomy["right lung"]
    found = cardiothoracic_ratio(drawn.anatomy["heart"], lungs)
    assert found == pytest.approx(drawn.lesions[0].params["ratio"], abs=0.025)


def test_a_seed_is_one_chest_in_every_view_and_names_its_source():
    one, again = (wb.phantom(7, domain="ct", size=SIZE) for _ in range(2))
    np.testing.assert_array_equal(one.image.pixels, again.image.pixels)
    side = wb.phantom(7, domain="ct", view="LATERAL", size=SIZE)
    assert side.labels == one.labels
    assert side.report == one.report
    assert side.image.contract.view == "LATERAL"
    assert CREDIT in one.image.contract.source
    assert "CC BY 3.0" in one._repr_html_()


def test_views_are_of_ct_phantoms_only():
    with pytest.raises(OptionError, match=r"PA \(only domain='ct' has other views\)"):
        wb.phantom(0, view="LATERAL")
    with pytest.raises(OptionError, match="PA, AP, LATERAL; got 'oblique'"):
        wb.phantom(0, domain="ct", view="oblique")
