"""`wb.reader_study`: radiologists grade reports of the model and reference reports, blinded.

    study = wb.reader_study("runs/first", manifest="manifest.parquet", readers=["AB", "CD"],
                            out="study")
    study.session("AB").next()
    study.analyse().save("study.html")

After the reader study of Lee et al. (Eur Radiol 2025): each report gets a grade from A (acceptable
without change) to D (unacceptable); A and B count as success.

Blinding rests on what is written where. `readers/AB.json` contains texts under random names
and nothing else. `key.json` (0600) tells who wrote what; keep it away from readers. The order comes
from a seed that is drawn anew and stands in the key only: with a seed that a reader knows, he could
draw the order again. The names of reports come from the operating system and from no seed. Blanks,
line breaks, invisible characters and headings of sections are made the same in the texts of both
arms. What a text says, and how, is left as it is, and may give its origin away: see
`ReaderStudy.surface_features`.
"""

from __future__ import annotations

import os
import secrets
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import field
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from workbench._repr import result
from workbench._store import read_json
from workbench.backends.levels import TEXTS, needs
from workbench.errors import InputError, OptionError
from workbench.evaluation.intervals import LEVEL
from workbench.figures.tables import frame_table
from workbench.review.sources import Known, Run
from workbench.review.study_files import (
    ARMS,
    KEY,
    MODEL,
    READERS,
    arrange,
    assign,
    both_reports,
    check_readers,
    compare_surfaces,
    write_study,
)
from workbench.review.study_result import StudyResult, analyse
from workbench.review.study_session import FORMAT, ReaderSession
from workbench.runs.record import now

#: Cases of a planned study at most.
_MOST = 10_000_000


