"""Examinations of a model against known truth, with intervals."""

from workbench.evaluation.bars import Bar
from workbench.evaluation.exam_result import PhantomExam
from workbench.evaluation.intervals import Estimate
from workbench.evaluation.phantom_exam import FIRST_HELD_OUT_SEED, examine
from workbench.evaluation.phantom_scores import DomainScore, ExamCase, FindingScore

__all__ = [
    "FIRST_HELD_OUT_SEED",
    "Bar",
    "DomainScore",
    "Estimate",
    "ExamCase",
    "FindingScore",
    "PhantomExam",
    "examine",
]
