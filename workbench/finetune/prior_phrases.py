"""How English sentences compare with an earlier study, and how they are said without it.

A sentence is divided into clauses. Phrases that only compare ("since the prior exam", ", which is
unchanged") go. Of a clause whose verb compares ("The effusion has increased.") only the subject is
said: that it is there, or that it is not; the caller decides which of the two keeps the meaning.

Does not know: findings (`priors` asks the labeler).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from workbench.hallucination.text_rules import PRIOR

Same = Callable[[str, str], bool]

_ADVERB = (
    r"(?:(?:slightly|mildly|moderately|markedly|significantly|substantially|somewhat|minimally|"
    r"grossly|essentially|relatively|overall|largely|otherwise|now|also|still|again|since|further|"
    r"likely|apparently|partially|completely|nearly|almost|much|not|appreciably|really|very|"
    r"relatively|mostly|subsequently|then|recently|newly|slowly|rapidly|perhaps|probably) )*"
)
_BE = (
    r"(?:(?:is|are|was|were|appears?|seems?|looks?|remains?|has been|have been|has remained|"
    r"have remained|has become|have become|continues? to be)(?: to be)?)"
)
_STATE = (
    r"(?:unchanged|changed|stable|similar|the same|persistent|improved|improving|worsened|worsening|"
    r"increased|increasing|decreased|decreasing|progressed|progressing|larger|smaller|bigger|better|"
    r"worse|(?:more|less) (?:prominent|conspicuous|extensive|severe|pronounced|apparent|evident|"
    r"confluent|dense|marked|visible)|unaltered|new|resolving|resolved|cleared|gone|removed|"
    r"withdrawn|no longer (?:seen|present|visible|evident|identified|visuali[sz]ed|apparent|noted|"
    r"appreciated|demonstrated)|(?:in |of )?(?:similar|unchanged|stable) (?:in )?(?:appearance|"
    r"position|size|extent|location)|(?:placed|inserted|repositioned|advanced|exchanged|replaced)|"
    r"about the same|better seen)"
)
_ASPECT = (
    r"(?: (?:in|with regard to|in terms of) (?:(?:the )?(?:overall )?(?:size|extent|appearance|"
    r"position|severity|configuration|number|degree|volume|distribution|density|alignment)"
    r"(?: and |,? or )?)+)?"
)
_DONE = (
    r"(?:increased|decreased|improved|worsened|progressed|enlarged|grown|developed|changed|persisted|"
    r"appeared|evolved|resolved|cleared|disappeared|diminished|regressed|recurred|reaccumulated|"
    r"re-accumulated|re-expanded|reexpanded|lessened|shrunk)"
)
_TURN = (
    r"(?:increase|decrease|improvement|worsening|progression|reduction|changes?|development|"
    r"placement|insertion|appearance|enlargement|removal|resolution|clearing|re-?expansion|"
    r"re-?accumulation|re-?positioning|advancement|exchange|extubation|recurrence|stability)"
)
_DEGREE = (
    r"(?:(?:no|slight|mild|significant|minimal|marked|further|continued|some|near|near-complete|"
    r"complete|partial|subtle|interval|relevant|appreciable|substantial|little|new|moderate|overall|"
    r"short-term|definite|major|other|great|gradual|ongoing|interim) )*"
)
_DAY = (
    r"(?:_{2,}|\d[\d/.:-]*(?: ?[ap]\.?m\.?)?|yesterday|earlier(?: today)?|the (?:same|previous|prior) "
    r"day|(?:january|february|march|april|may|june|july|august|september|october|november|december)"
    r"[ \d,]*|(?:one|two|three|four|five|six|\d+|a few|several) (?:hours?|days?|weeks?|months?|years?) "
    r"(?:ago|prior|earlier|before))"
)
_EXAM = (
    r"(?:(?:the|a|an|his|her|most|recent|prior|previous|earlier|preceding|last|old|older|outside|"
    r"available|multiple|immediate|immediately|next|initial|baseline|same|day|portable|frontal|"
    r"lateral|chest|ap|pa|ct|and|comparison|hospital|remote|several) )*"
    r"(?:radiographs?|radiography|x-?rays?|films?|study|studies|exam(?:ination)?s?|images?|imaging|"
    r"cxrs?|cts?|scans?|tomograms?|tomography|priors?|previous|one|baseline)"
    rf"(?:,? (?:(?:of|from|dated|performed on|performed|obtained|on|at|done|taken) )?{_DAY})*"
)
_EARLIER = rf"(?:{_EXAM}|{_DAY}|before|prior|previous|earlier|previously|admission|then)(?!\w)"
_THAT = r"(?:(?:that|those) (?:of|on|seen on) |what was seen on )?"
_COMPARED = (
    rf"(?:(?:as |when )?(?:compared|in comparison|relative|comparable)(?: (?:to|with)) {_THAT}{_EARLIER}"
    rf"|similar to {_THAT}{_EARLIER}"
    rf"|(?:since|from|as on|as seen on|on|than(?: (?:on|in|at|seen on))?) {_THAT}{_EARLIER}"
    r"|in the (?:interval|interim|meantime)|over (?:the )?(?:interval|time)|as (?:(?:seen|noted|"
    r"described|was|were) )?(?:before|previously))"
)
_LEAD = re.compile(rf"^{_COMPARED}\s*,?\s*(?=\w)", re.IGNORECASE)
_WITHIN = re.compile(rf",?\s+{_COMPARED}(?:,(?=\s)|(?=\s|[;)]|$))", re.IGNORECASE)
_ATTRIBUTE = (
    r"(?:unchanged|stable|persistent|persisting|residual|recurrent|worsening|worsened|improving|"
    r"improved|increasing|decreasing|resolving|ongoing|continued|continuing|lingering|remaining|new|"
    r"newly (?:seen|placed|appeared|developed|noted)|newly|interval|unresolved|"
    r"previously (?:seen|noted|described|identified|visuali[sz]ed|demonstrated|present)|"
    r"(?:in|de)creased(?= (?:(?!with|and|in|at|of)[\w-]+ ){0,4}(?:effusion|pneumothora|o?edema|"
    r"consolid|atelect|pneumonia|cardiomeg|congest|nodul|mass)))"
)
_ATTRIBUTES = re.compile(
    rf"(?<![\w-]){_ADVERB}{_ATTRIBUTE}(?:(?:,| and| or| to|,? but) {_ADVERB}{_ATTRIBUTE})*,? (?=\w)",
    re.IGNORECASE,
)
_ASIDES = re.compile(
    rf"\s*\({_ADVERB}{_STATE}{_ASPECT}\)"
    rf"|,?\s+(?:which|that) (?:{_BE}|has|have) {_ADVERB}(?:{_STATE}|{_DONE}){_ASPECT}(?:,|(?=$))"
    rf"|,?\s+(?:and|but) (?:(?:is|are|has|have|has been|have been|remains?|appears?) )?{_ADVERB}"
    rf"(?:{_STATE}|{_DONE}){_ASPECT}(?=$|,)"
    rf"|,\s+(?:(?:is|are|has|have|has been|have been|remains?) )?{_ADVERB}(?:{_STATE}|{_DONE}){_ASPECT}"
    r"(?=$|[,)])"
    rf"|,?\s+(?:with|and|without|with no|and no) {_DEGREE}changes?{_ASPECT}(?=$|,)",
    re.IGNORECASE,
)
_TIMES = re.compile(
    r"(?<=\w)\s+(?:once again|again|still|now)(?=\s(?:seen|noted|demonstrated|present|visuali[sz]ed|"
    r"identified|evident|visible|shown|a\b|an\b|the\b|is\b|are\b|has\b|in\b|at\b|\w))|"
    r"^(?:once again|again|now|still),?\s+(?=(?:there|the|a|an|heart)\b)|\s+(?:once again|again)$",
    re.IGNORECASE,
)
_FIRST = re.compile(
    rf"^(?:(?:once )?again|re-?demonstrated|still|unchanged|stable)(?: also)?(?: (?:seen|noted|"
    rf"demonstrated|identified|visuali[sz]ed|present|evident))?,? (?P<be>is|are) (?P<subject>.+)$"
    rf"|^(?:seen|noted) again (?:is|are) (?P<other>.+)$",
    re.IGNORECASE,
)
_NOUNS = (
    r"(?P<subject>(?:(?!\b(?:is|are|was|were|has|have|had|there|which|that|remains?|persists?|shows?|"
    r"may|could|can|cannot|no|not|without|but|although|while|if)\b)[^,;])+?)"
)
_REST = r"(?P<rest>(?: (?:in|at|with|within|on|over|projecting|along|and ends|overlying|of)\b.*)?)"
_PREDICATES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^{_NOUNS} (?:{_BE} )?{_ADVERB}{_STATE}{_ASPECT}{_REST}$",
        rf"^{_NOUNS} (?:has|have) {_ADVERB}(?:been )?{_ADVERB}{_DONE}{_ASPECT}(?: (?:slightly|"
        rf"somewhat|significantly|markedly|further))?{_REST}$",
        rf"^{_NOUNS} (?:has|have|is|are) {_ADVERB}(?:gone|resolved|cleared|disappeared|out){_REST}$",
        rf"^{_NOUNS} (?:persists?|remains?|recurs?|(?:shows?|demonstrates?) {_DEGREE}{_TURN}){_REST}$",
        rf"^(?:there (?:is|are|has been|have been|was) )?{_DEGREE}{_TURN} (?:in|of) (?:(?:the )?(?:size|"
        r"extent|appearance|position|severity|degree|amount) of )?(?P<subject>[^,;]+)(?P<rest>)$",
        r"^(?:the patient|he|she) (?:has|have) (?:now |since )?(?:received|undergone placement of|had "
        r"placement of) (?P<subject>[^,;]+)(?P<rest>)$",
    )
]
_ONLY = re.compile(
    r"^(?:the )?(?:appearance|size|extent|position|degree|severity|amount) of ", re.I
)
_REMAINS = [
    (re.compile(pattern, re.IGNORECASE), said)
    for pattern, said in (
        (r"\b(?:remains|continues to be|has remained|has become)(?= \w)", "is"),
        (r"\b(?:remain|continue to be|have remained|have become)(?= \w)", "are"),
    )
]
_ARTICLE = re.compile(r"^(?:the|an?|this|these|those|his|her|its) ", re.IGNORECASE)
_COUNTED = re.compile(r"^(?:multiple|several|some|two|three|four|both|many|few|\d)", re.IGNORECASE)
_HEAD_END = re.compile(
    r" (?:of|in|at|with|within|on|to|from|along|over|without|near|projecting|overlying|involving|seen|"
    r"noted|ending|terminating|which|that|causing|after|due)\b"
)
_MASS = re.compile(
    r"(?:edema|atelectasis|cardiomegaly|pneumonia|consolidation|congestion|collapse|thickening|fluid|"
    r"air|disease|emphysema|scarring|fibrosis|enlargement|engorgement|widening|hardware|blunting|"
    r"loss|failure|overload|opacification|pneumomediastinum|aeration|elevation|bronchopneumonia|"
    r"prominence|hyperinflation|kyphosis|scoliosis|crowding|cuffing|calcification|support)$",
    re.IGNORECASE,
)
_NO_THING = re.compile(
    r"\b(?:size|contours?|lungs?|volumes|appearance|position|silhouettes?|heart|examination|study|"
    r"chest|structures|patient|aeration|inspiration|exam|radiographs?|findings?|process|limits)$",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|may|might|can|cannot|could|should|would|persists?|remains?|"
    r"shows?|appears?|ends?|lies|projects?|terminates?|demonstrates?|suggests?|represents?|reflects?)\b",
    re.IGNORECASE,
)
_SPLIT = re.compile(
    r";\s+|,?\s+(?:and|but|while|whereas|although|however)\s+|,\s+(?:and\s+|but\s+)?", re.IGNORECASE
)
_NEW_CLAUSE = re.compile(
    rf"(?:there|it) (?:is|are|has|have|was|were)\b|{_NOUNS.replace('?P<subject>', '?:')}\s(?:{_VERB.pattern}"
    rf"|{_ADVERB}{_STATE}$)",
    re.IGNORECASE,
)
_THOUGH = re.compile(r"^(?:although|though|while|whereas)\s+([^,]+),\s+(.+)$", re.IGNORECASE)
_BROKEN = re.compile(
    r"[,;:]\s*[,;:.]|^\W*[,;]|\s[,.;]|\(\s*\)"
    r"|\b(?:to|with|from|than|since|of|on|at|the|an?|and|or|but|which|as|by|has|have|been|compared|"
    r"again|significantly|slightly|is|are|was|were|not|no|in|newly|interval|also|some|more|less|"
    r"better|worse)\s*(?:[.,;]|$)"
    r"|\b(\w+) \1\b|\ba (?=[aeio])|\ban (?=[b-df-gj-np-tv-z][a-z])"
    r"|\b(?:a|an|the) (?:a|an|the|is|are|has|have|and|or|of|in|at)\b|^(?:and|or|but|than|with|from|of)\b"
    r"|\b(?:is|are|has|have) (?:is|are|has|have|there)\b|\bthere (?:is|are) (?:there|the )",
    re.IGNORECASE,
)


def compares(text: str) -> bool:
    """Say whether words of a text may compare with an earlier study."""
    return PRIOR.claims.search(text) is not None


def rephrased(sentence: str, same: Same) -> Iterator[str]:
    """Yield ways to say a sentence without comparing, the most thorough first.

    Args:
        sentence: one sentence, without its heading.
        same: whether two texts state and deny the same findings.
    """
    plain = " ".join(sentence.split()).rstrip(" .")
    bare = _WITHIN.sub("", _LEAD.sub("", plain))
    yield _joined(_said(clause, same, bare != plain) for clause in _clauses(bare))
    yield _said(plain, same, True)
    yield _ended(bare)
    yield _ended(_inline(plain))
    yield _ended(_ASIDES.sub("", plain))


def is_english(text: str, original: str) -> bool:
    """Say whether what is left of a sentence has no loose ends and keeps a verb where it had one."""
    for part in re.split(r"(?<=[.])\s+(?=[A-Z])", text):
        if part and (_BROKEN.search(part) or not re.match(r"[A-Z0-9_(\"]", part)):
            return False
        verbless = part and not _VERB.search(part) and not part.startswith(("No ", "Possible "))
        if verbless and (_VERB.search(original) or re.match(r"the\b", part, re.IGNORECASE)):
            return False
    return True


def _clauses(text: str) -> list[str]:
    """Divide a sentence before every part that has a subject and a verb or state of its own."""
    if though := _THOUGH.match(text):
        return [*_clauses(though[1]), *_clauses(though[2])]
    for match in _SPLIT.finditer(text):
        left, right = text[: match.start()], text[match.end() :]
        whole = _VERB.search(left) or re.match(r"no\b|without\b", left, re.IGNORECASE)
        whole = whole or ";" in match.group() or re.search(rf"\b{_STATE}$", left, re.IGNORECASE)
        if whole and _NEW_CLAUSE.match(right) and not re.match(_ADVERB + _STATE, right, re.I):
            return [left, *_clauses(right)]
    return [text]


def _said(clause: str, same: Same, compared: bool) -> str:
    """Return a clause without its comparison as a sentence, empty where it only compares."""
    if not (compared or compares(clause)):
        return _ended(clause)
    ways = [way for way in _ways(clause) if is_english(way, clause) and same(way, clause)]
    ways = [way for way in ways if way or same("", clause)]
    return min(ways, key=lambda way: len(PRIOR.claims.findall(way)), default=_ended(clause))


def _ways(clause: str) -> Iterator[str]:
    """Yield what a clause can say without its comparison."""
    inner = _inline(clause)
    if any(pattern.search(clause) for pattern, _ in _REMAINS) and not compares(inner):
        yield _ended(inner)
    for text in dict.fromkeys((clause, _ASIDES.sub("", clause), inner)):
        if match := _FIRST.match(text):
            yield _there(match["subject"] or match["other"])
        for pattern in _PREDICATES:
            if match := pattern.match(text):
                subject = _inline(_ONLY.sub("", match["subject"]))
                yield _there(subject, match["rest"])
                yield _none(subject)
    yield _ended(inner)
    yield _ended(_inline(clause, keep_new=True))
    yield ""


def _inline(text: str, keep_new: bool = False) -> str:
    """Take words and asides that compare out of a clause."""
    text = _WITHIN.sub("", _LEAD.sub("", text))
    text = _ASIDES.sub("", text)
    for pattern, said in _REMAINS:
        text = pattern.sub(said, text)
    text = _TIMES.sub("", text)
    text = _ATTRIBUTES.sub(
        lambda match: match.group() if keep_new and "new" in match.group().lower() else "", text
    )
    text = re.sub(r"\s+,", ",", re.sub(r"\s{2,}", " ", text)).strip(" ,")
    return re.sub(r"\b(an?) (\w+)", lambda m: f"{_match_case(m[1], _article(m[2]))} {m[2]}", text)


def _there(subject: str, rest: str = "") -> str:
    """Return the sentence that a thing is there."""
    parts = re.split(r"(,? and |, )", subject)
    first = _bare(parts[0])
    if not first or _NO_THING.search(_head(first)):
        return ""
    said = "".join(part if n % 2 else _with_article(part) for n, part in enumerate(parts))
    return _ended(f"there {'are' if _plural(first) else 'is'} {said}{rest}")


def _none(subject: str) -> str:
    """Return the sentence that a thing is not there."""
    bare = [_bare(part) for part in re.split(r",? and |, ", subject)]
    return _ended(f"no {' or '.join(bare)}") if all(bare) else ""


def _bare(words: str) -> str:
    words = _ARTICLE.sub("", words.strip())
    known = words[:1].isupper() and words[1:2].islower()
    return words[:1].lower() + words[1:] if known else words


def _head(words: str) -> str:
    return _HEAD_END.split(words)[0]


def _plural(words: str) -> bool:
    head = _head(words).split()[-1].lower()
    return head.endswith(("ces", "s")) and not head.endswith(("ss", "is", "us"))


def _with_article(words: str) -> str:
    bare = _bare(words)
    if not bare or _plural(bare) or _COUNTED.match(bare) or _MASS.search(_head(bare)):
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
