"""What is said about a phantom: reference report, differential diagnosis, questions and answers.

Wording takes lesions and a generator and nothing else: the same lesions with the same generator
state give the same text.
"""

from workbench.phantom.wording.questions import Question, questions
from workbench.phantom.wording.report import GRADED, by_finding, write_differential, write_report

__all__ = ["GRADED", "Question", "by_finding", "questions", "write_differential", "write_report"]
