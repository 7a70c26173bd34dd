"""What cases are divided by, and the slices that come of it.

Does not know: how slices are compared (`slices`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench.errors import OptionError
from workbench.findings import CODES, DEVICE
from workbench.review.bulk import FINDINGS
from workbench.review.joined import NO, YES, Joined
from workbench.review.slices import VALUES, SliceTable, find_slices
from workbench.review.suspects import error_masks

#: Ways to err, and the masks that are counted for each.
ERRORS = {
    "any": ("false", "missed", "flipped"),
    "false finding": ("false",),
    "missed finding": ("missed",),
    "laterality flip": ("flipped",),
}


def attribute_table(joined: Joined) -> pd.DataFrame:
    """Return (cases, attributes) values: source, view, sex, age group, support device, and more.

    More are the columns that a manifest does not know, where they have 2 to 50 values.
    """
    cases = joined.cases
    table = {name: cases[name] for name in ("source", "view", "sex", "age group")}
    device = joined.true[:, FINDINGS.index(DEVICE)]
    words = np.where(np.isin(device, (YES, NO)), np.array(CODES, dtype=object)[device], "unknown")
    table[DEVICE] = pd.Series(words, index=cases.index)
    for name in joined.extra:
        if 1 < cases[name].nunique() <= VALUES:
            table[name] = cases[name]
    return pd.DataFrame(table)


def slices_of(joined: Joined, *, kind: str = "any", by: Sequence[str] | None = None) -> SliceTable:
    """Compare every slice with the rest.

    Args:
        joined: cases.
        kind: one of `ERRORS`.
        by: names of attributes; all when None.

    Raises:
        OptionError: unknown kind or attribute.
    """
    if kind not in ERRORS:
        raise OptionError(f"unknown kind {kind!r}; expected one of: {', '.join(ERRORS)}")
    table = attribute_table(joined)
    names = list(table.columns) if by is None else [by] if isinstance(by, str) else list(by)
    lost = [name for name in names if name not in table]
    if lost:
        raise OptionError(
            f"cases cannot be divided by {lost[0]!r}; expected: {', '.join(table.columns)}"
        )
    masks = error_masks(joined)
    errors = np.logical_or.reduce([masks[name] for name in ERRORS[kind]])
    return find_slices(
        errors, _chances(joined, kind), table[names], _patients(joined.cases), kinds=ERRORS[kind]
    )


def _chances(joined: Joined, kind: str) -> np.ndarray:
    """Return (cases, findings) bool: where an error of this kind could have been made."""
    known = joined.known
    if kind == "false finding":
        return known & (joined.true == NO)
    if kind == "missed finding":
        return known & (joined.true == YES)
    if kind == "laterality flip":
        both = (joined.true == YES) & (joined.said == YES)
        return known & both & (joined.true_sides > 0) & (joined.said_sides > 0)
    return known


def _patients(cases: pd.DataFrame) -> np.ndarray:
    """Return (cases,) numbers of patients; a case without one is its own."""
    own = "\x00" + cases["id"].astype(str)
    who = cases["patient_id"].where(cases["patient_id"].notna(), own)
    return pd.factorize(cases["source"].astype(str) + "\x00" + who.astype(str))[0]
