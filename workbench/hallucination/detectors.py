"""Detectors: signs that a finding which a report states is not there.

Every detector gives each stated finding one number, greater where it is more suspect. None of them
sees the truth; `workbench.bench.detectors` compares them with it.

    token log-prob            minus the log-probability of the tokens that decided the statement
    token log-prob (mean)     the same, mean over these tokens
    token log-prob (words)    minus that of the words that name it
    entropy                   greatest entropy among the deciding tokens
    image contribution        minus what the image added to the deciding tokens: the mean over
                              ablations, and against each of them
    augmented log-prob        as token log-prob, mean over test-time augmentations
    polling                   minus the odds of yes to "Is there X?" (`polling`)
    polling under augmentation  the same, mean over the image and its test-time augmentations
    self-consistency          share of sampled reports that do not state it
    attention to image        minus the share of attention that the deciding tokens gave the image
    text checks               whether a check of the text alone found something in its sentence
    finding frequency         minus how often the finding occurs: the trivial baseline
    report length             tokens of the report: what any detector must beat
    sentence length           tokens of the sentence that states it
    semantic entropy          entropy, in nats, of what sampled reports mean about the finding
    linear probe              log-odds by the decoder's states (`linear_probe`)

Papers: self-consistency, Manakul et al., SelfCheckGPT, EMNLP 2023, arXiv 2303.08896 (there by
sentence, here by labelled finding); semantic entropy, Farquhar et al., Nature 2024, doi
10.1038/s41586-024-07421-0 (there an entailment model says which answers mean the same; here reports
do that give the finding the same code, and each sample counts once); the rest where each is
computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.axes import Axes

from workbench._repr import result
from workbench.attention.shares import KINDS, sources
from workbench.backends.levels import READER, needs
from workbench.errors import InputError, OptionError, check_one_of, check_whole
from workbench.figures.estimates import plot_bars
from workbench.figures.tables import html_table
from workbench.findings import NO_FINDING, PRESENT
from workbench.hallucination.ablations import REMOVING, augmented_images
from workbench.hallucination.grounding import ground
from workbench.hallucination.grounding_result import FindingMention, Grounding
from workbench.hallucination.linear_probe import LinearProbe, deciding_states, shipped_probe
from workbench.hallucination.polling import question_about, yes_odds
from workbench.hallucination.text_checks import check_text
from workbench.interface import ChestXrayModel
from workbench.model.tokenizer import tokens_within
from workbench.reports import Labels, label, sentences
from workbench.trace import Trace

LOGPROB = "token log-prob"
CONTRIBUTION = "image contribution"
AUGMENTED_POLLING = "polling under augmentation"
FREQUENCY = "finding frequency"
LENGTH = "report length"
SENTENCE_LENGTH = "sentence length"
SEMANTIC_ENTROPY = "semantic entropy"
LINEAR_PROBE = "linear probe"

#: Every detector, in the order of columns.
DETECTORS = (
    LOGPROB,
    "token log-prob (mean)",
    "token log-prob (words)",
    "entropy",
    CONTRIBUTION,
    *(f"{CONTRIBUTION} ({name})" for name in REMOVING),
    "augmented log-prob",
    "polling",
    AUGMENTED_POLLING,
    "self-consistency",
    "attention to image",
    "text checks",
    FREQUENCY,
    LENGTH,
    SENTENCE_LENGTH,
    SEMANTIC_ENTROPY,
    LINEAR_PROBE,
)


@result()
class Detection:
    """How suspect each stated finding of one report is.

    Attributes:
        findings: names of what it states, in its order.
        scores: (findings, detectors) float64, columns `DETECTORS`, greater is more suspect; NaN
            where a detector was not run.
        samples: reports sampled for self-consistency and semantic entropy.
        states: of the decoder where each finding was decided, see `linear_probe`.
    """

    text: str
    findings: tuple[str, ...]
    scores: Float[np.ndarray, "findings detectors"]
    source: str
    samples: int
    seed: int
    states: Float[np.ndarray, "findings H"]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per stated finding, one column per detector."""
        index = pd.Index(self.findings, name="finding")
        return pd.DataFrame(self.scores, columns=list(DETECTORS), index=index)

    def plot(self, ax: Axes | None = None, *, detector: str = AUGMENTED_POLLING) -> Axes:
        """Draw one bar per stated finding, in the order of the report, whatever the detector."""
        check_one_of("detector", detector, DETECTORS)
        column, xlabel = self.scores[:, DETECTORS.index(detector)], "greater is more suspect"
        return plot_bars(self.findings, column, ax, title=detector, xlabel=xlabel)

    def _repr_html_(self) -> str:
        rows = [
            [name, *("" if np.isnan(value) else f"{value:.2f}" for value in row)]
            for name, row in zip(self.findings, self.scores, strict=True)
        ]
        return html_table(["stated finding", *DETECTORS], rows) + "<p>greater is more suspect</p>"


