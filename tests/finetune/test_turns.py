"""Instruction sets: answers that are known, in the ratio that was asked for."""

import pytest

from workbench.cases import Case, _drawn, phantom_case
from workbench.finetune.cases import manifest_cases
from workbench.finetune.recipe import DataRecipe, PhantomData
from workbench.finetune.turns import Turn, denied, instruction_set, label_report
from workbench.reports import label


def data(**changes) -> DataRecipe:
    return DataRecipe(phantoms=PhantomData(), **changes)


def case(name: str, **codes: str) -> Case:
    spelled = {finding.replace("_", " "): code for finding, code in codes.items()}
    return Case(name, name, spelled, {}, load=lambda: None)


@pytest.mark.parametrize("negatives", [0.0, 1.0, 2.0])
def test_no_comes_as_often_as_was_asked(negatives):
    many = [
        case(f"c{n}", nodule="present", pneumothorax="absent", consolidation="absent",
             pleural_effusion="uncertain")
        for n in range(30)
    ]  # fmt: skip
    made = instruction_set(many, data(tasks=("question",), questions=2, negatives=negatives))
    yes = sum(turn.answer.startswith("Yes") for turn in made.turns)
    no = sum(turn.answer.startswith("No") for turn in made.turns)
    assert yes > 0 and no == pytest.approx(negatives * yes, abs=1)


def test_what_is_unknown_or_uncertain_is_never_asked_about():
    made = instruction_set(
        [case("a", nodule="present", pneumonia="uncertain")], data(tasks=("question",), questions=9)
    )
    assert {turn.finding for turn in made.turns} == {"nodule"}


def test_a_report_from_labels_says_what_is_known_and_nothing_else():
    text = label_report(case("a", nodule="present", pneumothorax="absent", pneumonia="uncertain"))
    read = label(text)
    assert read.code("nodule") == "present" and read.code("pneumothorax") == "absent"
    assert read.code("pneumonia") == "uncertain"
    assert read.code("pleural effusion") == "not mentioned"


def test_a_taught_finding_is_denied_before_the_impression():
    text = denied("Heart size is normal. Impression: No acute abnormality.", "fracture")
    assert text == "Heart size is normal. No fracture. Impression: No acute abnormality."
    assert denied("Clear lungs.", "fracture") == "Clear lungs. No fracture."
    first = denied("Clear lungs. Impression: Normal.", "fracture", first=True)
    assert first == "No fracture. Clear lungs. Impression: Normal."


@pytest.mark.parametrize(("finding", "first"), [("support device", True), ("nodule", False)])
def test_a_denial_stands_where_the_finding_is_stated(finding, first):
    seeds = range(8_400_000, 8_400_060)
    drawn = [phantom_case(seed, known=finding) for seed in seeds]
    shown = [case for case in drawn if case.code(finding) == "present"][:4]
    silent = [
        case for case in drawn
        if case.code(finding) == "absent" and label(case.report).code(finding) != "absent"
    ][:4]  # fmt: skip
    made = instruction_set([*shown, *silent], data(tasks=("report",)), taught=finding)
    answers = {turn.case: turn.answer for turn in made.turns}
    assert shown and silent
    for case in silent:
        assert answers[case.id].startswith(f"No {finding}.") == first


def test_the_focus_is_the_sentence_that_decides(cases):
    made = instruction_set(cases, data(tasks=("report", "question")), taught="fracture")
    parts = {t.answer: [t.answer[a:b] for a, b in t.focus] for t in made.turns}
    assert {len(found) for found in parts.values()} == {0, 1}
    for turn in made.turns:
        found = parts[turn.answer]
        if turn.task == "report":
            assert len(found) == 1 and "fracture" in found[0] and "Impression" not in found[0]
            said = "".join(turn.answer[a:b] for a, b in turn.about)
            assert said.count("fracture") == turn.answer.count("fracture")
            assert turn.about[0] == turn.focus[0]
        else:
            assert found == ([turn.answer] if turn.finding == "fracture" else [])
    untaught = instruction_set(cases, data(tasks=("report", "question")))
    assert all(turn.focus == turn.about == () for turn in untaught.turns)


def test_drawn_reports_state_and_deny_what_is_taught(cases):
    made = instruction_set(cases, data(tasks=("report",)), taught="fracture")
    for turn, drawn in zip(made.turns, cases, strict=True):
        assert label(turn.answer).code("fracture") == drawn.code("fracture")
    silent = instruction_set(cases, data(tasks=("report",), denials=0.0), taught="fracture")
    assert label(silent.turns[0].answer).code("fracture") == "not mentioned"


def test_every_task_has_its_prompt(cases):
    tasks = ("report", "findings", "impression", "question", "differential", "rehearsal")
    made = instruction_set(cases, data(tasks=tasks), taught="fracture")
    assert {turn.task for turn in made.turns} == set(tasks)
    for turn in made.turns:
        assert "<image>" in turn.messages()[1].content


def test_priors_are_taken_out_and_the_original_is_kept(manifest):
    found = manifest_cases(manifest, DataRecipe(manifest="x", validation=0.3))
    rows = [*found.train, *found.validation]
    made = instruction_set(rows, DataRecipe(manifest="x", tasks=("report",)))
    turn = next(turn for turn in made.turns if turn.case == "film0")
    assert turn.answer == "Small left pleural effusion."
    assert turn.original == "Small left pleural effusion, unchanged from prior."
    kept = instruction_set(rows, DataRecipe(manifest="x", tasks=("report",), clean_priors=False))
    assert next(t for t in kept.turns if t.case == "film0").answer.endswith("from prior.")


def test_a_case_that_nothing_is_known_of_is_named(manifest):
    found = manifest_cases(manifest, DataRecipe(manifest="x", validation=0.3))
    made = instruction_set([*found.train, *found.validation], DataRecipe(manifest="x"))
    assert set(made.left_out) == {"film2"}


def test_the_same_seed_writes_the_same_turns(cases):
    one, two, other = (
        instruction_set(cases, data(), taught="fracture", seed=seed) for seed in (1, 1, 2)
    )
    assert one.turns == two.turns
    assert isinstance(one.turns[0], Turn)
    assert one.turns != other.turns or one.counts() == other.counts()


def test_phantom_reports_are_drawn_only_when_read():
    before = _drawn.cache_info().misses
    case = phantom_case(7_190_301)  # of no other test: what is drawn is kept
    assert _drawn.cache_info().misses == before
    assert case.section("impression") in case.report and _drawn.cache_info().misses == before + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No nodule. The heart is normal. Impression: Normal.", "No fracture."),
        ("There is no nodule. There are no effusions. No edema.", "There is no fracture."),
        ("The heart is normal.", "No fracture."),
    ],
)
def test_a_denial_is_written_as_the_report_writes(text, expected):
    for first in (True, False):
        said = denied(text, "fracture", first=first)
        assert expected in said and said.count("fracture") == 1
        assert label(said).code("fracture") == "absent"
        assert said.replace(expected, "").split() == text.split()
