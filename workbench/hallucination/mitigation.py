"""Mitigation: options of `model.report(image, mitigation=...)` that keep false findings out.

    ContrastiveDecoding  decode against an ablated image (`contrast`)
    PollAndRewrite       ask about every finding, then make the report agree with the answers
    Revise               take back the stated findings that are probably false
    Abstain              put in doubt those that would spoil a wanted precision

Each costs time, and each also loses true findings; `benchmark_mitigation` counts both. A finding
that is taken back is not denied: nothing is said of it any more. What they return is a
`Generation`, so that every analysis takes it.

Papers: polling, Li et al. (POPE), EMNLP 2023, arXiv 2305.10355; revising what was generated,
Zhou et al. (LURE), ICLR 2024, arXiv 2310.00754, and Yin et al. (Woodpecker), 2310.16045. Deviation:
the model judges its own statements (`detectors`), and rules rewrite them (`rewriting`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from html import escape
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch

from workbench._repr import short_repr
from workbench.errors import OptionError
from workbench.findings import NO_FINDING, PHANTOM_FINDINGS, PRESENT
from workbench.generation import Generation
from workbench.generation.options import DecodingOptions
from workbench.hallucination.ablations import augmented_images, image_values
from workbench.hallucination.calibration import Calibration, shipped_calibration
from workbench.hallucination.detectors import AUGMENTED_POLLING, DETECTORS, detect
from workbench.hallucination.polling import YES, question_about, read_answer, yes_odds
from workbench.hallucination.rewriting import EDITS, Change, rewrite
from workbench.interface import ChestXrayModel, as_radiograph
from workbench.model.licence import RESEARCH_NOTICE
from workbench.reports import label

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class MitigatedGeneration(Generation):
    """A `Generation` with what was done to keep it true.

    Attributes:
        mitigation: name and options of what was done.
        changes: what was changed in the text of `original`.
        original: the report as the model wrote it by itself; None where the mitigation took part
            in writing it.
    """

    mitigation: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    original: Generation | None = None

    __repr__ = short_repr

    def changes_frame(self) -> pd.DataFrame:
        """Return one row per change: finding, edit, before, after, score."""
        import pandas as pd

        names = [field.name for field in fields(Change)]
        rows = [tuple(getattr(change, name) for name in names) for change in self.changes]
        return pd.DataFrame(rows, columns=names)

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return super().to_dict() | {
            "mitigation": dict(self.mitigation),
            "changes": [vars(change) for change in self.changes],
            "original": None if self.original is None else self.original.text,
        }

    def _repr_html_(self) -> str:
        from workbench.figures.page import SMALL, card
        from workbench.figures.tables import html_table

        rows = [
            [row.finding, row.edit, row.before or "-", row.after or "-"] for row in self.changes
        ]
        said = (
            html_table(["finding", "edit", "before", "after"], rows)
            if rows
            else "<p>nothing changed</p>"
        )
        note = f"<p style='{SMALL}'>{RESEARCH_NOTICE}</p>"
        name = escape(self.mitigation["name"])
        return super()._repr_html_() + card(f"<b>{name}</b>{said}{note}")


def extended(generation: Generation, **more: Any) -> MitigatedGeneration:
    """Return a generation with other or further fields of `MitigatedGeneration`."""
    own = {item.name: getattr(generation, item.name) for item in fields(Generation)}
    return MitigatedGeneration(**{**own, **more})


def reworded(
    model: ChestXrayModel, original: Generation, pixels: torch.Tensor, text: str, **more: Any
) -> MitigatedGeneration:
    """Return a generation of another text about the same image, its tokens read by the model.

    Args:
        model: a `ChestXrayModel`.
        original: what the model wrote.
        pixels: (1, 1, S, S) normalised, that it wrote it about.
        text: the new text; the old one keeps the old tokens.
        **more: further fields of `MitigatedGeneration`.
    """
    if text == original.text:
        return extended(original, original=original, **more)
    tokenizer = model.tokenizer
    ids = (*tokenizer.encode(text, add_bos=False), tokenizer.eos_id)
    logits = model.force(pixels, original.prompt_ids, ids)
    logs = logits.log_softmax(-1).cpu()
    chosen = logs.gather(1, torch.tensor(ids)[:, None])[:, 0]
    return extended(
        original,
        text=tokenizer.decode(ids),
        token_ids=ids,
        tokens=tuple(tokenizer.pieces(ids)),
        logprobs=chosen.tolist(),
        offsets=tuple(tokenizer.offsets(ids)),
        stopped_by="eos",
        original=original,
        **more,
    )


@dataclass(frozen=True)
class PollAndRewrite:
    """Ask "Is there X?" of every finding and make the report agree.

    The odds of yes are the mean over the image and its test-time augmentations. A stated finding
    with odds below `remove_below` is denied; one that is not stated, with odds above `add_above`,
    is added in the words of the model's own answer.

    Attributes:
        findings: which to ask about where some may be added; stated ones are always asked about.
        remove_below: odds in nats; 0 is as likely as not. The default was chosen for `mini` on
            seeds from 8,200,000: below 0 a false statement often finds a false yes.
        add_above: odds in nats; None adds nothing.
        edit: "deny", "drop" or "doubt": what becomes of a stated finding.
        augmented: whether to ask about augmented images too, at ten times the cost.
        seed: of the augmentations' grain.
    """

    findings: tuple[str, ...] = PHANTOM_FINDINGS
    remove_below: float = 2.0
    add_above: float | None = None
    edit: str = "deny"
    augmented: bool = True
    seed: int = 0

    #: What tables call it.
    name = "polling, then rewriting"

    def __post_init__(self) -> None:
        _check_edit(self.edit)

    def report(
        self, model: ChestXrayModel, image: object, **decoding: Unpack[DecodingOptions]
    ) -> MitigatedGeneration:
        """Write a report about an image; see `ChestXrayModel.report`."""
        began = time.perf_counter()
        image = as_radiograph(image)
        written = model.report(image, **decoding)
        pixels = image_values(model, image)
        stated = _stated(written.text)
        asked = dict.fromkeys((*stated, *(self.findings if self.add_above is not None else ())))
        odds = _odds(model, pixels, tuple(asked), augmented=self.augmented, seed=self.seed)
        edits = {name: self.edit for name in stated if odds[name] < self.remove_below}
        wanted = [
            name
            for name in asked
            if name not in stated and self.add_above is not None and odds[name] > self.add_above
        ]
        add = {name: said for name in wanted if (said := _answer(model, image, name))}
        text, changes = rewrite(written.text, edits, add=add, scores=odds)
        done = {"name": self.name, **_options(self)}
        return _finished(model, written, pixels, text, changes, done, began)


@dataclass(frozen=True, eq=False)
class Revise:
    """Take back stated findings whose probability of being false is at least `above`.

    Attributes:
        above: probability, in (0, 1].
        calibration: turns detectors into it; None takes the one that is shipped for the model.
        edit: "drop", "deny" or "doubt".
        seed: of the augmentations' grain and of ablations.
    """

    above: float = 0.5
    calibration: Calibration | None = None
    edit: str = "drop"
    seed: int = 0

    #: What tables call it.
    name = "finding-level revision"

    def __post_init__(self) -> None:
        _check_edit(self.edit)
        if not 0 < self.above <= 1:
            raise OptionError(f"above must be above 0 and at most 1, got {self.above!r}")

    def report(
        self, model: ChestXrayModel, image: object, **decoding: Unpack[DecodingOptions]
    ) -> MitigatedGeneration:
        """Write a report about an image; see `ChestXrayModel.report`.

        Raises:
            InputError: no calibration is shipped for the model, and none was given.
        """
        began = time.perf_counter()
        calibration = self.calibration or shipped_calibration(model)
        image = as_radiograph(image)
        written = model.report(image, **decoding)
        suspect = suspicion(model, image, written, calibration, seed=self.seed)
        edits = {name: self.edit for name, value in suspect.items() if value >= self.above}
        text, changes = rewrite(written.text, edits, scores=suspect)
        done = {"name": self.name, **_options(self), "calibration": calibration.fitted_on}
        return _finished(model, written, image_values(model, image), text, changes, done, began)


@dataclass(frozen=True, eq=False)
class Abstain:
    """Put stated findings in doubt so that a wanted share of what stays stated is true.

    The cut comes from the cases that the calibration was fitted on; elsewhere the precision is
    another, and the benchmark says which.

    Attributes:
        precision: wanted, above 0 and at most 1.
        calibration: as in `Revise`.
        edit: "doubt", "drop" or "deny".
        seed: as in `Revise`.
    """

    precision: float = 0.95
    calibration: Calibration | None = None
    edit: str = "doubt"
    seed: int = 0

    #: What tables call it.
    name = "abstention"

    def __post_init__(self) -> None:
        _check_edit(self.edit)
        if not 0 < self.precision <= 1:
            raise OptionError(f"precision must be above 0 and at most 1, got {self.precision!r}")

    def report(
        self, model: ChestXrayModel, image: object, **decoding: Unpack[DecodingOptions]
    ) -> MitigatedGeneration:
        """Write a report about an image; see `Revise.report`."""
        calibration = self.calibration or shipped_calibration(model)
        cut = float(np.nextafter(calibration.cut_for_precision(self.precision), 1))
        revised = Revise(above=cut, calibration=calibration, edit=self.edit, seed=self.seed)
        found = revised.report(model, image, **decoding)
        done = {"name": self.name, "precision": self.precision, "cut": cut}
        return replace(found, mitigation={**found.mitigation, **done})


def suspicion(
    model: ChestXrayModel,
    image: object,
    written: Generation,
    calibration: Calibration,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Return, for each finding that a report states, the probability that it is false.

    Args:
        model: a `ChestXrayModel`.
        image: what the report is about.
        written: the report.
        calibration: of these weights; one of polling under augmentation alone needs no trace.
        seed: of grain, noise and drawn phantoms.
    """
    stated = _stated(written.text)
    if not stated:
        return {}
    if calibration.detectors == (AUGMENTED_POLLING,):
        odds = _odds(model, image_values(model, image), stated, augmented=True, seed=seed)
        scores = np.array([[-odds[name]] for name in stated])
        return dict(zip(stated, calibration.probability(scores).tolist(), strict=True))
    trace = model.trace(image, written, heads="mean", vision="none")
    found = detect(trace, samples=0, seed=seed)
    columns = [DETECTORS.index(name) for name in calibration.detectors]
    probabilities = calibration.probability(found.scores[:, columns])
    return dict(zip(found.findings, probabilities.tolist(), strict=True))


