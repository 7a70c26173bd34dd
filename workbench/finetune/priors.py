"""References to earlier studies, taken out of reports that one image is learned from.

"Small effusion, unchanged from prior" teaches a model to compare with an image it never sees. Each
sentence that compares is said again without the comparison. Phrases that only compare ("since the
prior exam", ", which is unchanged") go; of a clause whose verb compares only the subject is said:
"The effusion has increased." becomes "There is an effusion.", "Interval removal of the chest tube."
becomes "No chest tube.". That stands only where the labeler reads the same findings in it, on the
same sides, and no other word with a meaning of its own is lost, nor a denial: this guards findings
that the labeler does not know. Else fewer words are taken out, and where nothing can go, the
sentence stays. Words and phrases are in `prior_patterns.yaml`.

Rules: those of `workbench.hallucination.text_checks` ("prior comparison"). English only.
Paper: Ramesh, Chi and Rajpurkar, Improving Radiology Report Generation Systems by Removing
Hallucinated References to Non-existent Priors, ML4H 2022, arXiv 2210.06340. Deviation: rules here,
a rewriting language model there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import takewhile

from workbench._store import read_yaml
from workbench.hallucination.text_checks import PRIOR
from workbench.reports import divide, label, sentences

PATTERNS = read_yaml("workbench.finetune", "prior_patterns.yaml")


def filled(text: str) -> str:
    """Return a pattern in one line, with the patterns that it names."""
    joined = text.replace("\n", "")
    return re.sub(r"\{([A-Z_]+)\}", lambda match: filled(PATTERNS[match[1]]), joined)


@cache
def rule(name: str) -> re.Pattern[str]:
    """Return a pattern of the file, with the patterns that it names, compiled."""
    return re.compile(filled(PATTERNS[name]), re.IGNORECASE)


_EMPTY_WORDS = frozenset(PATTERNS["EMPTY"].split())
_ANATOMY = frozenset(PATTERNS["BODY"].split())
HEAD_END = re.compile(filled(PATTERNS["HEAD_END"]))
PREDICATES = [re.compile(filled(one), re.IGNORECASE) for one in PATTERNS["PREDICATES"]]
REMAINS = [(re.compile(filled(find), re.IGNORECASE), said) for find, said in PATTERNS["REMAINS"]]
ADVERB, STATE, TURN = map(filled, ("{ADVERB}", "{STATE}", "{TURN}"))
_NAME = re.compile(
    r"\w+-[A-Z]|(?:Dob+hoff|Hickman|Kerley|Swan|Quinton|Impella|Ghon|Foley|Harrington|Morgagni|"
    r"Bochdalek|Chilaiditi|Pancoast|Hampton|Tesio|Groshong|Broviac|Permcath|Mediport)\b"
)
_QUALITY = re.compile(
    r"(?:\w(?:al|ar|ic|ous|ary)|left|right|upper|lower|middle|ed)$", re.IGNORECASE
)
_SHORT_NOT = re.compile(r"\b(has|have|is|are|was|were)n['\u2019]t\b", re.IGNORECASE)


@dataclass(frozen=True)
class Cleaned:
    """What is left of a report, and the sentences that were said again or taken out, in order."""

    text: str
    original: str
    removed: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was taken out."""
        return bool(self.removed)


def clean_priors(text: str) -> Cleaned:
    """Take references to earlier studies out of a report or a section.

    Every finding keeps its code; what has resolved or was removed is denied. A comparison that
    cannot be taken out without losing a finding stays.

    >>> wb.finetune.clean_priors("Unchanged small left pleural effusion.").text
    'Small left pleural effusion.'
    """
    removed, changed, last = [], [], 0
    for start, end, heading in _pieces(text):
        before = text[start:end]
        after = before if heading else _cleaned(before)
        if after != before:
            removed.append(before)
        changed.append((text[last:start], after, heading))
        last = end
    kept = _assembled(changed) if removed else text
    if kept == text or _read(kept) != _read(text):
        return Cleaned(text, text)
    return Cleaned(kept, text, tuple(removed))


@lru_cache(maxsize=4096)
def _read(text: str) -> dict[str, tuple[str, str | None]]:
    return {row.finding: (row.code, row.side) for row in label(text).rows}