@result()
class ReaderStudy:
    """A reader study in its folder, seen by whoever holds the key.

    `key` is the content of key.json: seed, settings, cases, and item -> reader, case, arm, repeat.
    """

    folder: Path
    key: Mapping[str, Any] = field(repr=False)

    @property
    def readers(self) -> tuple[str, ...]:
        """Names of the readers."""
        return tuple(self.key["readers"])

    def reader_file(self, reader: str) -> Path:
        """Return the file that is handed to a reader.

        Raises:
            OptionError: there is no such reader.
        """
        if reader not in self.readers:
            raise OptionError(f"no reader {reader!r}; there is: {', '.join(self.readers)}")
        return self.folder / READERS / f"{reader}.json"

    def session(self, reader: str) -> ReaderSession:
        """Return the list of a reader."""
        return ReaderSession(self.reader_file(reader))

    def case_of(self, item: str) -> tuple[str, str]:
        """Return source and id of the case of an item, for the program that shows its image.

        Raises:
            InputError: there is no such item.
        """
        if item not in self.key["items"]:
            raise InputError(f"no item {item!r} in this study")
        source, case = self.key["cases"][self.key["items"][item]["case"]]
        return source, case

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each reading, unblinded.

        Columns: reader, position (from 1), item, source, case, arm, repeat, grade (missing where
        not yet given), seconds, comment, boxes (JSON as in a manifest, "" for none).
        """
        rows = []
        for session in map(self.session, self.readers):
            graded = session.grades
            for item in session.items:
                known, record = self.key["items"][item.item], graded.get(item.item, {})
                rows.append(
                    (session.reader, item.position, item.item, *self.case_of(item.item),
                     known["arm"], known["repeat"], record.get("grade"), record.get("seconds"),
                     record.get("comment", ""), record.get("boxes", ""))
                )  # fmt: skip
        names = ["reader", "position", "item", "source", "case", "arm", "repeat", "grade"]
        frame = pd.DataFrame(rows, columns=[*names, "seconds", "comment", "boxes"])
        return frame.astype({"seconds": float})

    def progress(self) -> pd.DataFrame:
        """Return how far each reader is: reader, done, total. It unblinds nothing."""
        sessions = map(self.session, self.readers)
        rows = [(one.reader, one.done, len(one.items)) for one in sessions]
        return pd.DataFrame(rows, columns=["reader", "done", "total"])

    def surface_features(self) -> pd.DataFrame:
        """Return how well features of the surface tell the arms apart; look before you start.

        A study is blinded as long as its texts are. Placeholders of de-identification, comparisons
        with earlier images, headings and length can give an origin away. A feature near 0.5 proves
        nothing: a reader may notice something else.

        Returns:
            One row for each feature, the best first: model and reference (means), auroc (share of
            pairs in which the text of the model has more of it, ties half).
        """
        known = self.key["items"]
        texts = {
            (known[item.item]["case"], known[item.item]["arm"]): item.text
            for reader in self.readers
            for item in self.session(reader).items
        }
        return compare_surfaces(texts.values(), np.array([arm == MODEL for _, arm in texts]))

    def analyse(self, *, partial: bool = False, seed: int = 0) -> StudyResult:
        """Unblind and analyse; see `StudyResult`.

        Args:
            partial: analyse although readers are not done.
            seed: of the bootstrap.

        Raises:
            InputError: readers are not done and `partial` is False, or nothing is graded.
        """
        frame = self.to_frame()
        left = frame.loc[frame["grade"].isna(), "reader"].value_counts(sort=False)
        if len(left) and not partial:
            who = ", ".join(f"{reader} {count}" for reader, count in left.items())
            raise InputError(
                f"reports are left to grade ({who}); what is seen now can bias what comes. Wait, "
                "or ask for partial=True"
            )
        return analyse(frame, seed=seed, title=self.key["title"])

    def _repr_html_(self) -> str:
        count = len(self.key["cases"])
        head = f"<p><b>Reader study</b>: {count:,} cases, two reports of each</p>"
        return head + frame_table(self.progress())


@needs(TEXTS)
def reader_study(
    run: Run,
    *,
    out: str | os.PathLike[str],
    readers: Sequence[str],
    manifest: Known | None = None,
    task: str = "report",
    cases: int | None = None,
    readers_per_case: int | None = None,
    repeats: float = 0.1,
    washout: int | None = None,
    seed: int | None = None,
    title: str = "Reader study",
) -> ReaderStudy:
    """Prepare a blinded reader study.

    Args:
        run: folder of `wb.run`, its result, a table with the columns id and text; or a table with
            the columns id, model and reference, which needs no manifest.
        out: folder of the study, new or empty; becomes private (0700).
        readers: initials, letters and digits.
        manifest: contains the reference reports; see `wb.review.queue`.
        task: of the run.
        cases: how many, drawn by lot from those with both reports; all when None. `sample_size`
            says how many are needed.
        readers_per_case: how many readers grade each case; all when None.
        repeats: share of a reader's reports that come a second time, 0 to 0.5.
        washout: least number of other reports between two readings of one radiograph; 20 when
            None, or less where there are few cases.
        seed: of all lots; drawn and written to the key when None. A seed that a reader knows, or
            can guess, ends the blinding.
        title: what readers see.

    Raises:
        InputError: no case has both reports, or the folder is not empty.
        OptionError: a name or number is not allowed.

    >>> wb.reader_study(run, manifest=manifest, out="another", **two).readers
    ('AB', 'CD')
    """
    names = check_readers(readers)
    if not 0 <= repeats <= 0.5:
        raise OptionError(f"repeats must be from 0 to 0.5, got {repeats!r}")
    texts, facts = both_reports(run, manifest, task)
    secret = secrets.randbits(128) if seed is None else int(seed)
    rng = np.random.default_rng(secret)
    if cases is not None and not 1 <= cases <= len(texts):
        raise OptionError(f"cases must be from 1 to {len(texts)}, got {cases}")
    chosen = texts.iloc[rng.permutation(len(texts))[:cases]].reset_index(drop=True)
    given = assign(len(chosen), names, readers_per_case or len(names), rng)
    fewest = min(len(own) for own in given.values())
    gap = min(20, max(0, fewest // 2)) if washout is None else washout
    again = {
        name: min(round(2 * len(own) * repeats), max(0, len(own) - gap - 1))
        for name, own in given.items()
    }
    plans = {
        name: arrange(own, repeats=again[name], washout=gap, rng=rng) for name, own in given.items()
    }
    settings = {"title": title, **facts, "made": now(), "seed": str(secret)}
    settings |= {"washout": gap, "readers": list(names), "arms": list(ARMS), "repeats": again}
    return ReaderStudy(Path(out), write_study(Path(out), plans, chosen, settings))


def open_study(folder: str | os.PathLike) -> ReaderStudy:
    """Open a study by its key.

    Raises:
        InputError: there is none in the folder.

    >>> wb.review.open_study("study").progress().columns.tolist()
    ['reader', 'done', 'total']
    """
    folder = Path(folder)
    try:
        key = read_json(folder / KEY)
        known = key["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise InputError(
            f"{folder.name}: no {KEY} of a reader study; expected the folder that "
            "`wb.reader_study` wrote. Readers open their own file with ReaderSession"
        )
    return ReaderStudy(folder, key)


@result(eq=True)
class SampleSize:
    """A planned study; for what was assumed see `sample_size`.

    Attributes:
        cases: radiographs, each with one report of the model and one reference.
        readings: reports graded in all, repeats aside: cases x 2 x readers of a case.
        reached: half width with this many cases.
    """

    cases: int
    readings: int
    half_width: float
    reached: float
    expected: float
    readers: int
    icc: float

    def _repr_html_(self) -> str:
        return (
            f"<p><b>{self.cases:,} cases</b>, {self.readings:,} readings: a share of "
            f"{self.expected:.2f} gets a {100 * LEVEL:.0f} % interval of &plusmn; "
            f"{self.reached:.3f} ({self.readers} readings of each report, correlation "
            f"{self.icc:.2f})</p>"
        )


def sample_size(
    half_width: float, *, expected: float = 0.73, readers: int = 1, icc: float = 0.3
) -> SampleSize:
    """Return how many cases give an interval of a wanted width: the smallest number that does.

    For a share p, Wilson's interval over n cases has the half width

        z / (1 + z^2/n) * sqrt(p (1 - p) / n + z^2 / (4 n^2)).

    Several readers of one case do not count as several cases: with R readings of each case that
    agree as far as the intra-class correlation says, n readings are worth n / (1 + (R - 1) icc)
    independent ones (design effect: Donner and Klar 2000, section 2.1).

    Args:
        half_width: of the 95 % interval of the share of acceptable reports, 0 to 0.5 excluded.
        expected: share that is expected; 0.5 is the most cautious. The default is that of
            CXR-LLaVA's reports (72.7 %, Lee et al. 2025).
        readers: readings of each report.
        icc: correlation of readings of one report, 0 to 1.

    Raises:
        OptionError: a number is out of range.

    >>> wb.review.sample_size(0.05).cases
    301
    """
    for name, value, high in (("half_width", half_width, 0.5), ("expected", expected, 1)):
        if not 0 < value < high:
            raise OptionError(f"{name} must be above 0 and below {high}, got {value!r}")
    if readers < 1 or not 0 <= icc <= 1:
        raise OptionError(f"readers must be 1 or more and icc 0 to 1, got {readers!r} and {icc!r}")
    cases = 1 + bisect_left(
        range(1, _MOST), -half_width, key=lambda n: -_reached(n, expected, readers, icc)
    )
    reached = _reached(cases, expected, readers, icc)
    return SampleSize(cases, 2 * cases * readers, half_width, reached, expected, readers, icc)


def _reached(cases: int, share: float, readers: int, icc: float) -> float:
    n = max(1.0, cases * readers / (1 + (readers - 1) * icc))
    z = float(ndtri(0.5 + LEVEL / 2))
    return z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
