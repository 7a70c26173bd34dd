"""A phantom: the image and everything that is true of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape

import numpy as np

from workbench.errors import OptionError, check_one_of, check_whole
from workbench.findings import (
    ABSENT,
    KINDS,
    ON_REQUEST,
    PHANTOM_FINDINGS,
    PRESENT,
    SCAN,
    SEVERITIES,
    SIDES,
    ZONES,
    standard_name,
)
from workbench.phantom.anatomy import sample_anatomy
from workbench.phantom.ct.volume import CREDIT
from workbench.phantom.render import render
from workbench.phantom.scene import (
    VIEWS,
    Drawn,
    Lesion,
    Scene,
    Wish,
    check_findings,
    draw_findings,
    sample_lesions,
)
from workbench.phantom.wording import Question, questions, write_differential, write_report
from workbench.radiograph import InputContract, Radiograph
from workbench.radiograph.contract import LATERAL_VIEW
from workbench.settings import FIRST_HELD_OUT_SEED

#: Sources of phantoms: two that are drawn, and one that is projected from a CT.
DRAWN, CT = ("internal", "external"), "ct"
DOMAINS = (*DRAWN, CT)
#: Smallest and largest size of a phantom, pixels along each edge.
SIZES = (64, 2048)
WISHES = {"side": SIDES, "zone": ZONES, "severity": SEVERITIES, "kind": tuple(KINDS)}


@dataclass(frozen=True, eq=False)
class Phantom:
    """One phantom with its truth.

    Attributes:
        image: Radiograph, (size, size).
        masks: finding -> boolean (size, size), True where it is drawn.
        anatomy: "right lung", "left lung", "heart" -> boolean (size, size).
        occupancy: finding -> share of the attenuation along each ray that is due to it, (size,
            size); of CT phantoms only.
    """

    scene: Scene
    image: Radiograph
    masks: dict[str, np.ndarray]
    anatomy: dict[str, np.ndarray]
    occupancy: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The seed it was drawn from."""
        return self.scene.seed

    @property
    def domain(self) -> str:
        """ "internal", "external" or "ct"."""
        return self.scene.domain

    @property
    def credit(self) -> str:
        """What it was made from, and under which licence; "" where it was drawn."""
        return CREDIT if self.domain == CT else ""

    @property
    def lesions(self) -> tuple[Lesion, ...]:
        """What is drawn, in standard order."""
        return self.scene.lesions

    @property
    def _names(self) -> str:
        return ", ".join(lesion.finding for lesion in self.lesions) or "no finding"

    @property
    def labels(self) -> dict[str, str]:
        """Every finding that a seed can decide, and what was asked for -> "present" or "absent"."""
        drawn = {lesion.finding for lesion in self.lesions}
        asked = tuple(f for f in ON_REQUEST if f in drawn)
        return {f: PRESENT if f in drawn else ABSENT for f in (*PHANTOM_FINDINGS, *asked)}

    @cached_property
    def report(self) -> str:
        """Reference report."""
        return write_report(self.lesions, self._stream(5), self.domain)

    @cached_property
    def differential(self) -> str:
        """Reference differential diagnosis."""
        return write_differential(self.lesions, self._stream(6))

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """Reference questions with answers."""
        return questions(self.lesions, self._stream(7))

    def seen_from(self, view: str) -> Phantom:
        """Return the same chest from another view: "PA" or "LATERAL" of an upright CT phantom.

        Raises:
            OptionError: it is no CT phantom, or one of the views is AP (supine: fluid lies
                elsewhere).
        """
        upright = [name for name in VIEWS if name != "AP"]
        if self.domain != CT or not {view, self.scene.view} <= set(upright):
            raise OptionError(
                f"expected an upright CT phantom and the view {' or '.join(upright)}; got {view!r} "
                f"of {self!r}; draw it with wb.phantom({self.seed}, domain='ct', view='PA')"
            )
        return draw(replace(self.scene, view=view), size=self.image.size[0])

    def lines_in(self, other: Phantom) -> np.ndarray:
        """Return where points of this image lie in another view of the same chest.

        Returns:
            (3, 3): takes a point (x, y, 1), pixels from the upper left corner, to the line a x + b
            y + c = 0 of the other image on which the same place is seen.

        Raises:
            OptionError: they are no CT phantoms of one seed.
        """
        from workbench.phantom.ct.projection import matching_lines  # with torch
        from workbench.phantom.ct.volume import chest

        both = (self, other)
        if {(one.domain, one.seed) for one in both} != {(CT, self.seed)}:
            raise OptionError(f"expected two views of one CT phantom; got {self!r} and {other!r}")
        mine, theirs = (replace(one.scene.anatomy["beam"], view=one.scene.view) for one in both)
        return matching_lines(chest(), mine, theirs, [one.image.size[0] for one in both])

    def without(self, finding: str) -> Phantom:
        """Return the same chest drawn again without one finding.

        Raises:
            OptionError: the phantom does not have it.
        """
        name = standard_name(finding)
        if name not in {lesion.finding for lesion in self.lesions}:
            raise OptionError(f"phantom {self.seed} has no {name}; it has: {self._names}")
        kept = tuple(lesion for lesion in self.lesions if lesion.finding != name)
        return draw(replace(self.scene, lesions=kept), size=self.image.size[0])

    def __repr__(self) -> str:
        wide, high = self.image.size
        return (
            f"<Phantom seed {self.seed} ({_kind_of(self.scene)}): {self._names}; {wide} x {high}>"
        )

    def _repr_html_(self) -> str:
        from workbench.figures.page import embedded_png
        from workbench.figures.radiograph import draw_masks
        from workbench.figures.style import closed_figure

        with closed_figure(figsize=(4.6, 4.9)) as figure:
            title = f"phantom seed {self.seed} ({_kind_of(self.scene)})"
            draw_masks(self.image.pixels, self.masks, ax=figure.add_subplot(), title=title)
            picture = embedded_png(figure, f"Figure: {title}, outlined: {self._names}", dpi=90)
        report = f"<p><b>reference report</b> {escape(self.report)}</p>"
        credit = f"<p>{escape(self.credit)}</p>" if self.credit else ""
        return f"{picture}<p>drawn: {escape(self._names)}</p>{report}{credit}"

    def _stream(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream])


