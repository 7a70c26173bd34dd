"""Images without labels, on which a model stays what it was.

A few dozen labelled images show too little of what a model knew. Images without labels are cheap:
the base reports them itself, and the model that is trained is tied to what the base would say.
Where training reports speak of the taught finding, a sentence about it is put into the base's
report, a denial into one half and a statement into the other, because the new model will write one
there. That sentence is only read: whether it is true is not known.

Papers: Robins, Catastrophic forgetting, rehearsal and pseudorehearsal, Connection Science 7, 1995;
Li and Hoiem, Learning without Forgetting, ECCV 2016, arXiv 1606.09282 (deviation: a sentence about
what is new is given to the student and kept from the base).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from workbench._store import read_json, whole_file
from workbench.errors import TrainingError
from workbench.findings import NOT_MENTIONED, PRESENT
from workbench.finetune.cases import Case, CaseSet
from workbench.finetune.measuring import facade, write_reports
from workbench.finetune.session import process_rank, wait_for, write_json
from workbench.finetune.turns import Turn, begins_reports, case_number, denied, marked, placed
from workbench.model.load import LoadedCheckpoint
from workbench.reports import label

OWN_REPORTS = "own_reports.json"

#: Seconds that other processes wait for the reports of the first one.
_PATIENCE = 6 * 3600


def own_reports(
    loaded: LoadedCheckpoint, cases: Sequence[Case], out: Path, *, new_tokens: int, show: bool
) -> dict[str, str]:
    """Return case -> what the base says of it, written once into the folder of the run.

    Args:
        loaded: the base, before anything learns.
        cases: images without labels.
        out: folder of the run; a resumed run and other processes read what lies there.
        new_tokens: longest report, tokens.
        show: whether a bar may appear.

    Raises:
        TrainingError: the file is of other images, or the first process did not write it in time.
    """
    if not cases:
        return {}
    path = out / OWN_REPORTS
    if process_rank() == 0 and not path.is_file():
        texts = write_reports(facade(loaded), cases, new_tokens=new_tokens, show=show)
        with whole_file(path) as partial:
            write_json(partial, texts)
    wait_for(path, seconds=_PATIENCE)
    texts = read_json(path)
    if set(texts) != {case.id for case in cases}:
        raise TrainingError(f"{path} has reports of other images; name another folder")
    return texts


def own_turns(
    cases: CaseSet, texts: Mapping[str, str], *, taught: str, seed: int = 0
) -> list[Turn]:
    """Return a turn for each image without labels: what the base says, with a sentence given.

    Args:
        cases: with the labelled ones, whose statements of the taught finding are borrowed.
        texts: case -> what the base says of it; an empty one gives no turn.
        taught: the finding.
        seed: decides which reports deny it and which statement is borrowed.
    """
    first, stated = begins_reports(cases.train, taught), _statements(cases.train, taught)
    turns = []
    for case in cases.unlabelled:
        text = texts[case.id].strip()
        if not text:
            continue
        rng = np.random.default_rng([seed, 79, case_number(case.id)])
        if label(text).code(taught) == NOT_MENTIONED:
            if not stated or rng.random() < 0.5:
                text = denied(text, taught, first=first)
            else:
                text = placed(text, stated[rng.integers(len(stated))], first=first)
        turns.append(marked(Turn(case.id, "own report", None, text, given=True), taught))
    return turns


def _statements(cases: Sequence[Case], taught: str) -> list[str]:
    """Return the sentence by which each training report states the taught finding."""
    texts = [case.report for case in cases if case.code(taught) == PRESENT]
    turns = [marked(Turn("", "report", None, text), taught) for text in texts]
    return [turn.answer[start:end] for turn in turns for start, end in turn.focus]
