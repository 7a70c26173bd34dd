"""`Generation`: one answer of a model, with everything needed to study or repeat it."""

from __future__ import annotations

import hashlib
import html
import importlib.metadata
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from workbench._repr import plain
from workbench._version import __version__
from workbench.generation.options import DecodingSettings
from workbench.model.prompt import PUBLISHED_PROMPTS
from workbench.model.tokenizer import tokens_within
from workbench.radiograph import InputWarning
from workbench.reports import sentences

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.model.card import ModelCard
    from workbench.model.placement import Placement

_TITLES = {
    "report": "Report",
    "differential": "Differential diagnosis",
    "question": "Answer",
    "chat": "Answer",
}
_STOPS = {
    "limit": "The text was cut at the limit on new tokens; raise max_new_tokens to see more.",
    "cancelled": "The text was stopped before its end.",
}
_PACKAGES = ("torch", "transformers", "numpy", "sentencepiece", "pillow")


@dataclass(frozen=True)
class ModelIdentity:
    """Which weights wrote a text.

    Attributes:
        id: name, hub id or folder name the model was loaded by.
        sha256: hash of the weight file; of several shards, of their list as `sha256sum` prints it.
        dtype, device: precision of the language model, and where it ran.
        prompts: version of the texts that it is asked with, see `workbench.model.Prompts`.
    """

    id: str
    sha256: str
    revision: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    prompts: str = PUBLISHED_PROMPTS.version

    @classmethod
    def of(cls, card: ModelCard, placement: Placement) -> ModelIdentity:
        """Return which weights a card and a placement describe."""
        return cls(
            id=card.name,
            sha256=_one_hash(card.sha256s),
            revision=card.revision,
            dtype=placement.name,
            device=str(placement.device),
        )


