"""Phantoms projected from the CT: geometry, shapes, and truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import KDTree

import workbench as wb
from workbench.errors import OptionError
from workbench.findings import CARDIOMEGALY, EFFUSION, ON_REQUEST, PHANTOM_FINDINGS, same_zone
from workbench.phantom.case import sample_scene
from workbench.phantom.ct.lesions import nodule
from workbench.phantom.ct.projection import Beam, cast, lattice, project
from workbench.phantom.ct.render import sample_chest
from workbench.phantom.ct.shape import GROWTH, Shape, cardiothoracic_ratio, with_ratio
from workbench.phantom.ct.site import Site
from workbench.phantom.ct.volume import CREDIT, VOLUME, Volume, chest
from workbench.phantom.scene import VIEWS
from workbench.phantom.wording import write_report
from workbench.reports import label

SIZE = 128


def jacobians(shape, volume, step: float = 6.0) -> np.ndarray:
    """Return by how much volumes of this chest grow on the way to the scan, on a grid of points."""
    axes = [np.arange(-half, half, step) for half in volume.extent / 2]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    found = shape.to_scan(grid.reshape(-1, 3), volume).reshape(grid.shape)
    changes = np.stack(np.gradient(found, step, axis=(0, 1, 2)), -1)
    return np.linalg.det(changes)


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


@pytest.mark.parametrize("seed", [5, 11, 12])
def test_a_place_of_one_view_lies_on_its_line_in_the_other(seed):
    asked = {"domain": "ct", "findings": ["nodule"], "size": SIZE}
    front = wb.phantom(seed, **asked)
    side, (lesion,), facts = front.seen_from("LATERAL"), front.lesions, front.scene.anatomy
    drawn = wb.phantom(seed, view="LATERAL", **asked)
    assert np.array_equal(side.image.pixels, drawn.image.pixels)
    volume = chest()
    shape = with_ratio(facts["shape"], volume, facts["beam"], facts["ratio"])
    middle = shape.to_chest(np.array(list(lesion.params["middle"].values())), volume)
    views = [replace(facts["beam"], view=one.scene.view) for one in (front, side)]
    (one,), (two,) = (cast(middle, volume, beam, SIZE)[:, ::-1] + 0.5 for beam in views)
    for here, there, lines in [
        (one, two, front.lines_in(side)), (two, one, side.lines_in(front)),
    ]:  # fmt: skip
        assert distance(lines, here, there) < 1e-6  # of the middle of the lesion, pixels
    seen = [np.argwhere(one.masks["nodule"]).mean(0)[::-1] + 0.5 for one in (front, side)]
    assert distance(front.lines_in(side), *seen) < 1.5  # of what is outlined


def test_lines_lead_to_an_image_of_another_size():
    front, side = (wb.phantom(5, domain="ct", findings=[], view=v, size=64) for v in VIEWS[::2])
    large = wb.phantom(5, domain="ct", findings=[], view="LATERAL", size=128)
    for point in ((20.0, 31.0), (44.0, 12.0)):
        a, b, c = front.lines_in(side) @ (*point, 1)
        x = 17.0
        assert (
            distance(front.lines_in(large), point, np.array([2 * x, -2 * (a * x + c) / b])) < 1e-6
        )


@pytest.mark.parametrize("given", [{"seed": 6, "domain": "ct"}, {"seed": 5}])
def test_lines_lead_to_the_same_chest_only(given):
    front, other = wb.phantom(5, domain="ct", findings=[], size=64), wb.phantom(size=64, **given)
    for one, two in ((front, other), (other, front)):
        with pytest.raises(OptionError, match="two views of one CT phantom"):
            one.lines_in(two)


@pytest.mark.parametrize("size", [64.5, "128", True])
def test_a_size_is_a_whole_number(size):
    with pytest.raises(OptionError, match="size must be"):
        wb.phantom(0, domain="ct", findings=[], size=size)


def distance(lines: np.ndarray, here: np.ndarray, there: np.ndarray) -> float:
    """Return how far a point of one view is from the line of a point of the other, pixels."""
    a, b, c = lines @ np.append(here, 1)
    return float(abs(a * there[0] + b * there[1] + c) / np.hypot(a, b))


@pytest.mark.parametrize(
    ("given", "view"),
    [({"domain": "internal"}, "LATERAL"), ({"domain": "ct", "view": "AP"}, "LATERAL"),
     ({"domain": "ct"}, "AP")],
)  # fmt: skip
def test_other_views_are_of_upright_ct_phantoms_only(given, view):
    with pytest.raises(OptionError, match=r"upright CT phantom.*wb\.phantom\(3, domain='ct'"):
        wb.phantom(3, size=SIZE, findings=[], **given).seen_from(view)


def test_no_shape_folds_and_every_one_can_be_undone():
    volume, points = chest(), np.random.default_rng(0).uniform(-90, 90, (200, 3))
    for seed in range(8):
        drawn = sample_chest(np.random.default_rng(seed))
        for heart in GROWTH:
            shape = replace(drawn["shape"], heart=heart, rise=(28.0, 0.0))
            assert jacobians(shape, volume).min() > 0.05
            there = shape.to_chest(points, volume)
            np.testing.assert_allclose(shape.to_scan(there, volume), points, atol=0.3)


def test_two_hundred_shapes_stay_without_folds():
    volume = chest()
    for seed in range(100, 300):
        rng = np.random.default_rng(seed)
        rise = tuple(rng.uniform(0, 30, 2) * (rng.random(2) < 0.5))
        shape = replace(sample_chest(rng)["shape"], heart=rng.uniform(*GROWTH), rise=rise)
        assert jacobians(shape, volume, 16.0).min() > 0.05


def grown(shape: Shape, volume: Volume, points: np.ndarray, step: float = 1.0) -> np.ndarray:
    """By how much volumes grow from the scan to the chest, at points (N, 3) of the scan."""
    there = shape.to_chest(points, volume)
    moves = np.eye(3) * step
    changes = [shape.to_scan(there + m, volume) - shape.to_scan(there - m, volume) for m in moves]
    return 1 / np.linalg.det(np.stack(changes, -1) / (2 * step))


@pytest.mark.parametrize("body", ["ball", "cube", "right lung", "left lung"])
@pytest.mark.parametrize("rise", [(0.0, 0.0), (26.0, 9.0)])
def test_a_body_keeps_the_volume_that_its_jacobian_states(body, rise):
    volume = chest()
    drawn = sample_chest(np.random.default_rng(3))["shape"]
    shape, middle, step = replace(drawn, heart=0.2, rise=rise), np.array([20.0, 0, 55]), 4.0

    def inside(points: np.ndarray) -> np.ndarray:
        away = np.abs(points - middle)
        if body == "ball":
            return np.square(away).sum(1) < 40**2
        if body == "cube":
            return away.max(1) < 35
        at = np.rint((points + volume.extent / 2) / volume.spacing).astype(int)
        within = ((at >= 0) & (at < volume.shape)).all(1)
        return within & volume.mask(body)[tuple(np.clip(at, 0, np.array(volume.shape) - 1).T)]

    axes = [np.arange(-half * 1.25, half * 1.25, step) for half in volume.extent / 2]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    measured = inside(shape.to_scan(grid, volume)).sum() * step**3
    there = grid[inside(grid)][::5]
    expected = grown(shape, volume, there).mean() * inside(grid).sum() * step**3
    assert measured == pytest.approx(expected, rel=0.05)


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


@pytest.mark.parametrize("seed", [2000, 2003, 2007, 2017, 2115])
def test_a_nodule_is_as_large_as_it_is_said_to_be_however_the_chest_is_stretched(seed):
    drawn, volume = wb.phantom(seed, domain="ct", findings=["nodule"], size=64), chest()
    (lesion,), facts = drawn.lesions, drawn.scene.anatomy
    shape = with_ratio(facts["shape"], volume, facts["beam"], facts["ratio"])
    rng = np.random.default_rng([seed, 8, *lesion.finding.encode()])
    (patch,) = nodule(Site(volume, rng, shape=shape), lesion)
    solid = np.argwhere(patch.added > 0.5 * np.quantile(patch.added[patch.added > 0], 0.9))
    points = volume.points(solid + patch.corner)
    large = grown(shape, volume, points[::5]).mean() * len(solid) * np.prod(volume.spacing)
    assert (6 * large / np.pi) ** (1 / 3) == pytest.approx(lesion.size_mm, rel=0.1)
    high, _, wide = np.ptp(shape.to_chest(points, volume), axis=0)
    assert 0.7 < high / wide < 1.4
    assert f"{round(lesion.size_mm / 5) * 5} mm" in drawn.report


def test_the_nodule_of_the_scan_is_back_where_radiologists_outlined_it():
    drawn = wb.phantom(5, domain="ct", findings=["nodule"], kind="scan", size=256)
    (lesion,) = drawn.lesions
    assert (lesion.side, lesion.zone, lesion.lobe) == ("left", "mid", "left lower lobe")
    assert "in the left lower lobe" in drawn.report
    volume, facts, mask = chest(), drawn.scene.anatomy, drawn.masks["nodule"]
    shape = with_ratio(facts["shape"], volume, facts["beam"], facts["ratio"])
    outlined = volume.points(np.argwhere(volume.votes >= 2) + volume.corner)
    larger = grown(shape, volume, outlined[::5]).mean() ** (1 / 3)
    assert lesion.size_mm == pytest.approx(24.6 * larger, rel=0.02) != 24.6
    seen = cast(shape.to_chest(outlined, volume), volume, facts["beam"], 256)
    away, _ = KDTree(seen).query(np.argwhere(mask))
    assert away.max() < 3
    assert mask[tuple(np.rint(seen).astype(int).T)].mean() > 0.98
    rows, columns = np.nonzero(mask)
    assert drawn.anatomy["left lung"][int(rows.mean()), int(columns.mean())]
    with pytest.raises(OptionError, match="give domain='ct' as well"):
        wb.phantom(5, findings=["nodule"], kind="scan")


@pytest.mark.parametrize("finding", ["consolidation", "atelectasis", "nodule"])
def test_a_lesion_of_one_lung_knows_its_lobe_and_the_report_names_it(finding):
    for seed in range(12):
        scene = sample_scene(seed, domain="ct", findings=[finding])
        (lesion,) = scene.lesions
        text = write_report([lesion], np.random.default_rng(seed), "ct")
        row = label(text)[finding]
        assert same_zone(lesion.zone, lesion.lobe, row.zone, row.lobe)
        if lesion.side == "bilateral":
            assert lesion.lobe is None
            continue
        assert lesion.lobe.startswith(lesion.side)
        assert f"{lesion.side} {row.lobe}" == lesion.lobe
        if "middle" in lesion.params:
            assert chest().lobe(lesion.params["middle"][lesion.side]) == lesion.lobe


def test_fluid_of_a_patient_who_lies_is_a_layer_without_a_level():
    kwargs = {"domain": "ct", "findings": ["pleural effusion"], "side": "right", "size": SIZE}
    for severity in ("small", "moderate", "large"):
        tops = [
            np.nonzero(wb.phantom(2, view=view, severity=severity, **kwargs).masks[EFFUSION])[
                0
            ].min()
            for view in ("PA", "AP")
        ]
        assert tops[1] < tops[0]
        assert tops[1] < 0.25 * SIZE


def test_the_lung_beside_free_air_is_pressed_together():
    drawn = wb.phantom(3, domain="ct", findings=["pneumothorax"], severity="large", size=256)
    change = drawn.image.pixels - drawn.without("pneumothorax").image.pixels
    mask = drawn.masks["pneumothorax"]
    assert (change[mask] < -0.01).mean() > 0.15
    assert (change[mask] > 0.01).mean() > 0.15


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_lobe_that_collapses_draws_up_its_hemidiaphragm(side):
    drawn = wb.phantom(
        3, domain="ct", findings=["atelectasis"], kind="lobar", side=side, severity="large",
        size=SIZE,
    )  # fmt: skip
    usual = wb.phantom(3, domain="ct", findings=[], size=SIZE)
    lung = {s: [p.anatomy[f"{s} lung"].sum() for p in (drawn, usual)] for s in ("left", "right")}
    other = "right" if side == "left" else "left"
    assert lung[side][0] < 0.97 * lung[side][1]
    assert lung[other][0] == pytest.approx(lung[other][1], rel=0.02)


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
    assert side.image.contract.view == "lateral"
    assert CREDIT in one.image.contract.source
    assert side.image.contract.source != one.image.contract.source
    assert "CC BY 3.0" in one._repr_html_()


def test_views_are_of_ct_phantoms_only():
    with pytest.raises(OptionError, match=r"PA \(only domain='ct' has other views\)"):
        wb.phantom(0, view="LATERAL")
    with pytest.raises(OptionError, match="PA, AP, LATERAL; got 'oblique'"):
        wb.phantom(0, domain="ct", view="oblique")
