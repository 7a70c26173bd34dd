"""How English sentences compare with an earlier study, and how they are said without it.

A sentence is divided into clauses. Phrases that only compare ("since the prior exam", ", which is
unchanged") go. Of a clause whose verb compares ("The effusion has increased.") only the subject is
said: that it is there, or, where it is called gone, that it is not.

Does not know: findings (`priors` asks the labeler).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from workbench.finetune.prior_guard import (
    COMPARING,
    STILL_THERE,
    calls_gone,
    content,
    is_english,
    keeps,
    only_compares,
)
from workbench.finetune.prior_patterns import (
    ABNORMAL,
    ADVERB,
    ALIKE,
    ALIKE_FIRST,
    AND_THEN,
    ARTICLE,
    ASIDES,
    ATTRIBUTES,
    COUNTED,
    FIRST,
    HEAD_END,
    LEAD,
    MASS,
    NEW_CLAUSE,
    NO_THING,
    NOW_DEGREE,
    ONLY,
    PREDICATES,
    REMAINS,
    SPLIT,
    STATE,
    THOUGH,
    TIMES,
    TURN,
    VERB,
    WITHIN,
)
from workbench.hallucination.text_rules import PRIOR
from workbench.reports import sentences

Same = Callable[[str, str], bool]
_NAME = re.compile(
    r"\w+-[A-Z]|(?:Dob+hoff|Hickman|Kerley|Swan|Quinton|Impella|Ghon|Foley|Harrington|Morgagni|"
    r"Bochdalek|"
    r"Chilaiditi|Pancoast|Hampton|Tesio|Groshong|Broviac|Permcath|Mediport)\b"
)
_QUALITY = re.compile(
    r"(?:\w(?:al|ar|ic|ous|ary)|left|right|upper|lower|middle|ed)$", re.IGNORECASE
)
_SHORT_NOT = re.compile(r"\b(has|have|is|are|was|were)n['\u2019]t\b", re.IGNORECASE)


@lru_cache(maxsize=4096)
def comparisons(text: str) -> int:
    """Count the words of a text that compare with an earlier study."""
    return sum(1 for sentence in sentences(text) for _ in PRIOR.found_in(sentence.text))


def rephrased(sentence: str, same: Same) -> Iterator[str]:
    """Yield ways to say a sentence without comparing, the most thorough first.

    Args:
        sentence: one sentence, without its heading.
        same: whether two texts state and deny the same findings.
    """
    plain = _SHORT_NOT.sub(r"\1 not", " ".join(sentence.split()).rstrip(" ."))
    bare = WITHIN.sub("", LEAD.sub("", plain))
    yield _joined(_said(clause, same, bare != plain) for clause in _clauses(bare))
    yield _said(plain, same, True)
    yield _ended(bare)
    yield _ended(_inline(plain))
    yield _ended(ASIDES.sub("", plain))


def _clauses(text: str) -> list[str]:
    """Divide a sentence before every part that has a subject and a verb or state of its own."""
    if though := THOUGH.match(text):
        return [*_clauses(though[1]), *_clauses(though[2])]
    alike = ALIKE.match(text) or ALIKE_FIRST.match(text)
    if alike and COMPARING.search(alike["first"]):
        other = (
            f"{alike['other']} is {'no longer seen' if calls_gone(alike['first']) else 'unchanged'}"
        )
        parts = [*_clauses(alike["first"]), other]
        return parts if alike.re is ALIKE else parts[::-1]
    for match in SPLIT.finditer(text):
        left, right = text[: match.start()], text[match.end() :]
        whole = VERB.search(left) or re.match(r"no\b|without\b", left, re.IGNORECASE)
        if ";" in match.group() and (not content(left) or calls_gone(left)):
            return [left, *_clauses(right)]
        whole = whole or ";" in match.group() or re.search(rf"\b{STATE}$", left, re.IGNORECASE)
        if whole and NEW_CLAUSE.match(right) and not re.match(ADVERB + STATE, right, re.I):
            return [left, *_clauses(right)]
    return [text]


def _said(clause: str, same: Same, compared: bool) -> str:
    """Return a clause without its comparison as a sentence, empty where it only compares."""
    if not (compared or comparisons(clause)):
        return _ended(clause)
    if only_compares(clause) and keeps("", clause) and same("", clause):
        return ""
    ways = [
        way
        for way in _ways(clause)
        if is_english(way, clause) and keeps(way, clause) and same(way, clause)
    ]
    return min(ways, key=comparisons, default=_ended(clause))


def _ways(clause: str) -> Iterator[str]:
    """Yield what a clause can say without its comparison."""
    inner = _inline(clause)
    if match := NOW_DEGREE.match(clause):
        yield from (_graded(way, match["degree"]) for way in _ways(match["first"]))
    if match := AND_THEN.match(clause):
        subject = match["subject"]
        be = "are " if " and " in subject or _plural(_bare(subject)) else "is "
        yield _ended(_inline(f"{subject} {match['verb'] or be}{match['rest']}"))
    if any(pattern.search(clause) for pattern, _ in REMAINS) and not comparisons(inner):
        yield _ended(inner)
    for text in dict.fromkeys((clause, ASIDES.sub("", clause), inner)):
        if match := FIRST.match(text):
            yield _there(match["subject"] or match["other"])
        for pattern in PREDICATES:
            if match := pattern.match(text):
                subject = _inline(ONLY.sub("", match["subject"]))
                rest = re.sub(r"^,? (?:now )?", "", match["rest"])
                if calls_gone(clause):
                    both = pattern.pattern.startswith("^(?:(?:there") and " with " in subject
                    if not (both or STILL_THERE.search(clause)):
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
    text = WITHIN.sub("", LEAD.sub("", text))
    text = ASIDES.sub("", text)
    for pattern, said in REMAINS:
        text = pattern.sub(said, text)
    text = TIMES.sub("", text)
    text = ATTRIBUTES.sub(
        lambda match: match.group() if keep_new and "new" in match.group().lower() else "", text
    )
    text = re.sub(r"\s+,", ",", re.sub(r"\s{2,}", " ", text)).strip(" ,")
    return re.sub(
        r"\b([Aa]n?) (\w+)", lambda m: f"{_match_case(m[1], _article(m[2]))} {m[2]}", text
    )


def _there(subject: str, rest: str = "") -> str:
    """Return the sentence that a thing is there."""
    parts = re.split(r"(,? and |, )", subject)
    single = " " not in _bare(parts[0]) and _plural(subject)
    if len(parts) > 1 and (single or _QUALITY.search(parts[0])):
        parts = [subject]  # "monitoring and support devices", "hilar and mediastinal adenopathy"
    elif not HEAD_END.search(subject) and any(NO_THING.search(part) for part in parts[2::2]):
        return ""
    first = _bare(parts[0])
    thing = not NO_THING.search(_head(first)) or ABNORMAL.search(first)
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
    if NO_THING.search(_head(_bare(subject))) or re.search(rf"\b{TURN} of\b", subject):
        return ""
    bare = [_bare(part) for part in re.split(r",? and |, ", subject)]
    if not all(bare) or any(COUNTED.match(part) for part in bare):
        return ""
    if rest and not re.match(r"(?:in|at|on|over|along|within|of)\b", rest):
        return ""
    return _ended(f"no {' or '.join(bare)} {rest}")


def _bare(words: str) -> str:
    words = ARTICLE.sub("", words.strip())
    known = words[:1].isupper() and words[1:2].islower() and not _NAME.match(words)
    return words[:1].lower() + words[1:] if known else words


def _head(words: str) -> str:
    return HEAD_END.split(words)[0]


def _plural(words: str) -> bool:
    head = _head(words).split()[-1].lower()
    return head.endswith(("ces", "s", "ae")) and not head.endswith(("ss", "is", "us", "gas"))


def _with_article(words: str) -> str:
    bare = _bare(words)
    if not bare or _plural(bare) or COUNTED.match(bare) or MASS.search(_head(bare)):
        return bare
    return f"{_article(bare.split()[0])} {bare}"


def _article(word: str) -> str:
    if len(word) > 1 and word[:2].isupper():
        return "an" if word[0] in "AEFHILMNORSX" and not word.startswith("PICC") else "a"
    vowel = word[:1].lower() in "aeiou" and not re.match(r"uni(?!n)|us|eu|one", word, re.IGNORECASE)
    return "an" if vowel or re.match(r"8|11|18|hour|honest", word) else "a"


def _match_case(old: str, new: str) -> str:
    return new.capitalize() if old[0].isupper() else new


def _ended(text: str) -> str:
    text = text.strip(" ,;:.")
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _joined(parts) -> str:
    return " ".join(part for part in parts if part)
