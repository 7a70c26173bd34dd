"""Data manifests: one table for every data set, built from official files, checked and frozen.

    manifest = wb.data.build("nih", source="downloads/nih")
    manifest.save("nih.parquet")
    wb.data.check(manifest)

One row is one image; a finding is present, absent, uncertain or not mentioned, and unknown is never
absent. Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.data.building import build as build
    from workbench.data.building import load as load
    from workbench.data.cards import SOURCES as SOURCES
    from workbench.data.cards import DataCard as DataCard
    from workbench.data.cards import card as card
    from workbench.data.checking import CheckResult as CheckResult
    from workbench.data.checking import Problem as Problem
    from workbench.data.checking import check as check
    from workbench.data.cohort import apply_split as apply_split
    from workbench.data.cohort import split as split
    from workbench.data.cohort import subset as subset
    from workbench.data.columns import COLUMNS as COLUMNS
    from workbench.data.columns import FINDING_COLUMNS as FINDING_COLUMNS
    from workbench.data.croissant import save_croissant as save_croissant
    from workbench.data.download import label_files as label_files
    from workbench.data.freezing import Cohort as Cohort
    from workbench.data.freezing import Verification as Verification
    from workbench.data.freezing import freeze as freeze
    from workbench.data.freezing import verify as verify
    from workbench.data.manifest import Manifest as Manifest
    from workbench.data.mapping import from_cell as from_cell
    from workbench.data.quality_control import QualityTable as QualityTable
    from workbench.data.quality_control import quality as quality
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
