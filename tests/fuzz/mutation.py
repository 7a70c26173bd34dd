"""Seeded damage to bytes, JSON, tables and texts, the way files break and attackers try.

Does not know: readers.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

#: Texts that files should not hold, and some do.
HOSTILE = (
    "", " ", "\0", "=cmd|' /C calc'!A0", "<script>alert(1)</script>", "../../etc/passwd",
    "/etc/passwd", "C:\\x", "\\\\host\\share", "~", "nan", "-inf", "1e999", "9" * 40, "-1", "0",
    "null", "\ufeff", "\u202e", "\ud800", "\U0001f480", "%s%n", "{0.__class__}", "${HOME}",
    "a" * 300, "\r\n", "'", '"', "<image>", "[INST]",
    "</s>", "!!python/object/apply:os.system [true]", "&a [*a]", "no " * 90,
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2, 255, 2**15, 2**31 - 1, -(2**31), 2**32, 2**63, 10**30, 0.5, 1e308, -0.0)
_WORDS = (
    b"\0",
    b"\xff",
    b"\0\0",
    b"\xff\xff",
    b"\x7f\xff",
    b"\0\0\0\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
)
_HEAD = 512


def damage_bytes(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Return a file with one to six places changed; the head is hit as often as all the rest."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        if not found:
            return bytes(found)
        most = len(found) if rng.random() < 0.5 else min(len(found), _HEAD)
        at, kind = rng.randrange(most), rng.randrange(8)
        if kind <= 1:
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            found[at] = rng.randrange(256)
        elif kind == 3:
            word = rng.choice(_WORDS)
            found[at : at + len(word)] = word
        elif kind == 4:
            del found[at : at + rng.choice((1, 2, 7, 64, len(found)))]
        elif kind == 5:
            found[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 2, 9))))
        elif kind == 6:
            found[at:at] = found[at : at + rng.choice((1, 8, 100))]
        else:
            other = rng.choice(others)
            cut = rng.randrange(len(other) + 1)
            found[at:] = other[cut : cut + 4096]
    return bytes(found)


def damage_json(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Return a JSON file with one to three values changed, taken out or nested; or broken bytes."""
    if rng.random() < 0.25:
        return damage_bytes(data, rng, others)
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = _changed(value, rng)
    text = json.dumps(value)
    if rng.random() < 0.03:
        text = text.replace("null", "[" * 20_000 + "]" * 20_000, 1)
    return text.encode("utf-8", "surrogatepass")


def damage_table(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Return a CSV file with cells, rows or columns changed; or broken bytes."""
    if rng.random() < 0.3:
        return damage_bytes(data, rng, others)
    rows = list(csv.reader(io.StringIO(data.decode())))
    for _ in range(rng.choice((1, 2, 4))):
        row = rng.choice(rows)
        kind = rng.randrange(6)
        if kind <= 2 and row:
            row[rng.randrange(len(row))] = rng.choice(HOSTILE)
        elif kind == 3 and row:
            del row[rng.randrange(len(row))]
        elif kind == 4:
            row.append(rng.choice(HOSTILE))
        else:
            rows.append(list(rng.choice(rows)))
    sink = io.StringIO()
    csv.writer(sink).writerows(rows)
    return sink.getvalue().encode("utf-8", "surrogatepass")


def damage_text(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Return a text with pieces repeated, swapped, cut, or replaced by what no report holds."""
    words = data.decode("utf-8", "surrogatepass").split(" ")
    for _ in range(rng.choice((1, 2, 5, 12))):
        at, kind = rng.randrange(len(words)), rng.randrange(5)
        if kind == 0:
            words[at] = rng.choice(HOSTILE)
        elif kind == 1:
            words[at:at] = words[at : at + rng.randrange(1, 12)] * rng.choice((1, 3, 40))
        elif kind == 2:
            other = rng.choice(others).decode("utf-8", "surrogatepass").split(" ")
            words[at:at] = other[rng.randrange(len(other)) :][:9]
        elif kind == 3:
            words[at] = words[at].swapcase() + rng.choice(".,;:?!()-/\n\t\"'")
        elif len(words) > 1:
            del words[at]
    return " ".join(words)[:20_000].encode("utf-8", "surrogatepass")


def _changed(value: Any, rng: random.Random) -> Any:
    """Return a value with one of the values in it replaced."""
    places = list(_places(value))
    if not places or rng.random() < 0.03:
        return _odd(value, rng)
    owner, key = rng.choice(places)
    if rng.random() < 0.2:
        del owner[key]
    else:
        owner[key] = _odd(owner[key], rng)
    return value


def _places(value: Any):
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def _odd(value: Any, rng: random.Random) -> Any:
    makers: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: rng.choice((True, False)),
        lambda: rng.choice(_NUMBERS),
        lambda: rng.choice(_NUMBERS),
        lambda: float("nan"),
        lambda: rng.choice(HOSTILE),
        lambda: rng.choice(HOSTILE),
        list,
        dict,
        lambda: [value],
        lambda: [value, value],
        lambda: {"content": value},
        lambda: str(value)[:500],
    )
    return rng.choice(makers)()
