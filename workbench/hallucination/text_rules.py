"""The rules of `text_checks`: which words claim what one image cannot show.

Each rule has patterns that claim, and contexts that take the claim back: "no prior study for
comparison" compares nothing, and "a lateral view is recommended" has seen none. A context counts
where it covers the match, or stands in the same sentence if it is said to (`whole`).

English only. The rules that need findings are in `text_checks`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_EXAM = (
    r"(?:chest )?(?:radiographs?|x-?rays?|films?|stud(?:y|ies)|exam(?:ination)?s?|images?|imaging|"
    r"cxrs?|CTs?|CT scans?|tomograms?|scans?)"
)
_MONTH = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december|"
    r"jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)"
)
_NUMBER = r"\d+(?:[.,]\d+)?"
_UNIT = r"(?:mm|cm|millimet(?:er|re)s?|centimet(?:er|re)s?|inch(?:es)?|ml|cc|hounsfield units?|HU)"
_SYMPTOM = (
    r"(?:cough(?:ing)?|fevers?|febrile|chills|dyspnea|dyspnoea|short(?:ness)? of breath|SOB|"
    r"(?:chest|back|rib|abdominal) pain|wheez(?:ing|es)|hypoxi[ac]|hemoptysis|haemoptysis|"
    r"leu[ck]ocytosis|night sweats|weight loss|hypotensi(?:on|ve)|sepsis|septic|dizziness|syncope|"
    r"palpitations|fatigue|nausea|vomiting|tachycardi[ac])"
)


#: What can grow, shrink or stay from one image to the next, and the words in front of its name.
_FINDING = (
    r"(?:effusions?|pneumothora\w+|o?edema|consolidations?|atelecta\w+|pneumonias?|opacit\w+|"
    r"infiltrates?|infiltrations?|congestion|nodules?|mass(?:es)?|fluid|collapse|cardiomegaly|"
    r"haemothorax|hemothorax|contusions?|disease|lesions?|thickening|emphysema|air)"
)
_PLACE = (
    r"(?:(?:left|right|bilateral|both|small|tiny|trace|mild|moderate|large|upper|mid|middle|lower|"
    r"lobe|lung|zone|pleural|pulmonary|interstitial|alveolar|air ?space|basal|basilar|bibasilar|"
    r"retrocardiac|apical|focal|patchy|hazy|perihilar|subcutaneous|loculated)[ -])*"
)


@dataclass(frozen=True)
class TextRule:
    """One rule.

    Attributes:
        name: of the rule.
        says: what is wrong with a text that it finds, for people.
        claims: matches the words that claim.
        excuses: matches contexts in which the words claim nothing; None where there are none.
        whole: whether an excuse anywhere in the sentence counts, not only one over the words.
    """

    name: str
    says: str
    claims: re.Pattern
    excuses: re.Pattern | None = None
    whole: bool = False

    def found_in(self, sentence: str) -> Iterator[tuple[int, int]]:
        """Yield where words of one sentence claim and are not excused."""
        spans = [match.span() for match in self.excuses.finditer(sentence)] if self.excuses else []
        if self.whole and spans:
            return
        for match in self.claims.finditer(sentence):
            if not any(low < match.end() and match.start() < high for low, high in spans):
                yield match.start(), match.start() + len(match.group().rstrip())


def _rule(
    name: str, says: str, claims: list[str], excuses: list[str] | None = None, whole: bool = False
) -> TextRule:
    compiled = _compiled(claims)
    return TextRule(name, says, compiled, _compiled(excuses) if excuses else None, whole)


def _compiled(patterns: list[str]) -> re.Pattern:
    joined = "|".join(pattern.replace(" ", r"\s+") for pattern in patterns)
    return re.compile(rf"(?<![\w.])(?:{joined})(?!\w)", re.IGNORECASE)


PRIOR = _rule(
    "prior comparison",
    "compares with an earlier study that the model never saw",
    [
        r"(?:unchanged|no (?:significant |relevant |interval |substantial |appreciable |other |"
        r"further )*changes?)",
        r"(?:(?:has|have|is|are|was|were) not|(?:has|have|is|are|was|"
        r"were)n['\u2019]t) (?:significantly |substantially )?changed",
        r"(?:little|minimal|mild|slight) (?:interval )?change",
        r"stable(?! for| enough)",
        r"(?:un)?resolved|resolving|resolution of|clearing of",
        r"(?:has|have) (?:\w+ ){0,3}(?:cleared|increased|decreased|improved|worsened|progressed|"
        r"enlarged|developed|re-?expanded|re-?accumulated|resolved|grown|shifted|appeared|"
        r"disappeared|been (?:removed|placed|"
        r"withdrawn|advanced|repositioned|extubated|inserted|exchanged|replaced|retracted|"
        r"pulled|drained|taken out)|become|gone|regressed|diminished|lessened|deteriorated|"
        r"evolved|moved|migrated|subsided|recurred|reappeared|shrunk|persisted|remained|"
        r"received)",
        r"(?:improv|worsen|increas|decreas|enlarg|progress|persist)(?:ing|ed|ent|s)?"
        r" (?:since|from|compared|as compared|relative to)",
        r"(?:improved|improving|improvement|worsened|worsening|progression|progressed|"
        r"progressing|increasing|decreasing|persist(?:s|ent|ently|ed|ing)?|residual|recurrent)",
        rf"remaining {_PLACE}{_FINDING}|{_FINDING} (?:still )?remaining",
        rf"(?:in|de)creased {_PLACE}(?!opacit|air|lucen|disease){_FINDING}",
        r"(?:in|de)creased in (?:size|extent|severity|number)|(?:increase|decrease|"
        r"reduction) in (?:the )?"
        r"(?:overall )?(?:size|extent|severity|number) of|(?:slightly|somewhat|much|"
        r"markedly) (?:smaller|"
        rf"larger|bigger) {_PLACE}{_FINDING}",
        r"(?:once )?again|(?:is|are|was|were|has|have|remains?|there) still|still (?:is|are|has|"
        r"have|remains?|persists?|shows?|demonstrates?|contains?)",
        r"re-?(?:expan|accumulat|aerat|appear|develop)\w+|recurrence|deteriorat\w+|"
        r"regress(?:ing|ion)|unaltered|yet to (?:clear|resolve|improve)|lingering|ongoing|"
        r"continu(?:ing|ed)",
        r"(?:in)?complete clearing|partial clearing|(?:is|are|almost|nearly|essentially|mostly|"
        r"completely|now) gone",
        r"(?:interval|in the interval|interim)",
        r"no longer",
        r"(?:again|still|previously) (?:seen|noted|demonstrated|identified|present|visuali[sz]ed|"
        r"evident|described|visible|reported|shown|placed)",
        r"(?:seen|noted|present|as|than) (?:previously|before|earlier)",
        r"(?:re-?demonstrat\w+|remains?|remained|continues? to|newly|new(?! york| england))",
        r"(?:compar(?:ed|ison|ing|ative)(?: is made)?|in comparison)(?: (?:to|with|and))?",
        rf"(?:prior|previous|earlier|old|preceding|last|most recent|outside) {_EXAM}",
        rf"{_EXAM} (?:from|of|dated|performed on) (?:yesterday|\d|{_MONTH}|the (?:prior|previous))",
        r"since (?:the )?(?:prior|previous|last|yesterday|admission|earlier|\d|"
        rf"{_MONTH})",
        r"(?:larger|smaller|better|worse|less|more \w+|greater|lower|higher) than (?:on |in |at )?"
        r"(?:the )?(?:before|previously|prior|previous|earlier|yesterday|last)",
        r"as (?:before|on the prior|on the previous)",
        r"at baseline|from baseline|relative to baseline",
        r"(?:there (?:is|are)|is|are) now|now(?! that| recommend| advis| suggest)",
        r"(?:better|worse) (?:aerat\w+|expand\w+|defined)",
        r"similar (?:in )?appearance|appears? similar",
        r"(?:is|are|appears?|looks?) (?:slightly |much |somewhat )?(?:bigger|larger|smaller|better|"
        r"worse)(?! than| compared| on the)",
        r"(?:much|about|essentially|largely) the same",
        r"status quo|over time|over the (?:past|last) \w+",
    ],
    [
        rf"(?:no|without|lack of|absence of) (?:\w+ ){{0,2}}(?:prior|previous|earlier|old|"
        rf"comparison)(?: {_EXAM})?(?:,? (?:(?:is |are )?available|for comparison|"
        r"to compare(?: with)?))*(?: for comparison)?",
        r"comparison:? ?(?:none|not available|no prior\w*|unavailable)",
        r"(?:cannot|can not|could not|can't|unable to) (?:be )?compare\w*[^.]*",
        rf"(?:prior|previous|earlier|old) {_EXAM} (?:is|are|were|was) (?:not|un)\s?available[^.]*",
        r"(?:recommend|suggest|advise|consider|obtain|repeat|follow-?up)\w*[^.]*"
        r"(?:compar\w+|resolution(?: of)?|interval|residual|persist\w*|stability)[^.]*",
        r"(?:comparison|correlation) with (?:prior|previous|earlier|old|outside) [^.]*"
        r"(?:recommend|suggest|advis|help|useful)\w*",
        r"until (?:resolved|resolution)[^.]*|to (?:document|ensure|confirm) (?:\w+ )?"
        r"(?:resolution|clearance|clearing)[^.]*",
        r"if (?:prior|previous|earlier|old)[^.]*",
        r"(?:to|on) the (?:right|left|other|opposite|contralateral) (?:side|lung)",
        r"(?:compared|comparison|in comparison|relative)(?: to| with) (?:the )?(?:right|left|other|"
        r"opposite|contralateral|normal)[^.]*",
        r"(?:left|right|rib|intercostal|cardiac|costal) interval",
        r"interval between",
        r"unresolved(?= diagnosis)",
        r"(?:patient|hemodynamically|clinically|position) (?:is |remains? )?stable",
        r"remain(?:s|ing)? (?:of the|lungs?|lobes?|bones?|structures?|soft)[^.,]*",
        r"remainder",
        r"(?:well|poorly) resolved|resolved (?:well|poorly)",
        r"residual (?:volume|contrast|barium|material|lung|thymus|thymic|tissue|gastric|urine)",
        r"if (?:\w+ ){0,3}persists?[^.]*",
        r"(?:symptoms?|pain|fever|cough|concern|suspicion) persists?",
        r"(?:question|concern|suspicion|possibility|diagnosis) (?:still )?remains?",
        r"(?:ongoing|continu(?:ed|ing)) (?:\w+ )?(?:follow-?up|surveillance|attention|monitoring|"
        r"care|observation|treatment|therapy|concern)",
        r"(?:until|document|ensure|confirm) (?:\w+ )?clearing(?: of)?",
        r"up to now|until now|right now",
        r"again (?:recommend|suggest|advis)\w*|(?:try|repeated?|imaged|performed) again",
        r"continued (?:on|in|by)",
    ],
)

MEASUREMENT = _rule(
    "invented measurement",
    "gives a measure, and the image has no scale that the model knows",
    [
        rf"(?:{_NUMBER} ?[x\u00d7] ?)*{_NUMBER}[ -]?{_UNIT}",
        r"(?:one|two|three|four|five|six|seven|eight|nine|ten|half a)[ -](?:mm|cm|"
        r"(?:milli|centi)met(?:er|re)s?|inch(?:es)?)",
        rf"(?:CT ratio|cardiothoracic ratio)(?: is| of| measures)?(?: approximately| about)? "
        rf"{_NUMBER}",
        rf"{_NUMBER} ?(?:%|percent)",
    ],
    [
        r"(?:greater|larger|more|less|smaller) than [^.]*(?:would|should|recommend)\w*[^.]*",
        r"(?:recommend|suggest|advise|consider|should be|withdraw|retract|advance|pull)\w* [^.]*",
    ],
)

DATE = _rule(
    "invented date",
    "names a day or an hour that no image shows",
    [
        r"\d{1,2}[/.-]\d{1,2}[/.-](?:\d{4}|\d{2})",
        r"\d{4}-\d{2}-\d{2}",
        rf"{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?",
        rf"\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH}(?:,? \d{{4}})?",
        rf"{_MONTH},? (?:of )?(?:19|20)\d\d",
        r"(?:in|since|from|dated) (?:19|20)\d\d",
        r"\d{1,2}:\d{2}(?: ?[ap]\.?m\.?)?(?: hours| hrs)?",
        r"\d{1,2} ?[ap]\.?m\.?",
        r"\d{4} (?:hours|hrs)",
        r"(?:yesterday|(?:this|yesterday) (?:morning|afternoon|evening)|last (?:night|week|month|"
        r"year)|earlier today)",
        r"(?:\d+|one|two|three|four|five|six|seven|several|a few) (?:days?|weeks?|months?|years?|"
        r"hours?) (?:ago|earlier|prior|before)",
        r"(?:on )?(?:post-?op(?:erative)?|hospital) day (?:# ?)?(?:\d+|one|two|three|four|five)",
    ],
    [r"(?:follow-?up|repeat|recommend|suggest|advise)\w*[^.]*(?:in|within|after) [^.]*"],
)

HISTORY = _rule(
    "invented history",
    "tells a history, symptom or person that no image shows",
    [
        r"(?:clinical |past |medical |surgical |known |prior |reported |given (?:the )?)*"
        r"(?:history|hx|h/o)(?: of| is)?",
        r"status[ -]post|s/p",
        r"(?:presents?|presented|presenting|admitted|referred|complain(?:s|ing)|evaluated) "
        r"(?:with|for|after|of|to)",
        rf"(?:\w+ ){{0,2}}(?:with|has|had|of|for|and|given|due to|because of|reports?|:) "
        rf"(?:\w+ ){{0,2}}{_SYMPTOM}",
        r"\d{1,3}[ -]?(?:year|yr|y/?o|month|week|day)s?(?:[ -]?old)?[ -]?(?:old |-old )?"
        r"(?:man|woman|male|female|boy|girl|patient|gentleman|lady|m|f)",
        r"\d{1,3}[ -]?(?:year|yr|month|week|day)s?[ -]?old|\d{1,3} ?y/?o",
        r"(?:the |this )?(?:patient|he|she) (?:is|was|has|had|reports?|underwent|denies|received|"
        r"complains|presents|presented|suffers?|fell|smokes)",
        r"(?:patient|man|woman|gentleman|lady|male|female) with",
        r"(?:smoker|smoking|pack[ -]?years?|alcoholi\w+|diabet(?:es|ic)|immunocompromised|"
        r"immunosuppressed|HIV|AIDS|chemotherapy|radiation therapy|radiotherapy|on dialysis)",
        r"known (?:\w+ ){0,2}(?:cancer|carcinoma|malignancy|metasta\w+|tuberculosis|TB|sarcoid\w*|"
        r"lymphoma|COPD|emphysema|asthma|heart failure|CHF|disease|tumou?r)",
        r"(?:recent|previous|prior|past|remote) (?:\w+ )?(?:surgery|operation|infection|trauma|"
        r"fall|lobectomy|resection|CABG|bypass|transplant\w*|intubation|extubation|thoracentesis|"
        r"travel|hospitali[sz]ation|injury|procedure|pneumonia|tuberculosis|sternotomy|mastectomy)",
        r"(?:since|after|following) (?:\w+ ){0,2}(?:surgery|operation|extubation|intubation|"
        r"thoracentesis|bronchoscopy|diuresis|dialysis|trauma|resection|transplant\w*)",
        r"post-?operative(?:ly)?|postsurgical history",
        r"elevated (?:white (?:blood )?(?:cell )?count|WBC|troponin|BNP|temperature|d-dimer|CRP)",
        rf"afebrile|^{_SYMPTOM}",
    ],
    [
        r"(?:correlat\w+|compar\w+|conjunction) (?:\w+ ){0,4}(?:history|symptoms|findings)[^.]*",
        r"(?:if|whether|unless|when) (?:\w+ ){0,3}(?:patient|he|she|there is|clinical|febrile|"
        r"history|symptoms?)[^.]*",
        r"(?:no|without|lack of|limited|unknown) (?:\w+ ){0,2}(?:history|information|indication) "
        r"(?:is |was )?(?:available|provided|given)[^.]*",
        r"(?:clinical )?history (?:is |was )?(?:not|un)\s?(?:available|provided|known|given)[^.]*",
        r"(?:depending on|in light of|in the right|appropriate) (?:\w+ ){0,3}(?:history|setting|"
        r"context)",
        r"(?:the |this )?patient (?:is|was) (?:slightly |mildly |markedly |somewhat )?"
        r"(?:rotated|positioned|intubated|supine|upright|semi-?\w*|leaning|tilted|obese|kyphotic|"
        r"in (?:a )?(?:\w+ )?(?:position|inspiration))",
        r"natural history",
    ],
)

VIEW = _rule(
    "unseen view",
    "speaks of a view or an examination that the model was not given",
    [
        r"(?:(?:frontal|PA|AP|posteroanterior|anteroposterior)(?: and|,| &|/) )?lateral(?:ly)? "
        r"(?:chest )?(?:views?|projections?|radiographs?|films?|images?|x-?rays?)",
        r"(?:PA|AP|frontal|posteroanterior)(?: and|/| &|,) (?:the )?(?:lateral|LAT)",
        r"(?:on|in|from) (?:the )?lateral(?! (?:\w+ )?(?:chest|lung|zone|segment|aspect|part|costo|"
        r"portion|wall|ribs?|margin|border|basal|base|pleura\w*|diaphragm\w*|hemi\w+|recess))",
        r"(?:two|three|2|3|multiple|four|both) (?:frontal )?(?:views?|projections?)",
        r"(?:oblique|decubitus|lordotic|apical) (?:\w+ )?(?:views?|projections?|radiographs?|"
        r"films?|images?)",
        r"(?:on|in|by|from|per|(?:the |a )?(?:recent|concurrent|subsequent|same-day|today's|"
        r"today\u2019s)) (?:the |a |recent |subsequent |chest |same-day |contrast-enhanced )*"
        r"(?:CTs?|computed tomograph\w+|MRI?s?|PET(?:/CT)?|ultrasound|echocardiogra\w+|"
        r"fluoroscop\w+|angiogra\w+|mammogra\w+)",
        r"(?:CT|MRI|PET|ultrasound|echocardiogra\w+|computed tomography)(?: of the \w+| \w+)? "
        r"(?:shows?|showed|demonstrat\w+|reveal\w*|confirm\w*|images|performed|was)",
        r"(?:axial|sagittal|coronal|contrast-enhanced|gadolinium|T[12]-weighted) "
        r"(?:\w+ )?(?:images?|slices?|sections?|scans?|reconstructions?|views?)",
        r"(?:intravenous|IV|oral) contrast",
        r"retrosternal (?:clear |air ?)*space",
        r"(?:inspiratory and expiratory|expiratory) (?:views?|films?|images?)",
    ],
    [
        r"(?:recommend|suggest|advis|consider|obtain(?!ed)|could be|may be|would be|can be|"
        r"should be|further|warrant|if clinically|helpful|needed|need for|indicated|correlat)\w*",
        r"(?:no|without|not) (?:\w+ ){0,2}(?:lateral|CT|oblique|decubitus|second|two)",
        r"(?:lateral|CT|decubitus) (?:\w+ ){0,2}(?:is |was |were )?(?:not|un)\s?(?:available|"
        r"obtained|performed|provided|included|acquired)",
    ],
    whole=True,
)

CONTACT = _rule(
    "invented communication",
    "reports a talk, a person or a signature",
    [
        r"(?:discussed|communicated|conveyed|reported|relayed|telephoned|paged|called|notified|"
        r"informed|e-?mailed) (?:\w+ ){0,6}(?:to|with|by|via) (?:\w+ ){0,2}(?:dr|doctor|"
        r"physician|team|nurse|resident|attending|clinician|provider|phone|telephone|pager|"
        r"surgeon|service)\w*\.?",
        r"(?:dr|doctor)\.? [A-Z_]\w*",
        r"(?:was|were|has been|have been) (?:notified|paged|called|informed|telephoned)",
        r"(?:by|over the|via) (?:tele)?phone",
        r"(?:electronically )?signed(?: by)?|dictated(?: by)?|transcribed by|"
        r"attending (?:radiologist|physician)|critical result",
        r"(?:findings|results?) (?:were|was) (?:discussed|communicated|conveyed|relayed)",
    ],
    [r"(?:should|recommend|please|needs? to)\w* (?:be )?[^.]*"],
)

PLACEHOLDER = _rule(
    "placeholder",
    "holds a mark that de-identification left in the training texts",
    [r"_{2,}", r"X{3,}", r"\[\*\*[^\]]*\*\*\]", r"\[(?:name|date|redacted|deidentified)\]"],
)

RULES = (PRIOR, MEASUREMENT, DATE, HISTORY, VIEW, CONTACT, PLACEHOLDER)
