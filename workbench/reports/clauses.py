"""A clause divided into parts, and how far each cue reaches in it.

A clause is joined of parts: "No effusion, pneumothorax or edema, cardiomegaly unchanged" has four.
Parts are a list as long as they are bare names. A part is a statement of its own where it begins
with an article or a size, has a cue of its own, or a state of its own behind the name
("unchanged", "is moderate", "in place", "persists"). A cue reaches forwards through a list up to
the next statement of its own, and backwards from a predicate over the list that is its subject.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from workbench.findings import DEVICE
from workbench.reports.lexicon import SIGNS, Cue, Lexicon, Mention, covered, find_cues

#: Joints over which no list goes.
_APART = ("colon", "dash", "bracket", "bar")
_GROUPS = ("or", "stop", "list", "colon", "bracket", "dash", "slash", "bar")


class Part(NamedTuple):
    """The text behind one joint of a clause, up to the next one."""

    kind: str
    joint: int
    start: int
    end: int


class Clause:
    """The parts, cues and mentions of one clause; `found` are all mentions, by position."""

    def __init__(self, text: str, lexicon: Lexicon, found: list[Mention]) -> None:
        self.text = text
        self.lexicon = lexicon
        self.grammar = lexicon.grammar
        self.cues = find_cues(text, lexicon, found)
        self.mentions = found
        elsewhere = [mention for mention in found if self._elsewhere(mention)]
        self.mentions = [mention for mention in found if mention not in elsewhere]
        #: Devices that only say whose finding it is: "fracture of the lead", "lead fracture".
        self.owners = [
            mention
            for mention in self.mentions
            if mention.finding == DEVICE and any(self._owns(mention, o) for o in elsewhere)
        ]

    @cached_property
    def parts(self) -> list[Part]:
        """The parts of the clause, in order."""
        taken = covered(self.text, (*self.mentions, *self.cues))
        joints: list[tuple[str, int, int]] = []
        for match in self.lexicon.joint.finditer(self.text):
            start, end = match.span()
            if any(taken[start:end]) or self._adjectives(start):
                continue
            kind = match.lastgroup if match.lastgroup in _GROUPS else "list"
            if joints and not self.text[joints[-1][2] : start].strip():
                kind = joints[-1][0] if kind in ("list", "bracket") else kind
                joints[-1] = (kind, joints[-1][1], end)
            else:
                joints.append((kind, start, end))
        marks = [("start", 0, 0), *joints, ("end", len(self.text), len(self.text))]
        return [
            Part(kind, joint, start, after[1]) for (kind, joint, start), after in pairwise(marks)
        ]

    def _adjectives(self, comma: int) -> bool:
        """Say whether only adjectives stand between a cue and a comma: "no acute, large ..."."""
        number = bisect_right(self.cues, comma, key=attrgetter("end"))
        before = self.cues[number - 1].end if number else comma
        return self.grammar["adjective"].fullmatch(self.text, before, comma) is not None

    def part(self, position: int) -> int:
        """Return the number of the part that a position lies in."""
        return max(bisect_right(self.parts, position, key=attrgetter("start")) - 1, 0)

    def _elsewhere(self, mention: Mention) -> bool:
        """Say whether a phrase names a finding of another organ: "humeral lesion"."""
        pattern = self.lexicon.elsewhere.get(mention.finding)
        if pattern is None or mention.fixed:
            return False
        low = max(mention.start - 60, 0)
        if pattern.search(self.text, low, mention.start):
            ends = self.grammar["phrase_end"].finditer(self.text, low, mention.start)
            low = max(
                [low, *(match.end() for match in ends)]
                + [m.end for m in self.mentions if m.end <= mention.start and m.finding != DEVICE]
            )
            if pattern.search(self.text, low, mention.start):
                return True
        place = self.grammar["place"].match(self.text, mention.end)
        return bool(place and pattern.match(self.text, place.end()))

    def _owns(self, device: Mention, other: Mention) -> bool:
        if device.end <= other.start:
            return not self.grammar["phrase_end"].search(self.text, device.end, other.start)
        place = self.grammar["place"].match(self.text, other.end)
        return bool(place) and other.end < device.start <= place.end()

    def first(
        self, mention: Mention, *kinds: str, forward: bool | None = None, near: bool = False
    ) -> Cue | None:
        """Return the nearest cue of some kinds, or one direction, that reaches a mention.

        `near`: only where nothing but "or" stands between.
        """
        cues = [cue for cue in self.cues if cue.kind in kinds and forward in (None, cue.forward)]
        apart = {
            cue: mention.start - cue.end if cue.forward else cue.start - mention.end for cue in cues
        }
        for cue in sorted(cues, key=lambda cue: (apart[cue], not cue.forward)):
            reaches = self._reaches_on if cue.forward else self._reaches_back
            if apart[cue] >= 0 and reaches(cue, mention, near):
                return cue
        return None

    def inside(self, mention: Mention, *kinds: str) -> Cue | None:
        """Return a cue of some kinds that lies within the words of a mention."""
        within = (c for c in self.cues if mention.start <= c.start and c.end <= mention.end)
        return next((cue for cue in within if cue.kind in kinds), None)

    def _reaches_on(self, cue: Cue, mention: Mention, near: bool) -> bool:
        """Say whether a cue reaches a mention behind it."""
        if self._is_answer(cue) and self._answers_between(cue.end, mention.start):
            return False
        first, last = self.part(cue.start) + 1, self.part(mention.start)
        between = self.parts[first : last + 1]
        if any(self._own[number] for number in range(first, last + 1)) and not (
            cue.kind == "possibilities" and self._sizes_only(first, last)
        ):
            return False
        if mention.finding == DEVICE and self.grammar["attendant"].search(
            self.text, cue.end, mention.start
        ):
            return False
        if any(self._closed(cue, number) for number in range(first, last + 1)):
            return False
        if near and any(part.kind not in ("or", "slash") for part in between):
            return False
        if cue.kind == "doubt":
            ended = next((n for n, part in enumerate(between) if part.kind == "list"), None)
            return ended is None or any(part.kind == "or" for part in between[ended:])
        return True

    def _closed(self, cue: Cue, number: int) -> bool:
        """Say whether the statement of a cue has ended in front of a part with its own verb."""
        part, finite = self.parts[number], self.grammar["finite"]
        if part.kind == "or" or not finite.search(self.text, cue.end, part.joint):
            return False
        return any(
            finite.search(self.text, mention.end, part.end)
            for mention in self._in(number)
            if not mention.fixed
        )

    def _in(self, number: int) -> list[Mention]:
        """Return the mentions that begin in a part."""
        part = self.parts[number]
        return [mention for mention in self.mentions if part.start <= mention.start < part.end]

    @cached_property
    def _own(self) -> list[bool]:
        """Whether each part is a statement of its own."""
        return [self._is_own(number) for number in range(len(self.parts))]

    def _is_own(self, number: int) -> bool:
        part = self.parts[number]
        if part.kind in ("stop", "start", "bar") or self._begins_anew(number):
            return True
        found = self._in(number)
        if not found:
            return False
        cues = [cue for cue in self.cues if part.start <= cue.start < part.end]
        if any(self._governs(cue, part, found[0]) for cue in cues):
            return True
        if part.kind == "list" and self._is_apart(number, found[0]):
            return True
        return part.kind in ("list", "bracket", "dash") and self._has_state(part, found)

    def _is_apart(self, number: int, named: Mention) -> bool:
        """Say whether a device, or a name and its side, follows a bare comma and no "or" comes."""
        part = self.parts[number]
        if self._joint(part) != "," or self._or_follows(number):
            return False
        listed = bool(self._alternatives) and self.parts[self._alternatives[0]].kind == "or"
        if named.finding == DEVICE or listed:
            return True
        place = self.grammar["place"].match(self.text, named.end)
        sides = self.lexicon.attributes["side"]
        return bool(place) and any(
            sides[side].search(self.text, named.end, part.end)
            for side in ("left", "right")
            if side in sides
        )

    def _sizes_only(self, first: int, last: int) -> bool:
        """Say whether parts are statements for no more than a size behind "and"."""
        return all(
            not self._own[number]
            or (self._joint(self.parts[number]) != "," and self._begins_anew(number) == "size")
            for number in range(first, last + 1)
        )

    def _joint(self, part: Part) -> str:
        """Return the words that join a part to the one in front of it."""
        return self.text[part.joint : part.start].strip()

    def _begins_anew(self, number: int) -> str | None:
        """Return "article" or "size" where a part begins with one; of a size no "or" may follow."""
        part = self.parts[number]
        if part.kind != "list":
            return None
        match = self.grammar["new_statement"].search(self.text, part.joint, part.end)
        if match and match.start() < part.start:
            return "article"
        match = self.grammar["new_measured"].search(self.text, part.joint, part.end)
        if match is None or match.start() >= part.start or self._or_follows(number):
            return None
        return "size"

    def _or_follows(self, number: int) -> bool:
        return bool(self._alternatives) and number < self._alternatives[-1]

    @cached_property
    def _alternatives(self) -> list[int]:
        """The numbers of the parts that "or" or "/" joins."""
        return [n for n, part in enumerate(self.parts) if part.kind in ("or", "slash")]

    def _governs(self, cue: Cue, part: Part, named: Mention) -> bool:
        """Say whether a cue makes the part it stands in a statement of its own."""
        if cue.forward:
            if cue.start >= named.start:
                return False
            if cue.kind in ("negation", "asking", "affirmation"):
                return True
            lead = self.text[part.start : cue.start].split()
            if all(self.grammar["auxiliary"].fullmatch(word) for word in lead):
                return True
            return part.kind != "or" and bool(
                self.grammar["finite"].search(self.text, part.start, cue.end)
            )
        if part.kind == "or":
            return cue.kind == "affirmation"
        return part.joint < part.start and (
            self._joint(part) == ","
            or self.grammar["finite"].search(self.text, cue.start, cue.end) is not None
        )

    def _has_state(self, part: Part, found: list[Mention]) -> bool:
        """Say whether a state stands behind the first name of a part, and no mere "is seen"."""
        start = found[0].end
        if found[0].fixed or self.grammar["state"].search(self.text, start, part.end):
            return True
        verb = self.grammar["finite"].search(self.text, start, part.end)
        return bool(verb) and not self.grammar["seen"].search(self.text, verb.end(), part.end)

    def _reaches_back(self, cue: Cue, mention: Mention, near: bool) -> bool:
        """Say whether a predicate has a mention in front of it as its subject."""
        if cue.kind in ("asking", "beside"):
            return not self.text[mention.end : cue.start].strip()
        finite = self.grammar["finite"]
        if finite.search(self.text, mention.end, cue.start):
            return False
        if self._is_answer(cue) and self._answers_between(mention.end, cue.start):
            return False
        first, last = self.part(mention.start), self.part(cue.start)
        if first == last:
            return True
        between = self.parts[first + 1 : last + 1]
        subjects = [m for m in self.mentions if m.start >= mention.end and m.end <= cue.start]
        lead = self.text[self.parts[last].start : cue.start].split()
        bare = not subjects and all(self.grammar["auxiliary"].fullmatch(word) for word in lead)
        if near or (
            any(part.kind == "stop" for part in between) and not (bare and cue.kind == "doubt")
        ):
            return False
        return (bare and between[-1].kind != "or") or self._joined(cue, mention, subjects)

    def _joined(self, cue: Cue, mention: Mention, subjects: list[Mention]) -> bool:
        """Say whether a mention is one of a list of subjects that a predicate ends.

        "A, B and C are not seen" is such a list. It is none where commas alone join it, where a
        part of it is a statement of its own, or where "and" follows a list that was ended.
        """
        first, last = self.part(mention.start), self.part(cue.start)
        here, numbers = self.parts[first], range(first + 1, last + 1)
        if any(self._begins_anew(n) or self.parts[n].kind in _APART for n in numbers):
            return False
        if self.grammar["verb"].search(self.text, here.joint, here.end):
            return False
        ahead = (c for c in self.cues if c.forward and c.kind != "nothing")
        if any(here.start <= c.start < cue.start for c in ahead):
            return False
        joints = [self._joint(self.parts[number]) for number in numbers]
        if self._is_answer(cue):
            return True
        if all(joint == "," for joint in joints):
            return False
        sizes = self.lexicon.any_value["severity"]
        if joints[0] == "," and sizes.search(self.text[here.start : mention.start]):
            return False
        if joints[-1].startswith(",") and any(joint != "," for joint in joints[:-1]):
            return False
        plural = self.grammar["plural"].search(self.text, cue.start, cue.end) is not None
        return plural or any(m.start >= self.parts[last].start for m in subjects)

    def _is_answer(self, cue: Cue) -> bool:
        """Say whether a cue is the answer of a template, which goes with the list before it."""
        return self.text[cue.start : cue.end].lstrip()[:1] in SIGNS

    def _answers_between(self, start: int, end: int) -> bool:
        return any(start <= cue.start < end and self._is_answer(cue) for cue in self.cues)

    def answer(self, mention: Mention) -> int | None:
        """Return where the answer begins to a mention that is the heading of a template."""
        rest = self.parts[self.part(mention.start) + 1 :]
        if not rest or rest[0].kind not in ("colon", "dash"):
            return None
        return rest[0].start if not self.text[mention.end : rest[0].joint].strip() else None

    def opening(self, start: int) -> Cue | None:
        """Return the negation or doubt that a statement begins with."""
        kinds = ("negation", "doubt", "possibilities")
        cue = next((c for c in self.cues if c.kind in kinds and c.start >= start), None)
        return cue if cue and not self.text[start : cue.start].strip() else None

    def modifiers(self, mention: Mention, start: int) -> str:
        """Return the words right in front of a mention, from the last comma or "and" on."""
        breaks = list(self.grammar["separator"].finditer(self.text, start, mention.start))
        return self.text[breaks[-1].end() if breaks else start : mention.start]
