"""What is said about a phantom: reference report, differential diagnosis, questions and answers.

Wording takes lesions and a generator and nothing else: it never sees pixels or seeds of its own,
and the same lesions with the same generator state give the same text.
"""

from workbench.phantom.wording.differential import write_differential
from workbench.phantom.wording.mentions import Mention, mentions
from workbench.phantom.wording.questions import QUESTION_KINDS, Question, questions
from workbench.phantom.wording.report import write_report

__all__ = [
    "QUESTION_KINDS",
    "Mention",
    "Question",
    "mentions",
    "questions",
    "write_differential",
    "write_report",
]