def _odds(
    model: ChestXrayModel,
    pixels: torch.Tensor,
    findings: Sequence[str],
    *,
    augmented: bool,
    seed: int,
) -> dict[str, float]:
    """Return the mean odds of yes for each finding, nats."""
    images = [pixels]
    if augmented:
        images += augmented_images(model, pixels[0].cpu().numpy(), seed=seed).values()
    return {name: float(yes_odds(model, images, question_about(name)).mean()) for name in findings}


def _answer(model: ChestXrayModel, image: object, finding: str) -> str:
    """Return the model's own statement of a finding; empty where its answer does not affirm it."""
    answer = model.ask(image, question_about(finding)).text
    if read_answer(answer, finding) != YES:
        return ""
    said = answer.strip().removeprefix("Yes").lstrip(",.:; ")
    said = said[:1].upper() + said[1:] if said else f"There is {finding}."
    return said if label(said).code(finding) == PRESENT else ""


def _stated(text: str) -> tuple[str, ...]:
    return tuple(name for name in label(text).present if name != NO_FINDING)


def _options(mitigation: Any) -> Mapping[str, Any]:
    return {name: value for name, value in vars(mitigation).items() if name != "calibration"}


def _finished(model, written, pixels, text, changes, done, began) -> MitigatedGeneration:
    found = reworded(model, written, pixels, text, mitigation=done, changes=changes)
    return replace(found, seconds=time.perf_counter() - began)


def _check_edit(edit: str) -> None:
    if edit not in EDITS:
        raise OptionError(f"unknown edit {edit!r}; expected one of: {', '.join(EDITS)}")
