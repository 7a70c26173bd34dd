"""What a model says that the image does not support: measured, found, and checked.

    wb.hallucination.ground(trace)                  what the image contributed, word by word
    wb.hallucination.ground_text(model, image, text)  the same for a text from anywhere
    wb.hallucination.check_text(text)               what no single image can show
    wb.hallucination.ground_table(model, "texts.csv")  and for a table of texts with images
    wb.hallucination.detect(trace)                  how suspect each stated finding is
    wb.hallucination.classify(texts, truths)        in what way reports err
    wb.hallucination.probe_polling(model, cases)    and other probes that ask: `probes`
    model.report(image, mitigation=wb.hallucination.Revise())   and something done about it

Everything is imported on first use. Which detectors tell the truth, and what mitigation costs:
`workbench.bench`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.hallucination.ablations import ABLATIONS as ABLATIONS
    from workbench.hallucination.calibration import Calibration as Calibration
    from workbench.hallucination.calibration import shipped_calibration as shipped_calibration
    from workbench.hallucination.detectors import DETECTORS as DETECTORS
    from workbench.hallucination.detectors import Detection as Detection
    from workbench.hallucination.detectors import detect as detect
    from workbench.hallucination.detectors import semantic_entropy as semantic_entropy
    from workbench.hallucination.grounding import GroundingTable as GroundingTable
    from workbench.hallucination.grounding import ground as ground
    from workbench.hallucination.grounding import ground_answers as ground_answers
    from workbench.hallucination.grounding import ground_table as ground_table
    from workbench.hallucination.grounding import ground_text as ground_text
    from workbench.hallucination.grounding_result import AnswerGrounding as AnswerGrounding
    from workbench.hallucination.grounding_result import Grounding as Grounding
    from workbench.hallucination.linear_probe import LinearProbe as LinearProbe
    from workbench.hallucination.mitigation import Abstain as Abstain
    from workbench.hallucination.mitigation import ContrastiveDecoding as ContrastiveDecoding
    from workbench.hallucination.mitigation import MitigatedGeneration as MitigatedGeneration
    from workbench.hallucination.mitigation import PollAndRewrite as PollAndRewrite
    from workbench.hallucination.mitigation import Revise as Revise
    from workbench.hallucination.mitigation import suspicion as suspicion
    from workbench.hallucination.polling import question_about as question_about
    from workbench.hallucination.polling import read_answer as read_answer
    from workbench.hallucination.polling import yes_odds as yes_odds
    from workbench.hallucination.probe_table import ProbeTable as ProbeTable
    from workbench.hallucination.probe_table import phantom_cases as phantom_cases
    from workbench.hallucination.probes import probe_polling as probe_polling
    from workbench.hallucination.probes import probe_presupposition as probe_presupposition
    from workbench.hallucination.probes import probe_self_consistency as probe_self_consistency
    from workbench.hallucination.probes import probe_sycophancy as probe_sycophancy
    from workbench.hallucination.probes import probe_wording as probe_wording
    from workbench.hallucination.probes import probe_wrong_patient as probe_wrong_patient
    from workbench.hallucination.rewriting import rewrite as rewrite
    from workbench.hallucination.taxonomy import Known as Known
    from workbench.hallucination.taxonomy import Taxonomy as Taxonomy
    from workbench.hallucination.taxonomy import classify as classify
    from workbench.hallucination.text_checks import CHECKS as CHECKS
    from workbench.hallucination.text_checks import TextChecks as TextChecks
    from workbench.hallucination.text_checks import check_text as check_text
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
