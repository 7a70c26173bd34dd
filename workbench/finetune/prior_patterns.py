"""English words and phrases that compare with an earlier study, as patterns."""

from __future__ import annotations

import re

ADVERB = (
    r"(?:(?:slightly|mildly|moderately|markedly|significantly|substantially|somewhat|minimally|"
    r"grossly|essentially|relatively|overall|largely|otherwise|now|also|still|again|since|further|"
    r"likely|apparently|partially|completely|nearly|almost|much|not|appreciably|really|very|"
    r"relatively|mostly|subsequently|then|recently|newly|slowly|rapidly|perhaps|probably) )*"
)
BE = (
    r"(?:(?:is|are|was|were|appears?|seems?|looks?|remains?|has been|have been|has remained|"
    r"have remained|has become|have become|continues? to be)(?: to be)?)"
)
STATE = (
    r"(?:unchanged|changed|stable|similar|the same|persistent|improved|improving|worsened|"
    r"worsening|increased|increasing|decreased|decreasing|progressed|progressing|larger|smaller|"
    r"bigger|better|worse|(?:more|less) (?:prominent|conspicuous|extensive|severe|pronounced|"
    r"apparent|evident|confluent|dense|marked|visible)|unaltered|new|resolving|resolved|cleared|"
    r"gone|removed|withdrawn|no longer (?:seen|present|visible|evident|identified|visuali[sz]ed|"
    r"apparent|noted|appreciated|demonstrated)|(?:in |of )?(?:similar|unchanged|stable) (?:in "
    r")?(?:appearance|position|size|extent|location)|(?:placed|inserted|repositioned|advanced|"
    r"exchanged|replaced)|about the same|better seen|(?:similar|comparable)(?: in appearance)? "
    r"(?:to|with) (?:(?:the )?(?:most |recent |prior |previous |earlier |last |old |chest |outside "
    r")*(?:one|films?|radiographs?|study|studies|exam(?:ination)?s?|images?|imaging)|before|prior))"
)
ASPECT = (
    r"(?: (?:in|with regard to|in terms of) (?:(?:the )?(?:overall )?(?:size|extent|appearance|"
    r"position|severity|configuration|number|degree|volume|distribution|density|alignment|course|"
    r"caliber|morphology)(?: and |,? or )?)+)?"
)
DONE = (
    r"(?:increased|decreased|improved|worsened|progressed|enlarged|grown|developed|changed|"
    r"persisted|appeared|evolved|resolved|cleared|disappeared|diminished|regressed|recurred|"
    r"reaccumulated|re-accumulated|re-expanded|reexpanded|lessened|shrunk)"
)
TURN = (
    r"(?:increase|decrease|improvement|worsening|progression|reduction|changes?|development|"
    r"placement|insertion|appearance|enlargement|removal|resolution|clearing|re-?expansion|"
    r"re-?accumulation|re-?positioning|advancement|exchange|extubation|recurrence|stability|"
    r"re-?demonstration|persistence)"
)
DEGREE = (
    r"(?:(?:no|slight|mild|significant|minimal|marked|further|continued|some|near|near-complete|"
    r"complete|partial|subtle|interval|relevant|appreciable|substantial|little|new|moderate|"
    r"overall|short-term|definite|major|other|great|gradual|ongoing|interim) )*"
)
DAY = (
    r"(?:(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve|\d+|a|an|a few|several) "
    r"(?:minutes?|hours?|days?|weeks?|months?|years?) (?:ago|prior|earlier|before)|_{2,}|x{3,}|"
    r"\d[\d/.:-]*(?: ?[ap]\.?m\.?)?(?! (?:minute|hour|day|week|month|year))|yesterday|earlier(?: "
    r"today)?|the (?:same|previous|prior) day|(?:january|february|march|april|may|june|july|august|"
    r"september|october|november|december)[ \d,]*)"
)
EXAM = (
    r"(?:(?:the|a|an|his|her|most|recent|prior|previous|earlier|preceding|last|old|older|outside|"
    r"available|multiple|immediate|immediately|next|initial|baseline|same|day|portable|frontal|"
    r"lateral|chest|ap|pa|ct|and|comparison|hospital|remote|several) )*"
    r"(?:radiographs?|radiography|x-?rays?|films?|study|studies|exam(?:ination)?s?|images?|imaging|"
    r"cxrs?|cts?|scans?|tomograms?|tomography|priors?|previous|one|baseline)"
    rf"(?:,? (?:(?:of|from|dated|performed on|performed|obtained|on|at|done|taken) )?{DAY})*"
)
EARLIER = rf"(?:{EXAM}|{DAY}|before|prior|previous|earlier|previously|admission|then)(?!\w)"
THAT = r"(?:(?:that|those) (?:of|on|seen on) |what was seen on )?"
COMPARED = (
    rf"(?:(?:as |when )?(?:compared|in comparison|relative|comparable)(?: (?:to|with)) "
    rf"{THAT}{EARLIER}|(?:since|from|as on|as seen on|on|than(?: (?:on|in|at|seen on))?) "
    rf"{THAT}{EARLIER}"
    r"|in the (?:interval|interim|meantime)|over (?:the )?(?:interval|time)|as (?:(?:seen|noted|"
    r"described|was|were) )?(?:before|previously)"
    rf"|(?:(?:which|that) (?:was|were) )?not (?:\w+ )?(?:seen|present|evident|visible|noted|"
    rf"identified) (?:(?:on|in|at) )?{EARLIER}|(?:seen|noted|present|described|identified|"
    rf"visuali[sz]ed) (?:(?:on|in|at) {EARLIER}|"
    r"previously|before|earlier))"
)
LEAD = re.compile(rf"^{COMPARED}\s*,?\s*(?=\w)", re.IGNORECASE)
WITHIN = re.compile(rf",\s+{COMPARED},(?=\s)|,?\s+{COMPARED}(?=\s|[,;)]|$)", re.IGNORECASE)
ATTRIBUTE = (
    r"(?:unchanged|stable|persistent|persisting|residual|recurrent|worsening|worsened|improving|"
    r"improved|increasing|decreasing|resolving|ongoing|continued|continuing|lingering|remaining|"
    r"new|newly (?:seen|placed|appeared|developed|noted)|newly|interval|unresolved|previously "
    r"(?:seen|noted|described|identified|visuali[sz]ed|demonstrated|present)|(?:in|de)creased(?= "
    r"(?:(?!with|and|in|at|of)[\w-]+ ){0,4}(?:effusion|pneumothora|o?edema|consolid|atelect|"
    r"pneumonia|cardiomeg|congest|nodul|mass)))"
)
ATTRIBUTES = re.compile(
    rf"(?<![\w-]){ADVERB}{ATTRIBUTE}(?:(?:,| and| or| to|,? but) {ADVERB}(?:{ATTRIBUTE}|smaller|"
    rf"larger|bigger))*,? "
    r"(?=(?!(?:and|or|to|but|from|in|since|with|on|at|as|than|which|over|of|by|after|given)\b)\w)",
    re.IGNORECASE,
)
ASIDES = re.compile(
    rf"\s*\({ADVERB}{STATE}{ASPECT}\)|(?:(?<=\bis)|(?<=\bare)|(?<=\bappears)) "
    rf"{ADVERB}{ATTRIBUTE},? (?:and|but)"
    r"(?= (?!(?:no|the|an?|there|is|are|has|have|remains?|appears?|not|as|so)\b)\w)"
    rf"|,?\s+(?:which|that) (?:{BE}|has|have) {ADVERB}(?:{STATE}|{DONE}){ASPECT}(?:,|(?=$))|"
    rf",?\s+(?:and|but) (?:(?:is|are|has|have|has been|have been|remains?|appears?) "
    rf")?{ADVERB}(?:{STATE}|{DONE}){ASPECT}(?=$|,)|,\s+(?:(?:is|are|has|have|has been|have been|"
    rf"remains?) )?{ADVERB}(?:{STATE}|{DONE}){ASPECT}"
    r"(?=$|[,)])"
    rf"|,?\s+(?:with|and|without|with no|and no) {DEGREE}changes?{ASPECT}(?=$|,)",
    re.IGNORECASE,
)
TIMES = re.compile(
    r"(?<=\w)\s+(?:once again|again|still|now)(?=\s(?:seen|noted|demonstrated|present|"
    r"visuali[sz]ed|identified|evident|visible|shown|a\b|an\b|the\b|is\b|are\b|has\b|in\b|at\b|"
    r"\w))|^(?:once again|again),\s+(?=\w)|^(?:once again|again|now|still),?\s+(?=(?:there|the|a|"
    r"an|heart)\b)|\s+(?:once again|again)$",
    re.IGNORECASE,
)
FIRST = re.compile(
    r"^(?:(?:once )?again|re-?demonstrated|still|unchanged|stable|new)(?: also)?(?: (?:seen|noted|"
    r"demonstrated|identified|visuali[sz]ed|present|evident))?,? (?P<be>is|are) (?P<subject>.+)$"
    r"|^(?:seen|noted) again (?:is|are) (?P<other>.+)$",
    re.IGNORECASE,
)
WORDS = (
    r"(?:(?!\b(?:is|are|was|were|has|have|had|there|which|that|remains?|persists?|shows?|may|could|"
    r"can|cannot|no|not|without|but|although|while|if)\b)[^,;:])+?"
)
NOUNS = rf"(?P<subject>{WORDS})"
REST = (
    r"(?P<rest>(?: (?!in (?:size|appearance|extent|the interval))(?:in|at|with|within|on|over|"
    r"projecting|along|and ends|overlying|of|after|following|despite)\b.*|,? (?:now )?(?:with|"
    r"involving|extending|occupying|located|centered|measuring)\b.*)?)"
)
PREDICATES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^{NOUNS}:? (?:{BE} )?{ADVERB}{STATE}{ASPECT}{REST}$",
        rf"^{NOUNS} (?:has|have) {ADVERB}(?:been )?{ADVERB}{DONE}{ASPECT}(?: (?:slightly|"
        rf"somewhat|significantly|markedly|further))?{REST}$",
        rf"^{NOUNS} (?:has|have|is|are) {ADVERB}(?:gone|resolved|cleared|disappeared|out){REST}$",
        rf"^{NOUNS} (?:persists?|remains?|recurs?|(?:shows?|demonstrates?) {DEGREE}{TURN}){REST}$",
        rf"^(?:(?:there(?: is| are| has been| have been| was|\u2019s been|'s been)|again seen "
        rf"is) )?{DEGREE}{TURN} (?:in|of) (?:(?:the )?(?:size|"
        r"extent|appearance|position|severity|degree|amount) of "
        r")?(?P<subject>[^,;]+?)(?P<rest>(?: without [^,;]+)?)$",
        rf"^{ADVERB}(?:stable|unchanged|similar|persistent|improved|no change in) (?:in )?(?:the )?"
        r"(?:overall )?(?:position(?:ing)?|appearance|size|extent|severity|configuration) of "
        r"(?P<subject>[^,;]+)(?P<rest>)$",
        r"^(?:the patient|he|she) (?:has|have) (?:now |since )?(?:received|undergone placement of|"
        r"had placement of) (?P<subject>[^,;]+)(?P<rest>)$",
    )
]
ONLY = re.compile(r"^(?:the )?(?:appearance|size|extent|position|degree|severity|amount) of ", re.I)
_STAYS = r"(?!(?:after|following|despite|since|with|without|but|and|even|although|as)\b)"
REMAINS = [
    (re.compile(pattern, re.IGNORECASE), said)
    for pattern, said in (
        (r"(?<=\bthere is )no longer (?:(?:any|an?|the) )?(?=\w)", "no "),
        (r"(?<=\bthere are )no longer (?:(?:any|the) )?(?=\w)", "no "),
        (rf"\b(?:remains|continues to be|has remained|has become)(?= {_STAYS}\w)", "is"),
        (rf"\b(?:remain|continue to be|have remained|have become)(?= {_STAYS}\w)", "are"),
    )
]
ARTICLE = re.compile(r"^(?:the|an?|this|these|those|his|her|its) ", re.IGNORECASE)
COUNTED = re.compile(r"^(?:multiple|several|some|two|three|four|both|many|few|\d)", re.IGNORECASE)
HEAD_END = re.compile(
    r" (?:of|in|at|with|within|on|to(?! (?:mild|moderate|severe|small|large|medium|marked))|from|"
    r"along|over|without|near|projecting|overlying|involving|seen|beneath|under|below|above|behind|"
    r"around|about|across|through|throughout|between|adjacent|into|extending|surrounding|for|by|"
    r"against|toward|measuring|following|despite|located|centered|as|noted|ending|terminating|"
    r"which|that|causing|after|due|bilaterally|possibly|likely|compatible|consistent)\b"
)
MASS = re.compile(
    r"(?:edema|atelectasis|cardiomegaly|pneumonia|consolidation|congestion|collapse|thickening|"
    r"fluid|air|disease|emphysema|scarring|fibrosis|enlargement|engorgement|widening|hardware|"
    r"blunting|loss|failure|overload|opacification|pneumomediastinum|aeration|elevation|"
    r"bronchopneumonia|prominence|hyperinflation|kyphosis|scoliosis|crowding|cuffing|"
    r"calcification|support|evidence|lung|COPD|CHF|ARDS|gas|blood|tension|tissue|material|"
    r"redistribution|hypertension|haziness|nodularity|tortuosity|\w+(?:pathy|megaly|osis|itis|"
    r"asis|ectasis|penia|cardia|inversus|ing|ation|ema|peritoneum|pericardium))$",
    re.IGNORECASE,
)
NO_THING = re.compile(
    r"\b(?:size|contours?|lungs?|volumes|appearance|position|silhouettes?|heart|examination|study|"
    r"chest|structures|patient|aeration|inspiration|exam|radiographs?|findings?|process|limits|"
    r"mediastinum|hila|hilum|aorta|trachea|diaphragms?|hemidiaphragms?|vasculature|vascularity|"
    r"spine|bones?|ribs|thorax|pleura|airways?|x{3,}|_{2,}|abnormalit(?:y|ies)|changes?|there|"
    r"here|picture|markings|tip|technique|angles?|borders?|shadow|clavicles?|shoulders?|views?|"
    r"side|course|base|bases|zones?|lobes?|apex|apices|fields?|region|area|hemithorax|space|level|"
    r"width|diameter|height|volume|impression|opinion|status|\w+ally)$|^(?:this|that|these|those|"
    r"it|they|there|he|she|which|all|other|others|most|much|part|some|all|both|each|either|"
    r"neither|bulk|majority|portion|half|component|parts|rest|remainder|no|not)\b",
    re.IGNORECASE,
)
ABNORMAL = re.compile(
    r"^(?:\w+ly )?(?:tortuous|hyperinflated|hyperexpanded|enlarged|dilated|calcified|ectatic|"
    r"unfolded|elevated|flattened|widened|deviated|prominent|low|crowded|engorged|distended|"
    r"blunted|degenerative|post-?surgical|post-?operative|fibrotic|emphysematous|chronic|"
    r"inflammatory|cystic|bullous|granulomatous|atelectatic|arthritic|reticular)\b",
    re.IGNORECASE,
)
VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|may|might|can|cannot|could|should|would|persists?|remains?|"
    r"shows?|appears?|ends?|lies|projects?|terminates?|demonstrates?|suggests?|represents?|"
    r"reflects?)\b",
    re.IGNORECASE,
)
SPLIT = re.compile(
    r";\s+(?:(?:however|additionally|moreover|also),?\s+)?|,?\s+(?:and|but|while|whereas|"
    r"although|however)\s+|,\s+(?:and\s+|but\s+)?",
    re.IGNORECASE,
)
NEW_CLAUSE = re.compile(
    rf"(?:no (?:evidence of )?{WORDS}\s(?:is|are|was|were|has|have)\b)|"
    rf"(?:there|it) (?:is|are|has|have|was|were)\b|{WORDS}\s(?:{VERB.pattern}|{ADVERB}{STATE}$)",
    re.IGNORECASE,
)
THOUGH = re.compile(r"^(?:although|though|while|whereas)\s+([^,]+),\s+(.+)$", re.IGNORECASE)
BROKEN = re.compile(
    r"[,;:]\s*[,;:.]|^\W*[,;]|\s[,.;]|\(\s*\)|\b(?:to|with|from|than|since|of|on|at|the|an?|and|"
    r"or|but|which|as|by|has|have|been|compared|again|significantly|slightly|is|are|was|were|not|"
    r"no|in|newly|interval|also|some|more|less|better|worse)\s*(?:[.,;]|$)|\b(\w+) \1\b|\ba "
    r"(?=[aeio])|\ban (?=[b-df-gj-np-tv-z][a-z])|\b(?:a|an|the) (?:a|an|the|is|are|has|have|and|"
    r"or|of|in|at|there)\b|\ba \w+ly (?:of|in)\b|\b(?:and|or|but|overall|grossly) of\b|\b(?:is|"
    r"are) given\b|^(?:appearance|position(?:ing)?|size|extent|degree|aeration) of\b|^(?:is|are|"
    r"and|or|but|than|from|of|to)\b|^no (?:this|that|these|it|no|the)\b|\b(?:is|are) "
    r"(?:indicates?|represents?|suggests?|may|which|and|or|but|from|in size)\b|\b(?:is|are) "
    r"no\b[^,;.]*\b(?:is|are)\b|\bno (?:an?|any|both|most|some|all)\b|\b(?:is|are|has|have) "
    r"(?:remains?|appears?|persists?|after|following|despite|stays?)\b|\binterval (?:of|in)\b|"
    r"\bhowever\s*[.,]?$|^however\b|(?:^|, )(?:as|so|nor|neither|and so) (?:is|are|has|have|was|"
    r"were)\b"
    rf"|^there (?:is|are) .*\b(?:but|and) (?:{STATE}|{DONE})\b|:\s*[.]"
    r"|\bin position,|\bago\b|\bto from\b|\bin (?:size|extent) (?!and|or|of|from|with|at|on|to)\w|"
    r"\b(?:is|are|has|have) (?:is|are|has|have|there)\b|\bthere (?:is|are) (?:there|the )",
    re.IGNORECASE,
)
#: One subject, two predicates: the first compares, the second is kept.
AND_THEN = re.compile(
    rf"^(?P<subject>{WORDS}) (?:(?:has|have) {ADVERB}(?:been )?{ADVERB}(?:{DONE}|{STATE}|retracted|"
    rf"pulled back)|{BE} {ADVERB}{STATE}){ASPECT},? (?:and|but) (?:it )?(?P<verb>{ADVERB}(?:is|are|"
    r"remains?|ends?|terminates?|lies|projects?|overlies|measures?|appears?|has|have|shows?|"
    r"extends?)"
    r"\b|(?=enlarged|tortuous|normal|within))(?P<rest>.+)$",
    re.IGNORECASE,
)
#: "..., as is the effusion": what is said of one thing is said of another.
ALIKE = re.compile(
    r"^(?P<first>.+?),? (?:and )?(?:as|so|nor|neither) (?:is|are|has|have|was|were|do|does) "
    r"(?P<other>[^,;]+)$",
    re.IGNORECASE,
)
ALIKE_FIRST = re.compile(
    r"^(?:as|like) (?:is|are|has|have|was|were) (?P<other>[^,;]+), (?P<first>.+)$", re.IGNORECASE
)
#: "..., now moderate": how much of it there is.
NOW_DEGREE = re.compile(
    r"^(?P<first>.+?),? (?:and )?(?:(?:is|are) )?now (?P<degree>(?:tiny|trace|small|minimal|mild|"
    r"moderate|severe|large|massive)(?:(?: to |-to-)(?:small|mild|moderate|severe|large))?)"
    r"(?: in (?:size|extent|severity))?$",
    re.IGNORECASE,
)
