"""Cases to learn from, divided: training and validation never share a patient."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from workbench import data as manifests
from workbench._repr import result
from workbench.cases import Case, drawn_findings, phantom_case, row_case
from workbench.data.columns import FINDING_COLUMNS
from workbench.data.manifest import Manifest
from workbench.errors import InputError, TrainingError
from workbench.findings import ABSENT, ON_REQUEST, PRESENT
from workbench.finetune.recipe import DataRecipe, PhantomData, Recipe
from workbench.settings import FIRST_HELD_OUT_SEED


@result()
class CaseSet:
    """Cases divided for one run.

    Checkpoints are chosen by `validation`, which has no patient of `train`; on `unlabelled` images
    the base's own reports are to be kept.
    """

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    unlabelled: tuple[Case, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ids, patients, codes and written texts of all parts."""
        digest = hashlib.sha256()
        for case in (*self.train, *self.validation, *self.unlabelled):
            text = case.report if case.drawn is None else ""
            digest.update(repr((case.id, case.patient, sorted(case.codes.items()), text)).encode())
        return digest.hexdigest()

    @property
    def learned(self) -> tuple[Case, ...]:
        """Every case that a step may see, in the order of their rows."""
        return (*self.train, *self.unlabelled)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return finding -> counts ("train present", ...); findings without any are left out."""
        found = {}
        for finding in FINDING_COLUMNS:
            row = {}
            for part, cases in (("train", self.train), ("validation", self.validation)):
                codes = Counter(case.code(finding) for case in cases)
                row |= {f"{part} {code}": codes[code] for code in (PRESENT, ABSENT)}
            if any(row.values()):
                found[finding] = row
        return found

    def facts(self) -> dict[str, Any]:
        """Return what a ledger says of the cases."""
        return {
            "source": "manifest" if self.train[0].drawn is None else "phantoms",
            "digest": self.digest,
            "train": len(self.train),
            "validation": len(self.validation),
            "patients": len({case.patient for case in self.train}),
            "findings": self.counts(),
        }


def gather(recipe: Recipe) -> CaseSet:
    """Return the cases of a recipe; `InputError` or `TrainingError` where they cannot be used."""
    data = recipe.data
    if data.phantoms is None:
        manifest = manifests.load(str(data.manifest), root=data.root)
        return manifest_cases(manifest, data, seed=recipe.seed)
    cases = phantom_cases(data.phantoms)
    late = _late(cases, data.validation, recipe.seed, data.phantoms.finding)
    unlabelled = unlabelled_cases(data.phantoms, behind=cases)
    return _case_set(cases, late, unlabelled=tuple(unlabelled))


def phantom_cases(wanted: PhantomData) -> list[Case]:
    """Return phantom cases; with a taught finding, as many with and without as its share says."""
    domain, finding = wanted.domain, wanted.finding
    if finding is None:
        seeds = range(wanted.first_seed, wanted.first_seed + wanted.count)
        return [phantom_case(seed, domain=domain) for seed in seeds]
    with_it = round(wanted.count * wanted.share)
    quota = {True: with_it, False: wanted.count - with_it}
    found: list[Case] = []
    seed = wanted.first_seed
    while any(quota.values()):
        if finding in ON_REQUEST:
            shows = quota[True] > 0 and (seed % 2 == 0 or not quota[False])
        else:
            shows = finding in drawn_findings(seed, domain)
        if quota[shows]:
            quota[shows] -= 1
            taught = finding if shows and finding in ON_REQUEST else None
            found.append(phantom_case(seed, domain=domain, add=taught, known=finding))
        seed += 1
    return found


def unlabelled_cases(wanted: PhantomData, *, behind: Sequence[Case]) -> list[Case]:
    """Return phantoms without labels, of the seeds behind those of other cases."""
    if not wanted.unlabelled:
        return []
    start = behind[-1].phantom.seed + 1
    if start + wanted.unlabelled > FIRST_HELD_OUT_SEED:
        raise TrainingError(
            f"unlabelled phantoms would go up to seed {start + wanted.unlabelled:,}; seeds from "
            f"{FIRST_HELD_OUT_SEED:,} are reserved for evaluation, start lower"
        )
    drawn = [phantom_case(start + at, domain=wanted.domain) for at in range(wanted.unlabelled)]
    return [Case(one.id, one.patient, codes={}, sections={}, load=one.load) for one in drawn]


def manifest_cases(manifest: Manifest, data: DataRecipe, *, seed: int = 0) -> CaseSet:
    """Return the cases of a manifest, divided by patient.

    Rows of a split "test" are never touched. Where the manifest has "train" and "validate" they are
    taken; otherwise patients are divided by `data.validation`.
    """
    frame = manifest.frame
    usable = frame["path"].notna() & (frame["split"].astype(object) != "test")
    if not usable.any():
        raise InputError("no row of the manifest has an image outside its test split")
    chosen = manifest.select(usable.to_numpy(bool))
    if data.per_finding is not None:
        names = list(data.findings) or None
        chosen = manifests.subset(chosen, per_finding=data.per_finding, findings=names, seed=seed)
    cases = [row_case(chosen, row) for row in range(len(chosen))]
    late = (chosen.frame["split"] == "validate").to_numpy()
    if not late.any():
        late = _late(cases, data.validation, seed)
    return _case_set(cases, late, notes=chosen.notes)


def _late(cases: Sequence[Case], share: float, seed: int, taught: str | None = None) -> list[bool]:
    """Choose by patient what goes to validation: whole patients, until it has its share.

    Where a finding is taught, validation has it in the same share as training.
    """
    shows = {case.patient for case in cases if taught and case.code(taught) == PRESENT}
    chosen: set[str] = set()
    for stratum in (True, False):
        mine = [case.patient for case in cases if (case.patient in shows) == stratum]
        sizes, patients = Counter(mine), sorted(set(mine))
        order = np.random.default_rng([seed, 71, stratum]).permutation(len(patients))
        wanted, total = round(share * len(mine)), 0
        if mine and not (chosen or stratum):
            wanted = max(wanted, 1)
        for at in order:
            if total >= wanted:
                break
            chosen.add(patients[at])
            total += sizes[patients[at]]
    return [case.patient in chosen for case in cases]


def _case_set(cases: Sequence[Case], late: Iterable[bool], **more: Any) -> CaseSet:
    """Divide cases by what goes to validation; empty parts and shared patients are refused."""
    pairs = list(zip(cases, late, strict=True))
    train = tuple(case for case, other in pairs if not other)
    validation = tuple(case for case, other in pairs if other)
    if not train or not validation:
        raise TrainingError(
            f"{len(train)} cases to train on and {len(validation)} to validate: both are needed; "
            "give more cases or another data.validation"
        )
    shared = {case.patient for case in train} & {case.patient for case in validation}
    if shared:
        raise TrainingError(
            f"{len(shared)} patients are in training and validation; divide by patient "
            "(`workbench manifest split`)"
        )
    return CaseSet(train, validation, **more)
