"""Mitigation: options of `model.report(image, mitigation=...)` that keep false findings out.

    ContrastiveDecoding  decode against an ablated image
    PollAndRewrite       ask about every stated finding, then make the report agree
    Revise               take back the stated findings that are probably false
    Abstain              put in doubt those that would spoil a wanted precision

Each costs time, and each also loses true findings; `benchmark_mitigation` counts both, by `name`. A
finding that is taken back is not denied: nothing is said of it any more.

Papers: polling, Li et al. (POPE), EMNLP 2023, arXiv 2305.10355; revising what was generated,
Zhou et al. (LURE), ICLR 2024, arXiv 2310.00754, and Yin et al. (Woodpecker), 2310.16045. Deviation:
the model judges its own statements (`detectors`), and rules rewrite them (`rewriting`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from html import escape
from typing import Any, Unpack

import numpy as np
import torch

from workbench._repr import result
from workbench.backends.levels import LOGPROBS, READER, WRITER, needs
from workbench.errors import OptionError, check_one_of
from workbench.figures.page import SMALL, card
from workbench.figures.tables import html_table
from workbench.findings import NO_FINDING
from workbench.generation import Generation
from workbench.generation.options import DecodingOptions, decoding_settings
from workbench.hallucination.ablations import ABLATIONS, ablated_images, augmented_images
from workbench.hallucination.calibration import Calibration, shipped_calibration
from workbench.hallucination.detectors import AUGMENTED_POLLING, DETECTORS, detect
from workbench.hallucination.polling import question_about, yes_odds
from workbench.hallucination.rewriting import EDITS, Change, rewrite
from workbench.imaging.load import as_radiograph
from workbench.interface import ChestXrayModel
from workbench.model.licence import RESEARCH_NOTICE
from workbench.radiograph import Radiograph
from workbench.reports import label


@result()
class MitigatedGeneration(Generation):
    """A `Generation` with the name and options of what was done to keep it true.

    Attributes:
        changes: what was changed in the text of `original`.
        original: the report as the model wrote it by itself; None where the mitigation took part
            in writing it.

    >>> poll = wb.hallucination.PollAndRewrite()
    >>> type(model.report(image, mitigation=poll)) is wb.hallucination.MitigatedGeneration
    True
    """

    mitigation: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    original: Generation | None = None

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return super().to_dict() | {
            "mitigation": dict(self.mitigation),
            "changes": [vars(change) for change in self.changes],
            "original": None if self.original is None else self.original.text,
        }

    def _repr_html_(self) -> str:
        said = "<p>nothing changed</p>"
        if self.changes:
            rows = [(c.finding, c.edit, c.before or "-", c.after or "-") for c in self.changes]
            said = html_table(["finding", "edit", "before", "after"], rows)
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

    The old text keeps the old tokens. A writer cannot read a text, so its new one has none.
    `pixels` are (1, 1, S, S), normalised.
    """
    if text == original.text:
        return extended(original, original=original, **more)
    if model.level == WRITER:
        unread = {"token_ids": (), "tokens": (), "offsets": (), "logprobs": np.zeros(0, np.float32)}
        return extended(original, text=text, original=original, **unread, **more)
    tokenizer = model.tokenizer
    ids = (*tokenizer.encode(text, add_bos=False), tokenizer.eos_id)
    logs = model.force(pixels, original.prompt_ids, ids).log_softmax(-1).cpu()
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
class ContrastiveDecoding:
    """Visual contrastive decoding: choose the words that the image makes likelier.

    The same text is decoded with the image and with an ablation of it, side by side in one batch.
    Each token is chosen from (1 + alpha) log p(token | image) - alpha log p(token | ablation),
    among tokens that are at least `plausible` times as likely as the likeliest one given the image.
    What the model would write of any image cancels out.

    Paper: Leng et al., CVPR 2024, arXiv 2311.16922, equations 3 to 5. Deviation: any of our
    ablations in place of a diffusion's noise, and greedy by default.

    Attributes:
        alpha: how strongly the ablation is held against a token; 0 decodes as without.
        plausible: smallest likelihood of a token, as a share of the likeliest one's, in (0, 1].
        ablation: one of `ABLATIONS`.
        seed: of the ablation.

    >>> contrast = wb.hallucination.ContrastiveDecoding(alpha=0.5)
    >>> model.report(image, mitigation=contrast).mitigation["alpha"]
    0.5
    """

    alpha: float = 1.0
    plausible: float = 0.1
    ablation: str = "noise"
    seed: int = 0

    name = "contrastive decoding"

    def __post_init__(self) -> None:
        if not self.alpha >= 0 or not 0 < self.plausible <= 1:
            raise OptionError(
                "expected alpha of 0 or more and plausible above 0 and at most 1, got "
                f"{self.alpha} and {self.plausible}"
            )
        check_one_of("ablation", self.ablation, ABLATIONS)

    @needs(READER)
    def report(
        self, model: ChestXrayModel, image: object, **decoding: Unpack[DecodingOptions]
    ) -> MitigatedGeneration:
        """Write a report about an image; see `ChestXrayModel.report`."""
        began = time.perf_counter()
        image = as_radiograph(image)
        settings = decoding_settings(decoding).with_seed()
        messages = model.prompts.report_messages()
        lead = model.jobs(image, [("report", messages, settings)])[0]
        pixels = lead.request.pixel_values
        shadow = ablated_images(
            model, pixels[0].cpu().numpy(), ablations=[self.ablation], seed=self.seed
        )[self.ablation]
        beside = model.job(shadow, messages, settings, task="report", source=lead.source)
        written = model.answer_batch([lead, beside], guide=self.guide)[0]
        return extended(
            written,
            mitigation={"name": self.name, **asdict(self)},
            seconds=time.perf_counter() - began,
        )

    def guide(self, rows: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
        """Return the contrast of each pair of rows 2 k (image) and 2 k + 1 (ablation), for both.

        `logits` are (R, V); both rows of a pair are always there, in any order.
        """
        order = np.argsort(rows)
        image, other = order[::2], order[1::2]
        logs = logits.log_softmax(-1)
        found = (1 + self.alpha) * logs[image] - self.alpha * logs[other]
        least = logs[image].amax(-1, keepdim=True) + torch.tensor(self.plausible).log()
        changed = torch.empty_like(logits)
        changed[image] = changed[other] = found.masked_fill(logs[image] < least, -torch.inf)
        return changed


@dataclass(frozen=True)
class PollAndRewrite:
    """Ask "Is there X?" of every stated finding and deny those whose odds of yes are low.

    The odds are the mean over the image and its test-time augmentations.

    Attributes:
        remove_below: odds in nats; 0 is as likely as not. The default was chosen for `mini` on
            seeds from 8,200,000: below 0 a false statement often finds a false yes.
        edit: what becomes of a rejected finding, one of `EDITS`.
        seed: of the augmentations' grain.

    >>> poll = wb.hallucination.PollAndRewrite(remove_below=1.0)
    >>> model.report(image, mitigation=poll).mitigation["edit"]
    'deny'
    """

    remove_below: float = 2.0
    edit: str = "deny"
    seed: int = 0

    name = "polling, then rewriting"

    def __post_init__(self) -> None:
        check_one_of("edit", self.edit, EDITS)

    @needs(WRITER, LOGPROBS)
    def report(
        self, model: ChestXrayModel, image: object, **decoding: Unpack[DecodingOptions]
    ) -> MitigatedGeneration:
        """Write a report about an image; see `ChestXrayModel.report`."""

        def odds(image: Radiograph, written: Generation) -> dict[str, float]:
            return _odds(model, model.pixels(image), _stated(written.text), seed=self.seed)

        return _rewritten(self, model, image, decoding, odds, lambda one: one < self.remove_below)


@dataclass(frozen=True, eq=False)
class Revise:
    """Take back stated findings whose probability of being false is at least `above`.

    Attributes:
        above: probability, in (0, 1].
        calibration: turns detectors into it; None takes the one that is shipped for the model.
        edit, seed: as in `PollAndRewrite`.

    >>> model.report(image, mitigation=wb.hallucination.Revise(above=0.8)).mitigation["name"]
    'finding-level revision'
    """

    above: float = 0.5
    calibration: Calibration | None = None
    edit: str = "drop"
    seed: int = 0

    name = "finding-level revision"

    def __post_init__(self) -> None:
        check_one_of("edit", self.edit, EDITS)
        if not 0 < self.above <= 1:
            raise OptionError(f"above must be above 0 and at most 1, got {self.above!r}")

    @needs(READER)
    def report(
        self, model: ChestXrayModel, image: object, **decoding: Unpack[DecodingOptions]
    ) -> MitigatedGeneration:
        """Write a report about an image; without any calibration it raises `InputError`."""
        calibration = self.calibration or shipped_calibration(model)

        def suspect(image: Radiograph, written: Generation) -> dict[str, float]:
            return suspicion(model, image, written, calibration, seed=self.seed)

        found = _rewritten(self, model, image, decoding, suspect, lambda one: one >= self.above)
        done = {**found.mitigation, "calibration": calibration.fitted_on}
        return replace(found, mitigation=done)


@dataclass(frozen=True, eq=False)
class Abstain:
    """Put stated findings in doubt so that a wanted share of what stays stated is true.

    The cut comes from the cases that the calibration was fitted on; elsewhere the precision is
    another, and the benchmark says which.

    Attributes:
        precision: wanted, above 0 and at most 1.
        calibration, edit, seed: as in `Revise`.

    >>> model.report(image, mitigation=wb.hallucination.Abstain(precision=0.9)).mitigation["name"]
    'abstention'
    """

    precision: float = 0.95
    calibration: Calibration | None = None
    edit: str = "doubt"
    seed: int = 0

    name = "abstention"

    def __post_init__(self) -> None:
        check_one_of("edit", self.edit, EDITS)
        if not 0 < self.precision <= 1:
            raise OptionError(f"precision must be above 0 and at most 1, got {self.precision!r}")

    @needs(READER)
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


@needs(READER)
def suspicion(
    model: ChestXrayModel,
    image: object,
    written: Generation,
    calibration: Calibration,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Return, for each finding that a report states, the probability that it is false.

    The calibration must be of these weights.

    >>> calibration = wb.hallucination.shipped_calibration(model)
    >>> list(wb.hallucination.suspicion(model, image, report, calibration))
    ['pleural effusion']
    """
    stated = _stated(written.text)
    if not stated:
        return {}
    if calibration.detectors == (AUGMENTED_POLLING,):
        odds = _odds(model, model.pixels(image), stated, seed=seed)
        scores = np.array([[-odds[name]] for name in stated])
        return dict(zip(stated, calibration.probability(scores).tolist(), strict=True))
    trace = model.trace(image, written, heads="mean", vision="none")
    found = detect(trace, samples=0, seed=seed)
    columns = [DETECTORS.index(name) for name in calibration.detectors]
    probabilities = calibration.probability(found.scores[:, columns])
    return dict(zip(found.findings, probabilities.tolist(), strict=True))


def _odds(
    model: ChestXrayModel, pixels: torch.Tensor, findings: Sequence[str], *, seed: int
) -> dict[str, float]:
    """Return the odds of yes for each finding, nats, mean over the image and its augmentations."""
    images = [pixels, *augmented_images(model, pixels[0].cpu().numpy(), seed=seed).values()]
    return {name: float(yes_odds(model, images, question_about(name)).mean()) for name in findings}


def _stated(text: str) -> tuple[str, ...]:
    return tuple(name for name in label(text).present if name != NO_FINDING)


def _rewritten(
    way: PollAndRewrite | Revise,
    model: ChestXrayModel,
    image: object,
    decoding: DecodingOptions,
    judge: Callable[[Radiograph, Generation], dict[str, float]],
    rejected: Callable[[float], bool],
) -> MitigatedGeneration:
    """Write a report, judge each finding that it states, and edit those that are rejected."""
    began = time.perf_counter()
    image = as_radiograph(image)
    written = model.report(image, **decoding)
    scores = judge(image, written)
    edits = {name: way.edit for name, score in scores.items() if rejected(score)}
    text, changes = rewrite(written.text, edits, scores=scores)
    done = {"name": way.name, **vars(way)}
    done.pop("calibration", None)
    found = reworded(model, written, model.pixels(image), text, mitigation=done, changes=changes)
    return replace(found, seconds=time.perf_counter() - began)
