"""Reading reports: sentences with their positions, and findings with their evidence.

wb.reports.label(text)                      rules of this project
wb.reports.reader("chexbert", weights=...)  another reader, the same result
wb.reports.measure_texts(texts, others)     BLEU, ROUGE-L and what else is installed
"""

from workbench.reports.boxes import BoxConvention, WrittenBoxes
from workbench.reports.labeler import divide, label
from workbench.reports.labels import FindingLabel, Labels
from workbench.reports.readers import reader
from workbench.reports.sections import Section, Sentence, sentences
from workbench.reports.text_metrics import TextMetrics, measure_texts

__all__ = [
    "BoxConvention",
    "FindingLabel",
    "Labels",
    "Section",
    "Sentence",
    "TextMetrics",
    "WrittenBoxes",
    "divide",
    "label",
    "measure_texts",
    "reader",
    "sentences",
]