@needs(READER)
def detect(
    trace: Trace,
    *,
    samples: int = 8,
    seed: int = 0,
    frequencies: Mapping[str, float] | None = None,
    probe: LinearProbe | None = None,
) -> Detection:
    """Tell how suspect each finding that a report states as present is, by its first statement.

    Args:
        samples: reports sampled at temperature 1 for self-consistency and semantic entropy; 0
            leaves both out (NaN).
        seed: of samples, noise and grain.
        frequencies: finding -> how often it occurs among such patients, in [0, 1]; without it the
            trivial baseline is NaN.
        probe: fitted for these weights; None takes the one that is shipped for them, and where
            there is none the linear probe is NaN.

    Raises:
        InputError: the trace has no model, or the probe is of other weights.
        OptionError: samples is below 0, or the trace is of anything but a report.

    >>> wb.hallucination.detect(trace, samples=0).findings
    ('pleural effusion',)
    """
    model = trace.need_model(ChestXrayModel)
    check_whole(0, samples=samples)
    if trace.generation.task != "report":
        raise OptionError(
            f"detectors judge reports, and the trace is of a {trace.generation.task}; "
            "trace a report"
        )
    probe = probe or shipped_probe(model.identity)
    if probe is not None and probe.sha256 != model.identity.sha256:
        raise InputError(
            f"the probe was fitted for other weights ({probe.sha256[:12]}) than these "
            f"({model.identity.sha256[:12]}); fit one with LinearProbe.fit"
        )
    grounding = ground(trace, seed=seed, ablations=REMOVING)
    stated = _stated(grounding)
    augmented = list(augmented_images(model, trace.pixel_values, seed=seed).values())
    images = [torch.from_numpy(trace.pixel_values)[None], *augmented]
    if stated:
        written = trace.generation
        read = model.read_with(augmented, written.prompt_ids, written.token_ids).logprobs
        image = sources(trace).shares[:, KINDS.index("image")]
        sampled = sampled_labels(model, trace.image, samples, seed=seed)
        pieces, issues = sentences(trace.text), check_text(trace.text).issues
    rows = []
    for mention in stated:
        name, tokens = mention.label.finding, list(mention.deciding)
        own = pieces[mention.sentence]
        odds = yes_odds(model, images, question_about(name))
        found = _from_grounding(grounding, mention) | {
            "augmented log-prob": -read[:, tokens].sum(1).mean(),
            "polling": -odds[0],
            AUGMENTED_POLLING: -odds.mean(),
            "attention to image": -image[tokens].mean(),
            "text checks": float(any(i.start < own.end and i.end > own.start for i in issues)),
            FREQUENCY: -(frequencies or {}).get(name, np.nan),
            LENGTH: len(grounding.tokens),
            SENTENCE_LENGTH: len(tokens_within(grounding.offsets, own.start, own.end)),
        }
        rows.append(found | (_from_samples(sampled, name) if sampled else {}))
    table = pd.DataFrame(rows, columns=list(DETECTORS), dtype=float)
    states = deciding_states(trace, stated) if stated else np.zeros((0, 0))
    if probe is not None and stated:
        table[LINEAR_PROBE] = probe.score(states)
    names, source = tuple(mention.label.finding for mention in stated), trace.image.contract.source
    return Detection(trace.text, names, table.to_numpy(), source, samples, seed, states)


def _stated(grounding: Grounding) -> list[FindingMention]:
    """Return the first mention of each finding that the report as a whole states as present."""
    present = {row.finding for row in label(grounding.text).rows if row.code == PRESENT}
    first: dict[str, FindingMention] = {}
    for mention in grounding.mentions:
        name, code = mention.label.finding, mention.label.code
        if name in present and code == PRESENT and name != NO_FINDING:
            first.setdefault(name, mention)
    return list(first.values())


def _from_grounding(grounding: Grounding, mention: FindingMention) -> dict[str, float]:
    tokens, words = list(mention.deciding), list(mention.words)
    found = {
        LOGPROB: -grounding.logprobs[tokens].sum(),
        "token log-prob (mean)": -grounding.logprobs[tokens].mean(),
        "token log-prob (words)": -grounding.logprobs[words].sum(),
        "entropy": grounding.entropies[tokens].max(),
        CONTRIBUTION: -grounding.contribution[tokens].sum(),
    }
    return found | {
        f"{CONTRIBUTION} ({name})": -grounding.of(name)[tokens].sum() for name in REMOVING
    }


def _from_samples(sampled: Sequence[Labels], finding: str) -> dict[str, float]:
    found = [one[finding] for one in sampled]
    return {
        "self-consistency": float(np.mean([row is None or row.code != PRESENT for row in found])),
        SEMANTIC_ENTROPY: semantic_entropy([set() if row is None else {row.code} for row in found]),
    }


def semantic_entropy(meanings: Sequence[set[str]]) -> float:
    """Return the entropy, in nats, of the meanings of several texts; 0 where all mean the same.

    >>> wb.hallucination.semantic_entropy([{"nodule"}, {"nodule"}])
    0.0
    """
    counts = Counter(frozenset(meaning) for meaning in meanings)
    shares = np.array(list(counts.values())) / len(meanings)
    return float(-(shares * np.log(shares)).sum()) + 0.0


def sampled_labels(
    model: ChestXrayModel, image: object, samples: int, *, temperature: float = 1.0, seed: int
) -> list[Labels]:
    """Return what each of several reports, sampled with top_p 1, states about findings."""
    seeds = list(range(seed, seed + samples))
    options = {"temperature": temperature, "top_p": 1.0, "seed": seeds}
    reports = model.report_many([image] * samples, **options) if samples else []
    return [label(report.text) for report in reports]
