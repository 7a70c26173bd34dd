"""What is said about a phantom: reference report, differential diagnosis, questions and answers.

Wording takes lesions and a generator and nothing else: the same lesions with the same generator
state give the same text.
"""

from workbench.phantom.wording.questions import QUESTION_KINDS, Question, questions
from workbench.phantom.wording.report import write_differential, write_report
from workbench.phantom.wording.statements import Statement, merged_side, statements

__all__ = [
    "QUESTION_KINDS",
    "Question",
    "Statement",
    "merged_side",
    "questions",
    "statements",
    "write_differential",
    "write_report",
]
