"""What the surface of texts tells about their origin: the limits of any blinding.

A study is blinded as long as its texts are. Placeholders of de-identification, comparisons with
films that a model never saw, headings and length can tell a reader who wrote a report. Here each is
measured; whoever plans the study decides what to do about it, equally in both arms.

Does not know: what gives a text away to a person; a feature near 0.5 is no proof of anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

_PLACEHOLDER = re.compile(r"_{2,}|\bX{2,}\b|\[\*\*.*?\*\*\]")
_HEADING = re.compile(r"\b[A-Za-z]{4,}:")
_COMPARED = re.compile(
    r"\b(?:prior|previous|compar\w+|interval|unchanged|stable|again|since|new)\b", re.IGNORECASE
)

FEATURES: dict[str, Callable[[str], float]] = {
    "characters": len,
    "sentences": lambda text: len(re.findall(r"[.!?](?=\s|$)", text)),
    "headings": lambda text: len(_HEADING.findall(text)),
    "words in capitals": lambda text: sum(w.isupper() and len(w) > 1 for w in text.split()),
    "digits": lambda text: sum(char.isdigit() for char in text),
    "placeholders": lambda text: len(_PLACEHOLDER.findall(text)),
    "words of comparison": lambda text: len(_COMPARED.findall(text)),
}


def find_giveaways(model: Sequence[str], reference: Sequence[str]) -> pd.DataFrame:
    """Return how well each feature tells the arms apart, the best first.

    Args:
        model: texts of the model.
        reference: reference reports.

    Returns:
        One row for each feature: model and reference (means), auroc (share of pairs in which the
        text of the model has more of it, ties half).
    """
    truth = np.array([True] * len(model) + [False] * len(reference))
    rows = []
    for name, measure in FEATURES.items():
        values = np.array([measure(text) for text in (*model, *reference)], dtype=float)
        auroc = float(roc_auc_score(truth, values)) if 0 < truth.sum() < len(truth) else np.nan
        rows.append((name, values[truth].mean(), values[~truth].mean(), auroc))
    frame = pd.DataFrame(rows, columns=["feature", "model", "reference", "auroc"])
    order = (frame["auroc"] - 0.5).abs().sort_values(ascending=False, kind="stable").index
    return frame.loc[order].set_index("feature")