def _pieces(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yield the place of every heading and sentence, and whether it is a heading."""
    for section in divide(text):
        heading = text[section.start : section.body].strip()
        if heading:
            start = text.index(heading, section.start)
            yield start, start + len(heading), True
        for piece in sentences(text[section.body : section.end]):
            yield section.body + piece.start, section.body + piece.end, False


def _cleaned(sentence: str) -> str:
    """Return a sentence without its comparison, empty where it only compares."""
    if not _comparisons(sentence):
        return sentence
    number = re.match(r"(?:\(?\d{1,2}[.)]|[-*\u2022])\s+", sentence)
    lead = number.group() if number else ""
    body = sentence[len(lead) :]
    best, fewest = None, _comparisons(body)
    for candidate in _rephrased(body):
        left = _comparisons(candidate)
        if left < fewest and _stands(candidate, body):
            best, fewest = candidate, left
            if not left:
                break
    if best is not None:
        return f"{lead}{best}" if best else ""
    return sentence if _read(body) or not (_only_compares(body) and _keeps("", body)) else ""


def _stands(text: str, original: str) -> bool:
    """Return whether a text is English and says the same as another."""
    return _is_english(text, original) and _keeps(text, original) and _read(text) == _read(original)


def _assembled(pieces: list[tuple[str, str, bool]]) -> str:
    """Join gaps and texts; a heading that nothing follows any more goes with what followed."""
    text = ""
    for number, (gap, said, heading) in enumerate(pieces):
        behind = takewhile(lambda piece: not piece[2], pieces[number + 1 :])
        following = [other for _, other, _ in behind]
        if said and not (heading and following and not any(following)):
            text += (gap or " ") + said if text else said
    return text.strip()


@lru_cache(maxsize=4096)
def _comparisons(text: str) -> int:
    """Count the words of a text that compare with an earlier study."""
    return sum(1 for sentence in sentences(text) for _ in PRIOR.found_in(sentence.text))


def _rephrased(sentence: str) -> Iterator[str]:
    """Yield ways to say a sentence without comparing, the most thorough first."""
    plain = _SHORT_NOT.sub(r"\1 not", " ".join(sentence.split()).rstrip(" ."))
    bare = rule("WITHIN").sub("", rule("LEAD").sub("", plain))
    yield " ".join(filter(None, (_said(clause, bare != plain) for clause in _clauses(bare))))
    yield _said(plain, True)
    yield _ended(bare)
    yield _ended(_inline(plain))
    yield _ended(rule("ASIDES").sub("", plain))


def _clauses(text: str) -> list[str]:
    """Divide a sentence before every part that has a subject and a verb or state of its own."""
    if though := rule("THOUGH").match(text):
        return [*_clauses(though[1]), *_clauses(though[2])]
    alike = rule("ALIKE").match(text) or rule("ALIKE_FIRST").match(text)
    if alike and rule("COMPARING").search(alike["first"]):
        state = "no longer seen" if _calls_gone(alike["first"]) else "unchanged"
        parts = [*_clauses(alike["first"]), f"{alike['other']} is {state}"]
        return parts if alike.re is rule("ALIKE") else parts[::-1]
    for match in rule("SPLIT").finditer(text):
        left, right = text[: match.start()], text[match.end() :]
        whole = rule("VERB").search(left) or re.match(r"no\b|without\b", left, re.IGNORECASE)
        if ";" in match.group() and (not _content(left) or _calls_gone(left)):
            return [left, *_clauses(right)]
        whole = whole or ";" in match.group() or re.search(rf"\b{STATE}$", left, re.IGNORECASE)
        if whole and rule("NEW_CLAUSE").match(right) and not re.match(ADVERB + STATE, right, re.I):
            return [left, *_clauses(right)]
    return [text]


def _said(clause: str, compared: bool) -> str:
    """Return a clause without its comparison as a sentence, empty where it only compares."""
    if not (compared or _comparisons(clause)):
        return _ended(clause)
    if _only_compares(clause) and _keeps("", clause) and _read(clause) == {}:
        return ""
    ways = [way for way in _ways(clause) if _stands(way, clause)]
    return min(ways, key=_comparisons, default=_ended(clause))


def _ways(clause: str) -> Iterator[str]:
    """Yield what a clause can say without its comparison."""
    inner = _inline(clause)
    if match := rule("NOW_DEGREE").match(clause):
        yield from (_graded(way, match["degree"]) for way in _ways(match["first"]))
    if match := rule("AND_THEN").match(clause):
        subject = match["subject"]
        be = "are " if " and " in subject or _plural(_bare(subject)) else "is "
        yield _ended(_inline(f"{subject} {match['verb'] or be}{match['rest']}"))
    if any(pattern.search(clause) for pattern, _ in REMAINS) and not _comparisons(inner):
        yield _ended(inner)
    for text in dict.fromkeys((clause, rule("ASIDES").sub("", clause), inner)):
        if match := rule("FIRST").match(text):
            yield _there(match["subject"] or match["other"])
        for pattern in PREDICATES:
            if match := pattern.match(text):
                subject = _inline(rule("ONLY").sub("", match["subject"]))
                rest = re.sub(r"^,? (?:now )?", "", match["rest"])
                if _calls_gone(clause):
                    both = pattern.pattern.startswith("^(?:(?:there") and " with " in subject
                    if not (both or rule("STILL_THERE").search(clause)):
                        yield _none(subject, _inline(rest))
                else:
                    if re.match(r"(?:there (?:is|are|has been|have been) )?no\b", text, re.I):
                        subject = subject.replace(" or ", " and ")
                    yield _there(subject, _inline(rest, keep_new=True))
    yield _ended(inner)
    yield _ended(_inline(clause, keep_new=True))
    yield ""


def _inline(text: str, keep_new: bool = False) -> str:
    """Take words and asides that compare out of a clause."""
    text = rule("WITHIN").sub("", rule("LEAD").sub("", text))
    text = rule("ASIDES").sub("", text)
    for pattern, said in REMAINS:
        text = pattern.sub(said, text)
    text = rule("TIMES").sub("", text)
    text = rule("ATTRIBUTES").sub(
        lambda match: match.group() if keep_new and "new" in match.group().lower() else "", text
    )
    text = re.sub(r"\s+,", ",", re.sub(r"\s{2,}", " ", text)).strip(" ,")
    return re.sub(r"\b([Aa])n? (\w+)", lambda m: f"{m[1]}{_article(m[2])[1:]} {m[2]}", text)


def _there(subject: str, rest: str = "") -> str:
    """Return the sentence that a thing is there."""
    parts = re.split(r"(,? and |, )", subject)
    single = " " not in _bare(parts[0]) and _plural(subject)
    if len(parts) > 1 and (single or _QUALITY.search(parts[0])):
        parts = [subject]  # "monitoring and support devices", "hilar and mediastinal adenopathy"
    elif not HEAD_END.search(subject) and any(
        rule("NO_THING").search(part) for part in parts[2::2]
    ):
        return ""
    first = _bare(parts[0])
    thing = not rule("NO_THING").search(_head(first)) or rule("ABNORMAL").search(first)
    if not first or not thing or re.search(rf"\b{TURN} (?:of|in)\b", subject):
        return ""
    marks = ["", *parts[1::2]]
    said = "".join(
        mark + (part if mark == ", " else _with_article(part))
        for mark, part in zip(marks, parts[::2], strict=True)
    )
    return _ended(f"there {'are' if _plural(first) else 'is'} {said} {rest.strip()}")


def _graded(said: str, degree: str) -> str:
    """Return "There is edema." as "There is moderate edema."."""
    match = re.fullmatch(r"(There (?:is|are)) (?:an? )?(.+)", said)
    if not match:
        return ""
    article = "a " if re.match(r"There is an? ", said) else ""
    return f"{match[1]} {article}{degree} {match[2]}"


def _none(subject: str, rest: str = "") -> str:
    """Return the sentence that a thing is not there."""
    if rule("NO_THING").search(_head(_bare(subject))) or re.search(rf"\b{TURN} of\b", subject):
        return ""
    bare = [_bare(part) for part in re.split(r",? and |, ", subject)]
    if not all(bare) or any(rule("COUNTED").match(part) for part in bare):
        return ""
    if rest and not re.match(r"(?:in|at|on|over|along|within|of)\b", rest):
        return ""
    return _ended(f"no {' or '.join(bare)} {rest}")


def _bare(words: str) -> str:
    words = rule("ARTICLE").sub("", words.strip())
    known = words[:1].isupper() and words[1:2].islower() and not _NAME.match(words)
    return words[:1].lower() + words[1:] if known else words


def _head(words: str) -> str:
    return HEAD_END.split(words)[0]


def _plural(words: str) -> bool:
    head = _head(words).split()[-1].lower()
    return head.endswith(("ces", "s", "ae")) and not head.endswith(("ss", "is", "us", "gas"))


def _with_article(words: str) -> str:
    bare = _bare(words)
    if not bare or _plural(bare) or rule("COUNTED").match(bare) or rule("MASS").search(_head(bare)):
        return bare
    return f"{_article(bare.split()[0])} {bare}"


def _article(word: str) -> str:
    if len(word) > 1 and word[:2].isupper():
        return "an" if word[0] in "AEFHILMNORSX" and not word.startswith("PICC") else "a"
    vowel = word[:1].lower() in "aeiou" and not re.match(r"uni(?!n)|us|eu|one", word, re.IGNORECASE)
    return "an" if vowel or re.match(r"8|11|18|hour|honest", word) else "a"


def _ended(text: str) -> str:
    text = text.strip(" ,;:.")
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _keeps(text: str, original: str) -> bool:
    """Return whether a text has every word with a meaning of another, and denies as often.

    Names of anatomy alone may go: nothing is said of them but that they are as they were.
    """
    still = rule("STILL_THERE")
    if rule("GONE").search(text) and still.search(original) and not still.search(text):
        return False
    lost = _content(original) - _words(text)
    return lost <= _ANATOMY and _denials(text) == _denials(original)


@lru_cache(maxsize=4096)
def _content(text: str) -> frozenset[str]:
    """Return the words of a text that do not compare, in lower case."""
    bare = rule("WITHIN").sub(" ", rule("LEAD").sub("", text.rstrip(" .")))
    return _words(rule("COMPARING").sub(" ", rule("UNCHANGED").sub(" ", bare)))


def _only_compares(text: str) -> bool:
    """Return whether a text names no more than anatomy beside its comparison."""
    return _content(text) <= _ANATOMY


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    words = (word.lower().rstrip("'\u2019-") for word in rule("WORD").findall(text))
    return frozenset(word for word in words if word not in _EMPTY_WORDS and word.strip("x"))


@lru_cache(maxsize=4096)
def _denials(text: str) -> tuple[int, int]:
    """Count what a text denies or calls gone, and what it calls nearly gone."""
    text = rule("WITHIN").sub(" ", rule("LEAD").sub("", text.rstrip(" .")))
    text, nearly = rule("NEARLY").subn(" ", text)
    text = rule("NOT_GONE").sub(" ", text)
    text, gone = rule("GONE").subn(" ", text)
    return gone + len(rule("DENIES").findall(rule("UNCHANGED").sub(" ", text))), nearly


def _calls_gone(clause: str) -> bool:
    """Return whether a clause states that something has resolved or was removed."""
    clause = rule("NOT_GONE").sub(" ", rule("NEARLY").sub(" ", clause))
    return bool(rule("GONE").search(clause) or re.search(r"\bno longer\b", clause, re.IGNORECASE))


def _is_english(text: str, original: str) -> bool:
    """Return whether what is left of a sentence has no loose ends, and a verb where it had one."""
    main = re.sub(r",? (?:which|that) [^,;]*", "", original)
    for part in re.split(r"(?<=[.])\s+(?=[A-Z])", text):
        if part and (rule("BROKEN").search(part) or not re.match(r"[A-Z0-9_(\"]", part)):
            return False
        verbless = (
            part and not rule("VERB").search(part) and not part.startswith(("No ", "Possible "))
        )
        if verbless and (rule("VERB").search(main) or re.match(r"the\b", part, re.IGNORECASE)):
            return False
    return True
