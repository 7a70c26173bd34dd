"""The labeler reads every phantom text without one error: the two are checked by each other."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.findings import PHANTOM_FINDINGS, SEVERITIES, SIDES, ZONES
from workbench.phantom.scene import Lesion, draw_findings, sample_lesions
from workbench.phantom.wording import questions, write_report
from workbench.phantom.wording.report import GRADED, ZONED
from workbench.reports import label

CHANCE = 0.4
DEVICES = ("pacemaker", "central venous catheter", "endotracheal tube")


def wild_lesions(rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Any combination, more than the sampler draws: every side and zone, taken or not."""

    def pick(*values):
        return values[rng.integers(len(values))]

    lesions = []
    for finding in PHANTOM_FINDINGS:
        if rng.random() > CHANCE:
            continue
        one_sided = finding in ("nodule", "support device", "pneumothorax")
        kind = {"support device": pick(*DEVICES), "atelectasis": pick("linear", "lobar")}
        lesions.append(
            Lesion(
                finding,
                side=None if finding == "cardiomegaly" else pick(*SIDES[: 2 if one_sided else 3]),
                zone=pick(*ZONES) if finding in ZONED else None,
                severity=None if finding == "support device" else pick(*SEVERITIES),
                kind=kind.get(finding),
                size_mm=float(rng.uniform(3, 95)) if finding == "nodule" else None,
            )
        )
    return tuple(lesions)


def drawn_lesions(rng: np.random.Generator) -> tuple[Lesion, ...]:
    domain = ("internal", "external")[rng.integers(2)]
    return sample_lesions(rng, draw_findings(rng, domain))


def truth(lesions) -> dict[str, tuple]:
    """finding -> (side, zone, severity) as the labeler should read them."""
    return {
        one.finding: (one.side, one.zone, one.severity if one.finding in GRADED else None)
        for one in lesions
    }


@pytest.mark.parametrize("sampler", [drawn_lesions, wild_lesions])
@pytest.mark.parametrize("domain", ["internal", "external"])
def test_reports_are_recovered_exactly(sampler, domain):
    for index in range(1500):
        rng = np.random.default_rng([11, index])
        lesions = sampler(rng)
        report = write_report(lesions, rng, domain)
        labels = label(report)
        stated = {
            row.finding: (row.side, row.zone, row.severity)
            for row in labels.rows
            if row.code == "present" and row.finding != "no finding"
        }
        assert stated == truth(lesions), report
        assert {row.code for row in labels.rows} <= {"present", "absent"}, report
        normal = not set(stated) - {"support device"}
        assert (labels.code("no finding") == "present") == normal, report
        for name in ("consolidation", "pleural effusion", "pneumothorax", "cardiomegaly"):
            assert labels.code(name) == ("present" if name in stated else "absent")


@pytest.mark.parametrize("sampler", [drawn_lesions, wild_lesions])
def test_answers_are_recovered_exactly_and_questions_state_nothing(sampler):
    for index in range(800):
        rng = np.random.default_rng([12, index])
        lesions = sampler(rng)
        present = set(truth(lesions))
        for q in questions(lesions, rng, n=6):
            labels = label(q.answer)
            stated = set(labels.present) - {"no finding"}
            assert stated <= present, q
            if q.text.endswith("?"):
                assert label(q.text).rows == (), q
            if q.kind == "existence":
                assert labels.code(q.finding) == ("present" if q.finding in present else "absent")
                assert q.answer.startswith("Yes, ") == (q.finding in present)
            elif q.kind == "normal":
                assert stated == present, q
                assert q.answer.startswith("Yes, ") == (not present)
            elif q.kind == "heart size":
                code = "present" if "cardiomegaly" in present else "absent"
                assert labels.code("cardiomegaly") == code
            elif q.kind == "false premise":
                assert labels.code(q.finding) == "absent", q


def test_side_and_severity_answers_are_read_back():
    for index in range(600):
        rng = np.random.default_rng([13, index])
        lesions = drawn_lesions(rng)
        expected = truth(lesions)
        for q in questions(lesions, rng, n=16, false_premise=False):
            if q.kind in ("side", "zone", "severity"):
                row = label(q.answer)[q.finding]
                at = ("side", "zone", "severity").index(q.kind)
                assert (row.side, row.zone, row.severity)[at] == expected[q.finding][at], q
