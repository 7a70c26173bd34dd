"""What the numbers must reach, and whether they did.

Does not know: how they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """One requirement.

    Attributes:
        name: what is required, in words.
        section: that measures it.
        value: takes the section's result and the clock, and returns the number.
        limit: to reach.
        least: True where more is better.
        percent: shown as a share.
    """

    name: str
    section: str
    value: Callable[[Mapping, str], float]
    limit: float
    least: bool = True
    percent: bool = False


BARS = (
    Bar(
        "8 questions on one image, times faster than recomputing image and prompt",
        "questions",
        lambda found, clock: found["recomputed_over_together"][clock],
        5.0,
    ),
    Bar(
        "16 reports together, times the rate of the published way",
        "batch",
        lambda found, clock: found["published_over_batched"][clock],
        2.0,
    ),
    Bar(
        "16 reports together, times the engine's own rate one after the other",
        "batch",
        lambda found, clock: found["sequential_over_batched"][clock],
        2.0,
    ),
    Bar(
        "decoding of 16 rows together, times the rate of one",
        "batch",
        lambda found, clock: found["decoding_rate"],
        2.0,
    ),
    Bar(
        "a step of `mini`, times faster than transformers' generate",
        "mini_step",
        lambda found, clock: found["generate_over_ours"][clock],
        2.0,
    ),
    Bar(
        "share of the memory bandwidth that decoding one text reaches",
        "report",
        lambda found, clock: found["bandwidth_fraction"][clock],
        0.6,
        percent=True,
    ),
    Bar(
        "grounding with 6 ablated images, first radiograph, times faster than six passes",
        "grounding",
        lambda found, clock: found["separate_over_first"][clock],
        1.5,
    ),
    Bar(
        "the same for every further radiograph",
        "grounding",
        lambda found, clock: found["separate_over_next"][clock],
        1.5,
    ),
    Bar(
        "time that recording attention adds",
        "capture",
        lambda found, clock: found["added_by_record"][clock],
        0.25,
        least=False,
        percent=True,
    ),
    Bar(
        "time that the run store adds to the bare loop",
        "runs",
        lambda found, _: found["overhead"]["wall"],
        0.03,
        least=False,
        percent=True,
    ),
    Bar(
        "time of a late study over that of an early one, turn about",
        "runs",
        lambda found, _: abs(found["long"]["drift"]),
        0.02,
        least=False,
        percent=True,
    ),
    Bar(
        "growth of memory over a long run",
        "runs",
        lambda found, clock: found["long"]["memory_growth"],
        0.05,
        least=False,
        percent=True,
    ),
)


def judged(sections: Mapping[str, Mapping], clock: str) -> list[dict]:
    """Return name, value, limit and verdict of every bar whose section was measured.

    Args:
        sections: what was measured.
        clock: "wall" or "cpu".
    """
    rows = []
    for bar in BARS:
        found = sections.get(bar.section)
        if found is None or "error" in found:
            continue
        value = bar.value(found, clock)
        ok = value >= bar.limit if bar.least else value <= bar.limit
        sign = ">=" if bar.least else "<="
        form = "{:.1%}" if bar.percent else "{:.2f}"
        rows.append(
            {
                "name": bar.name,
                "section": bar.section,
                "value": value,
                "limit": bar.limit,
                "shown": form.format(value),
                "wanted": f"{sign} {form.format(bar.limit)}",
                "ok": ok,
            }
        )
    return rows


def table(rows: list[dict]) -> str:
    """Return the verdicts as text for a terminal."""
    width = max((len(row["name"]) for row in rows), default=0)
    return "\n".join(
        f"{'ok  ' if row['ok'] else 'MISS'} {row['name']:<{width}}  {row['shown']:>8}  "
        f"({row['wanted']})"
        for row in rows
    )
