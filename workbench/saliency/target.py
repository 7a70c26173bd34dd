"""Target: the one number that a saliency map explains.

It is the teacher-forced log-probability of a part of the generated text, given the image and all
text before that part; or the contrast between that part and other words in its place, e.g.
"left pleural effusion" against "no pleural effusion", which takes away what both share.

A phrase deep in a sentence is often certain once the sentence has begun, and a probability of 1 has
no gradient. The target of a *finding* is therefore the whole sentence that states it against the
plain sentence that says the opposite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

from workbench.errors import InputError
from workbench.findings import ABSENT, NO_FINDING
from workbench.reports import label, sentences
from workbench.trace import Selection, SelectionOptions, Trace


@dataclass(frozen=True)
class Target:
    """What is explained.

    Attributes:
        before: ids of the generated tokens in front of it.
        tokens: ids of its own tokens.
        contrast: ids that stand in their place in the contrast; empty where there is none.
        contrast_text: their text.
    """

    selection: Selection
    before: tuple[int, ...]
    tokens: tuple[int, ...]
    contrast: tuple[int, ...] = ()
    contrast_text: str = ""

    @property
    def name(self) -> str:
        """The target in words, for figures and tables."""
        phrase = " ".join(self.selection.text.split())
        phrase = phrase if len(phrase) <= 60 else phrase[:57] + "..."
        if not self.contrast:
            return f"log-probability of \u201c{phrase}\u201d"
        return f"\u201c{phrase}\u201d against \u201c{self.contrast_text}\u201d"


def make_target(
    trace: Trace,
    phrase: str | Selection | None = None,
    contrast: str | None = None,
    **named: Unpack[SelectionOptions],
) -> Target:
    """Return the target of a part of a traced text; of a finding, against its opposite.

    Args:
        trace: a run; for a contrast, or a finding, its model must be there.
        phrase, **named: the part, see `Trace.select`. A finding without a contrast is weighed as
            its whole sentence, also where that names several findings: "There is a small effusion
            on the left." against "No pleural effusion.", and "No pleural effusion." against "There
            is pleural effusion.". What is denied is read from the mention itself, so one that
            another sentence contradicts is weighed by its own words.
        contrast: words that could stand in the place of the part; None for none.

    Raises:
        OptionError, InputError: see `Trace.select`.
        InputError: the selection has no token, the contrast is empty or the same words, or the
            finding is "no finding", which has no single opposite.
    """
    selection = trace.select(phrase, **named)
    if selection.kind == "finding" and contrast is None:
        contrast = _opposite(trace, selection)
        selection = finding_sentence(trace, selection)
    numbers = selection.tokens
    if not numbers:
        raise InputError(
            f"{selection.text!r} was written by no token of its own; choose a longer part of: "
            f"{trace.text!r}"
        )
    ids = trace.generation.token_ids
    before, own = ids[: numbers[0]], ids[numbers[0] : numbers[-1] + 1]
    if contrast is None:
        return Target(selection, before, own)
    wanted = checked_contrast(selection, contrast)
    tokenizer = trace.need_model().tokenizer
    return Target(
        selection, before, own, tuple(tokenizer.encode(wanted, add_bos=False)), contrast_text=wanted
    )


def finding_target(trace: Trace, finding: str, *, occurrence: int = 0) -> Target:
    """Return the target of a finding against its opposite; see `make_target`."""
    return make_target(trace, finding=finding, occurrence=occurrence)


def checked_contrast(selection: Selection, contrast: str) -> str:
    """Return the contrast with single spaces.

    Raises:
        InputError: it is empty, or the same words as the selection.
    """
    wanted = " ".join(contrast.split())
    if not wanted:
        raise InputError(
            f"the contrast is empty ({contrast!r}); expected words such as 'no effusion'"
        )
    if wanted.lower() == " ".join(selection.text.split()).lower():
        raise InputError(
            f"the contrast {wanted!r} is the phrase itself; expected other words in its place"
        )
    return wanted


def finding_sentence(trace: Trace, mention: Selection) -> Selection:
    """Return the sentence that states, or denies, the finding of a selection."""
    stated = enumerate(sentences(trace.text))
    number = next(n for n, sentence in stated if sentence.start <= mention.start < sentence.end)
    return trace.select(sentence=number)


def _opposite(trace: Trace, mention: Selection) -> str:
    """Return the plain sentence that says the opposite of a mention of a finding."""
    if mention.finding == NO_FINDING:
        raise InputError(
            f"{mention.text!r} has no single opposite; explain it as a phrase with a contrast of "
            "your own"
        )
    denied = any(
        row.finding == mention.finding
        and row.code == ABSENT
        and mention.start <= row.start < mention.end
        for row in label(trace.text).mentions
    )
    return f"There is {mention.finding}." if denied else f"No {mention.finding}."
