"""Target: the one number that a saliency map explains.

It is the teacher-forced log-probability of a part of the generated text, given the image and all
text before that part; or the contrast between that part and other words in its place, e.g.
"left pleural effusion" against "no pleural effusion", which takes away what both share.

A phrase deep in a sentence is often certain once the sentence has begun: after "There is a" the
model has no choice left, and a probability of 1 has no gradient. The target of a *finding* is
therefore the whole sentence that states it against the plain sentence that says the opposite.

Does not know: how the number is computed (`scorer`) or attributed.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import InputError
from workbench.findings import ABSENT, NO_FINDING, standard_name
from workbench.reports import label, sentences
from workbench.trace import Selection, Trace


@dataclass(frozen=True)
class Target:
    """What is explained.

    Attributes:
        selection: the part of the text.
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


def make_target(trace: Trace, selection: Selection, contrast: str | None = None) -> Target:
    """Return the target of a part of a traced text.

    Args:
        trace: a run; for a contrast its model must be there.
        selection: from `trace.select`.
        contrast: words that could stand in the place of the selection; None for the plain
            log-probability.

    Raises:
        InputError: the selection has no token, or the contrast is empty or the same words.
    """
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


def stated_target(
    trace: Trace,
    phrase: str | None = None,
    *,
    finding: str | None = None,
    contrast: str | None = None,
    occurrence: int = 0,
    **choice: int | str | None,
) -> Target:
    """Return the target of a finding against its opposite, or of any other part of the text.

    Args:
        trace: a run with its model.
        phrase, occurrence, **choice: see `Trace.select`.
        finding: without a contrast, `finding_target` states the opposite.
        contrast: words in place of the part.

    Raises:
        InputError: see `Trace.select`, `finding_target` and `make_target`.
    """
    selection = trace.select(phrase, finding=finding, occurrence=occurrence, **choice)
    if finding is not None and contrast is None:
        return finding_target(trace, finding, occurrence=occurrence)
    return make_target(trace, selection, contrast)


def finding_target(trace: Trace, finding: str, *, occurrence: int = 0) -> Target:
    """Return the target of a finding: its sentence against the sentence that says the opposite.

    "There is a small effusion on the left." is weighed against "No pleural effusion.", and
    "No pleural effusion." against "There is pleural effusion.". What is denied is read from the
    mention itself, so one that another sentence contradicts is weighed by its own words. A sentence
    that names several findings is taken whole.

    Args:
        trace: a run with its model.
        finding: standard name or synonym.
        occurrence: which mention, from 0; mentions that state the finding come before all others.

    Raises:
        InputError: the text does not speak of the finding, or it is "no finding", which has no
            single opposite.
    """
    name = standard_name(finding)
    words = trace.select(finding=name, occurrence=occurrence)
    if name == NO_FINDING:
        raise InputError(
            f"{words.text!r} has no single opposite; explain it as a phrase with a contrast of "
            "your own"
        )
    denied = any(
        row.finding == name and row.code == ABSENT and words.start <= row.start < words.end
        for row in label(trace.text).mentions
    )
    opposite = f"There is {name}." if denied else f"No {name}."
    return make_target(trace, finding_sentence(trace, name, occurrence=occurrence), opposite)


def finding_sentence(trace: Trace, finding: str, *, occurrence: int = 0) -> Selection:
    """Return the sentence that states, or denies, a finding.

    Raises:
        InputError: the text does not speak of the finding.
    """
    words = trace.select(finding=finding, occurrence=occurrence)
    number = next(i for i, s in enumerate(sentences(trace.text)) if s.start <= words.start < s.end)
    return trace.select(sentence=number)
