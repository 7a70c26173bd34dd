"""Reading reports: sentences with their positions, and findings with their evidence."""

from workbench.reports.labeler import label
from workbench.reports.labels import FindingLabel, Labels
from workbench.reports.lexicon import Lexicon, read_lexicon
from workbench.reports.sentences import Sentence, sentences

__all__ = [
    "FindingLabel",
    "Labels",
    "Lexicon",
    "Sentence",
    "label",
    "read_lexicon",
    "sentences",
]