def usual_view(domain: str) -> str:
    """Return the view of a domain's phantoms where none is asked for."""
    return "AP" if domain == "external" else "PA"


def _kind_of(scene: Scene) -> str:
    return f"{scene.domain}, {scene.view}" if scene.domain == CT else scene.domain


def seen_warning(seed: int) -> str | None:
    """Return what to know about scores on phantoms from a seed up; None where they are held out."""
    if seed >= FIRST_HELD_OUT_SEED:
        return None
    return (
        f"seed {seed:,} lies below {FIRST_HELD_OUT_SEED:,}: a model may have been trained on these "
        "phantoms, so the scores are not held out; leave seed at its default for honest numbers"
    )


def sample_scene(
    seed: int,
    *,
    findings: str | Iterable[str] | None = None,
    domain: str = "internal",
    view: str | None = None,
    side: str | None = None,
    zone: str | None = None,
    severity: str | None = None,
    kind: str | None = None,
) -> Scene:
    """Return the scene of a seed; arguments as in `phantom`.

    >>> wb.phantom.sample_scene(7, findings=["nodule"], side="left").lesions[0].side
    'left'
    """
    check_one_of("domain", domain, DOMAINS)
    own = usual_view(domain)
    if view not in ((None, *VIEWS) if domain == CT else (None, own)):
        views = ", ".join(VIEWS) if domain == CT else f"{own} (only domain='ct' has other views)"
        raise OptionError(f"view must be one of {views}; got {view!r}")
    if isinstance(findings, str):
        findings = [findings]
    check_whole(0, seed=seed)
    wish = Wish(side, zone, severity, kind)
    for name, value in wish._asdict().items():
        if value is not None:
            check_one_of(name, value, WISHES[name])
    if kind == SCAN and domain != CT:
        raise OptionError(f"kind={SCAN!r} is the nodule of the CT: give domain={CT!r} as well")
    rng = np.random.default_rng([seed, 1])
    anatomy = _chest(rng) if domain == CT else sample_anatomy(rng, domain)
    if findings is None:
        names = draw_findings(np.random.default_rng([seed, 2]), domain)
        lesions = sample_lesions(np.random.default_rng([seed, 3]), names, wish, domain)
    else:
        lesions = _wished_lesions(seed, check_findings(findings), wish, domain)
    if domain == CT:
        anatomy, lesions = _in_chest(anatomy, lesions, seed)
    return Scene(int(seed), domain, anatomy, lesions, view or own)