def _one_hash(sha256s: Mapping[str, str]) -> str:
    """Return one hash for all weight files: a single file's own, else that of their list."""
    if len(sha256s) == 1:
        return next(iter(sha256s.values()))
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(sha256s.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


@dataclass(frozen=True)
class Word:
    """One word of a text, without white space, and where it stands (`end` excluded).

    `probability` is the product of the probabilities of the tokens that touch it, in [0, 1].
    """

    text: str
    start: int
    end: int
    probability: float


@dataclass(frozen=True, eq=False)
class Generation:
    """One text written about one image.

    Attributes:
        text: the text, special tokens left out.
        token_ids: generated ids, the end token included when it came.
        tokens: the vocabulary's pieces for the ids.
        logprobs: (n,) float32, natural log-probability of each id under the model at temperature
            1, before top-k and top-p.
        offsets: per id, the first and one past the last character of `text` that it wrote;
            tokens that wrote nothing have an empty span.
        prompt, prompt_ids: as rendered and tokenised, `<image>` and -200 in the image's place.
        settings: decoding settings as used.
        seconds: time from the pixels to the last token; in a batch, from the batch's start.
        stopped_by: "eos", "limit" (of new tokens) or "cancelled".
        task: "report", "differential", "question" or "chat".
        source: what the image was, as its input contract calls it.
        template: version of the chat template.
        warnings: what a person should know: the model's notice first, then the image's, then that
            the text has no word.
        versions: package versions.
        pixels_sha256: hash of the normalised pixels that the model saw; empty where unknown.
    """

    text: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    logprobs: np.ndarray
    offsets: tuple[tuple[int, int], ...]
    prompt: str
    prompt_ids: tuple[int, ...]
    settings: DecodingSettings
    seconds: float
    stopped_by: str
    task: str
    source: str
    model: ModelIdentity
    template: str = ""
    warnings: tuple[InputWarning, ...] = ()
    versions: dict[str, str] = field(default_factory=lambda: dict(package_versions()))
    pixels_sha256: str = ""

    def __post_init__(self) -> None:
        logprobs = np.array(self.logprobs, dtype=np.float32)
        logprobs.setflags(write=False)
        object.__setattr__(self, "logprobs", logprobs)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The text's sentences; `wb.reports.sentences` gives their positions too."""
        return tuple(sentence.text for sentence in sentences(self.text))

    @property
    def seed(self) -> int | None:
        """The seed that repeats a sampled text; None for greedy decoding."""
        return None if self.settings.greedy else self.settings.seed

    @property
    def words(self) -> tuple[Word, ...]:
        """The text's words with their probabilities."""
        found = []
        for match in re.finditer(r"\S+", self.text):
            logprobs = [self.logprobs[n] for n in tokens_within(self.offsets, *match.span())]
            # where no token is known, as from some endpoints, nothing is known of a word
            told = float(np.exp(np.sum(logprobs, dtype=np.float64)))
            probability = told if len(self.tokens) else float("nan")
            found.append(Word(match.group(), match.start(), match.end(), probability))
        return tuple(found)

    def to_dict(self) -> dict:
        """Return everything as plain values for JSON."""
        first = {"text": self.text, "sentences": list(self.sentences), "seed": self.seed}
        values = {one.name: plain(getattr(self, one.name)) for one in fields(Generation)}
        return first | values | {"logprobs": [round(value, 6) for value in values["logprobs"]]}

    def to_frame(self) -> pd.DataFrame:
        """Return one row per token: token, token_id, logprob, probability, start, end, sentence.

        `start` and `end` are characters of the text; `sentence` counts from 0 and is -1 for tokens
        between or behind sentences.
        """
        import pandas as pd

        spans = np.array(self.offsets, dtype=np.int64).reshape(-1, 2)
        sentence = np.full(len(spans), -1)
        for number, one in reversed([*enumerate(sentences(self.text))]):
            sentence[[*tokens_within(self.offsets, one.start, one.end)]] = number
        columns = {
            "token": list(self.tokens),
            "token_id": np.array(self.token_ids, dtype=np.int64),
            "logprob": self.logprobs.copy(),
            "probability": np.exp(self.logprobs),
            "start": spans[:, 0],
            "end": spans[:, 1],
            "sentence": sentence,
        }
        return pd.DataFrame(columns).rename_axis("position")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the text token by token, darker where the model was less sure."""
        from workbench.figures.words import plot_tokens

        spans = zip(self.tokens, self.offsets, strict=True)
        labels = [self.text[start:end] or piece for piece, (start, end) in spans]
        title = f"{self.task} of {self.source}, {self.model.id}"
        return plot_tokens(labels, np.exp(self.logprobs).tolist(), ax, title=title)

    def to_html(self, *, codes: tuple[str, ...] | None = None) -> str:
        """Return a card for notebooks: warnings, the text shaded by confidence, and its origin.

        Only warnings with these `codes` are shown; None shows all.
        """
        from workbench.figures.page import SMALL, card
        from workbench.figures.words import confidence_html

        words, title = self.words, _TITLES.get(self.task, self.task)
        shaded = f'<i style="{SMALL}">(the model wrote nothing)</i>'
        if words:
            spans = [(word.start, word.end) for word in words]
            shaded = confidence_html(self.text, spans, [word.probability for word in words])
        return card(
            '<div style="display:flex;justify-content:space-between;gap:16px">'
            f"<b>{html.escape(title)}</b>"
            f'<span style="{SMALL}">{html.escape(self.source)}</span></div>'
            f"{self._warnings_html(codes)}{shaded}"
            f'<details style="{SMALL};margin-top:4px"><summary>{self._origin()}</summary>'
            '<pre style="white-space:pre-wrap;background:#f4f4f4;color:#1b1b1b;padding:8px;'
            f'border-radius:4px;margin:6px 0 0">{html.escape(self.prompt)}</pre></details>'
        )

    def _warnings_html(self, codes: tuple[str, ...] | None) -> str:
        shown = [(w.code, w.message) for w in self.warnings if codes is None or w.code in codes]
        if self.stopped_by in _STOPS:
            shown.append((self.stopped_by, _STOPS[self.stopped_by]))
        return "".join(
            '<div style="margin-top:6px;padding:3px 8px;border-left:4px solid #b36b00;'
            'background:#fff4dc;color:#5c3a00;font-size:13px">'
            f"<b>{html.escape(code)}</b> {html.escape(message)}</div>"
            for code, message in shown
        )

    def _origin(self) -> str:
        settings, model = self.settings, self.model
        how = (
            "greedy"
            if settings.greedy
            else f"temperature {settings.temperature:g}, top-p {settings.top_p:g}, "
            f"top-k {settings.top_k}, seed {settings.seed}"
        )
        sha256 = f"sha256 {model.sha256[:12]}" if model.sha256 else ""
        facts = (
            model.id, sha256, model.dtype, how, f"{len(self.token_ids)} tokens",
            f"{self.seconds:.2f} s",
        )  # fmt: skip
        return " &middot; ".join(html.escape(fact) for fact in facts if fact)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return (
            f"<Generation {self.task} of {self.source!r}: {text!r}, {len(self.token_ids)} tokens, "
            f"stopped by {self.stopped_by}, {self.seconds:.2f} s>"
        )

    def _repr_html_(self) -> str:
        return self.to_html()


@cache
def package_versions() -> tuple[tuple[str, str], ...]:
    """Return the versions that decide a text, as (package, version) pairs."""
    others = ((package, importlib.metadata.version(package)) for package in _PACKAGES)
    return (("workbench", __version__), ("python", platform.python_version()), *others)
