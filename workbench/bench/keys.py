"""What benchmarks go through: keys of phantoms, and of the rows of a manifest.

A key is small and plain: it is stored with the result of its case, it is sent to other processes,
and the phantom is drawn or the row read there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from workbench import data as manifests
from workbench._store import file_sha256
from workbench.cases import Case, located, row_case
from workbench.data.manifest import Manifest
from workbench.errors import InputError, check_whole
from workbench.findings import ABSENT, ALL_FINDINGS, NO_FINDING, PRESENT
from workbench.phantom.case import DRAWN, Phantom, phantom, size_near
from workbench.phantom.scene import Lesion
from workbench.phantom.wording import by_finding


class Place(NamedTuple):
    """Where a finding is: side, zones joined by ", " (None where it has none), lobe if known."""

    side: str | None
    zone: str | None
    lobe: str | None = None


@dataclass(frozen=True)
class PhantomKey:
    """A phantom not drawn yet; without `findings` the seed decides what it has.

    >>> wb.bench.PhantomKey(seed=7, findings=("nodule",)).open(256).labels["nodule"]
    'present'
    """

    seed: int
    domain: str = "internal"
    findings: tuple[str, ...] | None = None

    @property
    def patient(self) -> str:
        """Nobody: every phantom is on its own."""
        return ""

    def open(self, size: int) -> Phantom:
        """Draw the phantom, as near to `size` pixels along each edge as phantoms can be."""
        near = size_near(size)
        return phantom(self.seed, findings=self.findings, domain=self.domain, size=near)


@dataclass(frozen=True)
class RowKey:
    """A row of a manifest file whose image is not read yet; `seed` is of what is drawn about it."""

    manifest: str
    root: str
    row: int
    patient: str
    seed: int

    def open(self, size: int) -> Case:
        """Return the case of the row; its image keeps its own size."""
        return row_case(_manifest(self.manifest, self.root), self.row, seed=self.seed)


CaseKey = PhantomKey | RowKey


@lru_cache(maxsize=2)
def _manifest(path: str, root: str) -> Manifest:
    return manifests.load(path, root=root)


@dataclass(frozen=True)
class Radiographs:
    """The images of a manifest, for a benchmark in the place of phantoms.

    Attributes:
        manifest: file (.parquet or .csv); its codes, boxes and masks are the truth.
        root: folder that its paths are relative to; that of the file when None.

    >>> radiographs = wb.bench.Radiographs("m.parquet", root="images")
    >>> wb.bench.examine(model, radiographs=radiographs, n=2, progress=False).n
    2
    """

    manifest: str | os.PathLike
    root: str | os.PathLike | None = None

    @property
    def name(self) -> str:
        """Name of the file."""
        return Path(self.manifest).name

    @property
    def sha256(self) -> str:
        """Of the file."""
        return file_sha256(Path(self.manifest))

    def rows(self, n: int | None, seed: int, wanted: Wanted) -> list[tuple[RowKey, list[str]]]:
        """Return the first `n` rows of which something wanted is known, with what it is.

        Args:
            n: None takes all.
            seed: of the first row of the manifest.
            wanted: returns findings of the values of a row; a row without any is left out.

        Raises:
            InputError: there is no such row, or the manifest cannot be read.
        """
        path = Path(self.manifest)
        root = str(path.parent if self.root is None else self.root)
        frame = _manifest(str(path), root).frame
        columns, found = list(map(str, frame)), []
        for at, row in enumerate(frame.itertuples(index=False, name=None)):
            values = dict(zip(columns, row, strict=True))
            names = wanted(values) if isinstance(values["path"], str) else []
            if names:
                patient = f"{values['source']}/{values['patient_id']}"
                found.append((RowKey(str(path), root, at, patient, seed + at), names))
            if len(found) == n:
                break
        if not found:
            raise InputError(
                f"no row of {path.name} has an image with what this benchmark needs: findings "
                "coded present or absent; for maps also their boxes or masks"
            )
        return found


#: What a report can state.
STATABLE = tuple(name for name in ALL_FINDINGS if name != NO_FINDING)

Wanted = Callable[[Mapping[str, Any]], list[str]]


def coded(values: Mapping[str, Any]) -> list[str]:
    """Return the findings that a row says are present or absent."""
    return [name for name in STATABLE if values[name] in (PRESENT, ABSENT)]


def shown(values: Mapping[str, Any]) -> list[str]:
    """Return the findings that a row says are present, and where."""
    where = located(values)
    return [name for name in STATABLE if values[name] == PRESENT and name in where]


def known(case: Phantom | Case, finding: str, present: Mapping[str, bool | None]) -> bool:
    """Tell whether a statement about a finding is right or wrong, by what its code counts as."""
    return isinstance(case, Phantom) or present[case.code(finding)] is not None


def places(lesions: Iterable[Lesion]) -> dict[str, Place]:
    """Return finding -> place of what is drawn."""
    found = by_finding(lesions)
    return {
        finding: Place(lesion.side, lesion.zone, lesion.lobe) for finding, lesion in found.items()
    }


def case_keys(
    n: int | None,
    seed: int,
    radiographs: Radiographs | None,
    *,
    phantoms: int,
    domain: str | None = None,
) -> list[CaseKey]:
    """Return the first `n` labelled rows of a manifest, or `n` phantoms of a domain.

    Without `n` these are all rows, or so many `phantoms`. Without a domain half are internal, with
    the seeds seed .. seed + ceil(n / 2) - 1, and half external, with those that follow.
    """
    if n is not None:
        check_whole(1, n=n)
    if radiographs is not None:
        return [key for key, _ in radiographs.rows(n, seed, coded)]
    n = phantoms if n is None else n
    of = DRAWN if domain is None else (domain,)
    return [PhantomKey(seed + at, of[at * len(of) // n]) for at in range(n)]