def _chest(rng: np.random.Generator) -> dict:
    from workbench.phantom.ct.render import sample_chest  # with torch, which drawings do without

    return sample_chest(rng)


def _in_chest(
    anatomy: dict, lesions: tuple[Lesion, ...], seed: int
) -> tuple[dict, tuple[Lesion, ...]]:
    """Return the lesions with their places and lobes, and a chest that has lost their volume.

    The raised hemidiaphragm belongs to the chest: `Phantom.without` takes the opacity only.
    """
    from workbench.phantom.ct.lesions import located, volume_loss  # reads the volume

    shape = replace(anatomy["shape"], rise=volume_loss(lesions))
    return anatomy | {"shape": shape}, tuple(located(lesion, seed, shape) for lesion in lesions)


def _projected(scene: Scene, size: int) -> Drawn:
    from workbench.phantom.ct.render import render

    return render(scene, size)


def _wished_lesions(
    seed: int, names: tuple[str, ...], wish: Wish, domain: str
) -> tuple[Lesion, ...]:
    """Return lesions with every wished finding, trying other places where they crowd each other."""
    for attempt in range(50):
        stream = [seed, 3] if attempt == 0 else [seed, 3, attempt]
        lesions = sample_lesions(np.random.default_rng(stream), names, wish, domain)
        if len(lesions) == len(names):
            return lesions
    missing = set(names) - {lesion.finding for lesion in lesions}
    raise OptionError(
        f"no free place for {', '.join(sorted(missing))} beside the other findings; "
        "ask for fewer findings, a smaller severity or no fixed side and zone"
    )


def size_near(side: int) -> int:
    """Return the size, pixels along each edge, nearest to a side that a phantom can have."""
    return min(max(side, SIZES[0]), SIZES[1])


def draw(scene: Scene, *, size: int = 512) -> Phantom:
    """Draw a scene at a size.

    Raises:
        OptionError: size is below 64 or above 2048, or no whole number.

    >>> wb.phantom.draw(wb.phantom.sample_scene(7), size=128).image.size
    (128, 128)
    """
    check_whole(1, size=size)
    if size != size_near(size):
        raise OptionError(f"size must be between {SIZES[0]} and {SIZES[1]} pixels; got {size}")
    made = _projected(scene, size) if scene.domain == CT else render(scene, size)
    credit = f"; {CREDIT}" if scene.domain == CT else ""
    lateral = scene.view == "LATERAL"
    contract = InputContract(
        source=f"phantom seed {scene.seed} ({_kind_of(scene)}){credit}",
        modality="phantom",
        view="lateral" if lateral else scene.view,
        original_size=(size, size),
        domain="phantom",
        warnings=(LATERAL_VIEW,) if lateral else (),
    )
    return Phantom(scene, Radiograph(made.pixels, contract), *made[1:])


def phantom(
    seed: int = 0,
    *,
    findings: str | Iterable[str] | None = None,
    domain: str = "internal",
    view: str | None = None,
    size: int = 512,
    side: str | None = None,
    zone: str | None = None,
    severity: str | None = None,
    kind: str | None = None,
) -> Phantom:
    """Draw a chest phantom.

    Args:
        seed: the same seed gives the same pixels on any machine, within one grey level. Seeds from
            10,000,000 up are kept for evaluation.
        findings: names to draw, an empty list for a normal chest, None to let the seed decide.
        domain: "internal" (PA-like) or "external" (AP-like, flatter, noisier, more devices), both
            drawn; "ct" is projected from a public CT (LIDC-IDRI-0001, CC BY 3.0).
        view: of a CT phantom: "PA" (default), "AP" or "LATERAL"; the same chest in each.
        size: pixels along each edge; the same scene, drawn smaller or larger.
        side, zone, severity: wished-for values for the findings that have them.
        kind: wished-for kind of atelectasis ("linear", "lobar") or support device; "scan" makes the
            nodule of a CT phantom its patient's own (24.6 mm in the scan, left lower lobe).

    Raises:
        OptionError: an argument has a value that is not allowed.

    >>> wb.phantom(seed=7, findings=["nodule"], size=256).labels["nodule"]
    'present'
    """
    scene = sample_scene(
        seed, findings=findings, domain=domain, view=view, side=side, zone=zone,
        severity=severity, kind=kind,
    )  # fmt: skip
    return draw(scene, size=size)
