"""What the numbers must reach, and whether they did.

Does not know: how they were measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """One requirement.

    Attributes:
        name: what is required, in words.
        section: that measures it.
        value: where the section's result has the number, or one for each clock.
        limit: to reach.
        least: True where more is better.
        percent: shown as a share.
        either_way: the number counts without its sign.
    """

    name: str
    section: str
    value: str
    limit: float
    least: bool = True
    percent: bool = False
    either_way: bool = False


BARS = (
    Bar(
        "8 questions on one image, times faster than recomputing image and prompt",
        "questions",
        "recomputed_over_together",
        5.0,
    ),
    Bar(
        "16 reports together, times the rate of the published way",
        "batch",
        "published_over_batched",
        2.0,
    ),
    Bar(
        "16 reports together, times the engine's own rate one after the other",
        "batch",
        "sequential_over_batched",
        2.0,
    ),
    Bar(
        "decoding of 16 rows together, times the rate of one",
        "batch",
        "decoding_rate",
        2.0,
    ),
    Bar(
        "a step of `mini`, times faster than transformers' generate",
        "mini_step",
        "generate_over_ours",
        2.0,
    ),
    Bar(
        "share of the memory bandwidth that decoding one text reaches",
        "report",
        "bandwidth_fraction",
        0.6,
        percent=True,
    ),
    Bar(
        "grounding with 6 ablated images, first radiograph, times faster than six passes",
        "grounding",
        "separate_over_first",
        1.5,
    ),
    Bar(
        "the same for every further radiograph",
        "grounding",
        "separate_over_next",
        1.5,
    ),
    Bar(
        "time that recording attention adds",
        "capture",
        "added_by_record",
        0.25,
        least=False,
        percent=True,
    ),
    Bar(
        "time that the run store adds to the bare loop",
        "runs",
        "overhead",
        0.03,
        least=False,
        percent=True,
    ),
    Bar(
        "time of a late study over that of an early one, turn about",
        "runs",
        "long.drift",
        0.02,
        least=False,
        percent=True,
        either_way=True,
    ),
    Bar(
        "growth of memory over a long run",
        "runs",
        "long.memory_growth",
        0.05,
        least=False,
        percent=True,
    ),
)


def judged(sections: Mapping[str, Mapping], clock: str) -> list[dict]:
    """Return name, value, limit and verdict of every bar whose section was measured.

    "rounds" has the least and the greatest of the rounds, where there are several.

    Args:
        sections: what was measured.
        clock: "wall" or "cpu".
    """
    rows = []
    for bar in BARS:
        found = sections.get(bar.section)
        if found is None or "error" in found:
            continue
        value, between = _read(found, bar, clock)
        value = abs(value) if bar.either_way else value
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
                "rounds": " to ".join(map(form.format, between)),
                "wanted": f"{sign} {form.format(bar.limit)}",
                "ok": ok,
            }
        )
    return rows


def _read(found: Mapping, bar: Bar, clock: str) -> tuple[float, Sequence[float]]:
    """Return the number of a bar, and the least and the greatest of its rounds where they differ.

    What is waited for counts on the wall.
    """
    for name in bar.value.split("."):
        found = found[name]
    if not isinstance(found, Mapping):
        return found, ()
    clock = "wall" if bar.section == "runs" else clock
    low, high = found.get("range", {}).get(clock, (0, 0))
    return found[clock], (low, high) if low != high else ()


def table(rows: list[dict]) -> str:
    """Return the verdicts as text for a terminal."""
    width = max((len(row["name"]) for row in rows), default=0)
    return "\n".join(
        f"{'ok  ' if row['ok'] else 'MISS'} {row['name']:<{width}}  {row['shown']:>8}  "
        f"({row['wanted']}{'; rounds ' if row['rounds'] else ''}{row['rounds']})"
        for row in rows
    )
