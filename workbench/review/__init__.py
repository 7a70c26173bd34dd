"""Review: the errors of a run in front of a person who can judge them.

    queue = wb.review.queue("runs/first", manifest="m.parquet")
    notes = wb.review.open_annotations("runs/first")
    notes.add(queue.to_frame().iloc[0], verdict="reference wrong", reviewer="AB")
    wb.review.app("runs/first", reviewer="AB")       # or judge in the browser
    wb.review.corrected_reference(queue, notes).save("corrected.csv")
    wb.review.save_dicom_sr(queue, notes, "sr")      # for a PACS
    study = wb.reader_study("runs/first", manifest="m.parquet", readers=["AB", "CD"], out="study")
    wb.review.StudyApp(study, reader="AB", images="m.parquet")      # grade in the browser

Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.review.cases import ReviewCase as ReviewCase
    from workbench.review.corrections import CorrectedReference as CorrectedReference
    from workbench.review.corrections import corrected_reference as corrected_reference
    from workbench.review.dicom_sr import save_dicom_sr as save_dicom_sr
    from workbench.review.error_queue import ErrorQueue as ErrorQueue
    from workbench.review.error_queue import queue as queue
    from workbench.review.kappa import Agreement as Agreement
    from workbench.review.kappa import agreement as agreement
    from workbench.review.slices import Slice as Slice
    from workbench.review.slices import SliceTable as SliceTable
    from workbench.review.study import ReaderStudy as ReaderStudy
    from workbench.review.study import SampleSize as SampleSize
    from workbench.review.study import open_study as open_study
    from workbench.review.study import reader_study as reader_study
    from workbench.review.study import sample_size as sample_size
    from workbench.review.study_result import StudyResult as StudyResult
    from workbench.review.study_result import analyse as analyse
    from workbench.review.study_session import GRADES as GRADES
    from workbench.review.study_session import ReaderSession as ReaderSession
    from workbench.review.suspects import KINDS as KINDS
    from workbench.review.verdicts import SEVERITIES as SEVERITIES
    from workbench.review.verdicts import VERDICTS as VERDICTS
    from workbench.review.verdicts import Annotation as Annotation
    from workbench.review.verdicts import Annotations as Annotations
    from workbench.review.verdicts import open_annotations as open_annotations
    from workbench.widgets.reader import StudyApp as StudyApp
    from workbench.widgets.reviewer import app as app
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
