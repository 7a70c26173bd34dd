"""What a model is asked about each case, and what it should answer: instruction sets by template.

Tasks:
    report        the published report prompt; the report, cleaned of priors
    findings      the findings section alone
    impression    the impression alone
    question      "Is there a pneumothorax?": yes or no, in a controlled ratio, known codes only
    differential  the published prompt (phantoms only, which have a reference)
    rehearsal     other questions about a phantom, so that old skills are not forgotten
    own report    what the base itself says of an image without labels (`own_turns`)

A case without a report gets one from its labels: what is known is said, what is unknown is not.
Uncertain is neither yes nor no and is never asked about.

A few dozen labelled images show too little of what a model knew, and images without labels are
cheap: the base reports them, and the trained model is tied to what the base would say. Where
training reports speak of the taught finding, a sentence about it is put into the base's report (a
denial into one half, a statement into the other), because the new model will write one there. That
sentence is only read: whether it is true is not known.

Papers: Robins, Catastrophic forgetting, rehearsal and pseudorehearsal, Connection Science 7, 1995;
Li and Hoiem, Learning without Forgetting, ECCV 2016, arXiv 1606.09282 (deviation: a sentence about
what is new is given to the student and kept from the base).
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from workbench._repr import result
from workbench.cases import Case
from workbench.findings import ABSENT, ALL_FINDINGS, NO_FINDING, NOT_MENTIONED, PRESENT, UNCERTAIN
from workbench.finetune.cases import CaseSet
from workbench.finetune.priors import clean_priors
from workbench.finetune.recipe import DataRecipe
from workbench.hallucination.polling import named, question_about
from workbench.model import prompt
from workbench.reports import label, sentences

#: What is asked for a section alone.
SECTION_PROMPTS = {"findings": "Describe the findings.", "impression": "What is the impression?"}
#: How a report denies a finding; the second where it denies others in such sentences, too.
DENIAL, LONG_DENIAL = "No {}.", "There is no {}."
#: How a report made from labels says a code.
STATED = {PRESENT: "There is {}.", ABSENT: DENIAL, UNCERTAIN: "Possible {}."}


@dataclass(frozen=True)
class Turn:
    """One question about a case, and its answer.

    Attributes:
        question: what the user asks; None for the published prompts.
        finding: what a polling question is about.
        original: the text before cleaning, where that changed it.
        about: (start, end) of the parts of the answer that are about the taught finding.
        given: what is about the taught finding was put there and carries no loss.
    """

    case: str
    task: str
    question: str | None
    answer: str
    finding: str | None = None
    original: str | None = None
    about: tuple[tuple[int, int], ...] = ()
    given: bool = False

    @property
    def focus(self) -> tuple[tuple[int, int], ...]:
        """The part of `about` that decides.

        A poll decides as a whole, a report in its first sentence about the finding: what its
        impression repeats follows from that, and a report without it has nothing there to weigh.
        """
        return self.about[:1]

    def messages(self, prompts: prompt.Prompts = prompt.PUBLISHED_PROMPTS) -> list[prompt.Message]:
        """Return what a model with these prompts is asked, ready for the chat template."""
        if self.task in ("report", "own report"):
            return prompts.report_messages()
        if self.task == "differential":
            return prompts.differential_messages()
        return prompts.question_messages(self.question or "")


@result()
class InstructionSet:
    """Turns in the order of their cases; `left_out` is case id -> why it gave no turn."""

    turns: tuple[Turn, ...]
    left_out: Mapping[str, str]

    def counts(self) -> dict[str, int]:
        """Return turns by task, polling answers apart."""
        names = [
            f"{turn.task} {turn.answer.split(',')[0].lower()}" if turn.finding else turn.task
            for turn in self.turns
        ]
        return dict(Counter(names))


def instruction_set(
    cases: Sequence[Case], data: DataRecipe, *, taught: str | None = None, seed: int = 0
) -> InstructionSet:
    """Write the turns of cases; the seed decides what templates leave open.

    Reports deny the `taught` finding where it is absent, and questions ask about it first.
    """
    polls = _polls(cases, data, taught, seed) if "question" in data.tasks else {}
    first = taught is not None and begins_reports(cases, taught)
    turns: list[Turn] = []
    left_out: dict[str, str] = {}
    for case in cases:
        rng = np.random.default_rng([seed, 73, _number(case.id)])
        mine = [*_texts(case, data, taught, rng, first), *polls.get(case.id, ())]
        if case.drawn is not None and "differential" in data.tasks:
            mine.append(Turn(case.id, "differential", None, case.phantom.differential))
        if case.drawn is not None and "rehearsal" in data.tasks:
            asked = case.phantom.questions[: max(data.questions, 1)]
            mine += [Turn(case.id, "rehearsal", q.text, q.answer) for q in asked]
        if not mine:
            left_out[case.id] = "no text and no known finding"
        turns += [marked(turn, taught) for turn in mine]
    return InstructionSet(tuple(turns), left_out)


def own_turns(
    cases: CaseSet, texts: Mapping[str, str], *, taught: str, seed: int = 0
) -> list[Turn]:
    """Return a turn for each image without labels: what the base says, with a sentence given.

    Statements of the taught finding are borrowed from the labelled cases. `texts` is case -> what
    the base says of it; an empty one gives no turn.
    """
    first = begins_reports(cases.train, taught)
    reports = [case.report for case in cases.train if case.code(taught) == PRESENT]
    about = [marked(Turn("", "report", None, text), taught) for text in reports]
    stated = [turn.answer[start:end] for turn in about for start, end in turn.focus]
    turns = []
    for case in cases.unlabelled:
        text = texts[case.id].strip()
        if not text:
            continue
        rng = np.random.default_rng([seed, 79, _number(case.id)])
        if label(text).code(taught) == NOT_MENTIONED:
            if not stated or rng.random() < 0.5:
                text = denied(text, taught, first=first)
            else:
                text = placed(text, stated[rng.integers(len(stated))], first=first)
        turns.append(marked(Turn(case.id, "own report", None, text, given=True), taught))
    return turns


def label_report(case: Case) -> str:
    """Return a report made from labels: present and absent are said, the rest is not."""
    said = []
    for finding, code in case.codes.items():
        if finding == NO_FINDING:
            said += ["No acute cardiopulmonary abnormality."] if code == PRESENT else []
        elif code in STATED:
            said.append(STATED[code].format(finding))
    return " ".join(said)


def denied(text: str, finding: str, *, first: bool = False) -> str:
    """Return a report that denies a finding, before everything else or before its impression.

    It does so in the report's own way: another one would teach a way of writing, not the finding.
    """
    begun = [one.text.lstrip().lower() for one in sentences(text.partition("Impression:")[0])]
    long = sum(one.startswith(("there is no ", "there are no ")) for one in begun)
    short = sum(one.startswith("no ") for one in begun)
    denial = LONG_DENIAL if long > short else DENIAL
    return placed(text, denial.format(finding), first=first)


def placed(text: str, sentence: str, *, first: bool) -> str:
    """Return a report with one more sentence, before everything else or before its impression."""
    body, mark, impression = text.partition("Impression:")
    parts = [sentence, body.strip()]
    said = " ".join(filter(None, parts if first else reversed(parts)))
    return f"{said} {mark}{impression}".strip() if mark else said


def marked(turn: Turn, taught: str | None) -> Turn:
    """Return a turn that knows where it speaks of the taught finding."""
    if taught is None or turn.finding not in (None, taught):
        return turn
    if turn.finding == taught:
        return replace(turn, about=((0, len(turn.answer)),))
    starts = [one.start for one in label(turn.answer).mentions if one.finding == taught]
    spans = [(one.start, one.end) for one in sentences(turn.answer)]
    about = [s for s in spans if any(s[0] <= start < s[1] for start in starts)]
    return replace(turn, about=tuple(about))


def begins_reports(cases: Sequence[Case], finding: str) -> bool:
    """Return whether most reports that state a finding begin with it.

    What denies it then stands in the same place, so that one word decides between the two.
    """
    stated = [case.report for case in cases if case.code(finding) == PRESENT and case.report]
    firsts = [part.text for report in stated for part in sentences(report)[:1]]
    return 2 * sum(label(first).code(finding) == PRESENT for first in firsts) > len(stated)


def _texts(
    case: Case, data: DataRecipe, taught: str | None, rng: np.random.Generator, first: bool
) -> list[Turn]:
    denies = taught is not None and case.code(taught) == ABSENT and rng.random() < data.denials
    turns = []
    for task in [task for task in data.tasks if task in ("report", *SECTION_PROMPTS)]:
        answer = (case.report or label_report(case)) if task == "report" else case.section(task)
        original = None
        if data.clean_priors and case.drawn is None:
            cleaned = clean_priors(answer)
            answer, original = cleaned.text, answer if cleaned.changed else None
        if denies and taught and task != "impression" and label(answer).code(taught) != ABSENT:
            answer = denied(answer, taught, first=first)
        if answer.strip():
            asked = SECTION_PROMPTS.get(task)
            turns.append(Turn(case.id, task, asked, answer.strip(), original=original))
    return turns


def _polls(
    cases: Sequence[Case], data: DataRecipe, taught: str | None, seed: int
) -> dict[str, list[Turn]]:
    """Return polling turns by case; the taught finding is asked about first."""
    rng = np.random.default_rng([seed, 74])
    pools: dict[str, list[tuple[str, str]]] = {PRESENT: [], ABSENT: []}
    for case in cases:
        for finding, code in case.codes.items():
            askable = finding != NO_FINDING and (not data.findings or finding in data.findings)
            if code in pools and (askable or finding == taught) and finding in ALL_FINDINGS:
                pools[code].append((case.id, finding))
    room = Counter({case.id: data.questions for case in cases})
    most = len(cases) * data.questions / (1 + data.negatives)
    yes = _drawn(pools[PRESENT], room, rng, taught, limit=most)
    no = _drawn(pools[ABSENT], room, rng, taught, limit=len(yes) * data.negatives)
    answered = [(case, finding, f"Yes, there is {named(finding)}.") for case, finding in yes]
    answered += [(case, finding, f"No, there is no {finding}.") for case, finding in no]
    turns: dict[str, list[Turn]] = {}
    for case, finding, answer in answered:
        turn = Turn(case, "question", question_about(finding), answer, finding)
        turns.setdefault(case, []).append(turn)
    return turns


def _drawn(
    pool: list[tuple[str, str]], room: Counter, rng: np.random.Generator, taught: str | None,
    *, limit: float,
) -> list[tuple[str, str]]:  # fmt: skip
    """Draw pairs of case and finding up to a limit, as long as a case has room."""
    chosen: list[tuple[str, str]] = []
    mixed = [pool[at] for at in rng.permutation(len(pool))]
    for case, finding in sorted(mixed, key=lambda pair: pair[1] != taught):
        if len(chosen) < round(limit) and room[case] > 0:
            room[case] -= 1
            chosen.append((case, finding))
    return chosen


def _number(text: str) -> int:
    """Return a number that follows from the id of a case, for seeds."""
    return zlib.crc32(text.encode())
