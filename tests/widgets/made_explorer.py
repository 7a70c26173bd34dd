"""A made-up explorer without a model: what a page gets, and a Python of a few lines of script."""

from __future__ import annotations

import re

import numpy as np

from workbench.figures.words import FULL
from workbench.radiograph import Radiograph
from workbench.widgets._front import script, styles
from workbench.widgets.explorer import DEFAULTS
from workbench.widgets.explorer_side import method_list
from workbench.widgets.radiographs import (
    colour_tables,
    grid_of,
    model_view_of,
    outlines_of,
    radiograph_of,
)

TEXT = "There is a left effusion. No <b>pneumothorax</b> \U0001fac1 seen."
FINDINGS = (("pleural effusion", "present", "left", "left effusion"),
            ("pneumothorax", "absent", None, "pneumothorax"))  # fmt: skip

#: Answers at once, but to `map` only when told: window.finish(), and to `hold` never.
PYTHON = """
window.python_state ??= STATE;
const say = (message) => reply({id: content.id, ...message});
window.asked ??= [];
window.cancelled ??= [];
if (content.cancel) {
  window.cancelled.push(content.cancel);
  reply({id: content.cancel, cancelled: true});
  return;
}
window.asked.push(content);
const [first] = window.python_state.sides;
const text = (number, kind, question) => ({...first.passages[0], number, kind, question});
if (["state", "texts"].includes(content.ask)) say({answer: structuredClone(window.python_state)});
else if (content.ask === "keep") say({answer: {}});
else if (content.ask === "look") say({answer: {title: "attention: said",
  details: "mean of all layers", unit: "share of attention", share: 0.5, signed: false,
  caution: content.choice.finding ? "much like others" : null}});
else if (content.ask === "rows") say({answer: window.python_state.sides[0].passages[0].rows});
else if (content.ask === "map") {
  const answer = {grid: GRID, signed: content.method !== "relevancy", details: "made",
    title: content.method + ": said", unit: "change of log-probability",
    caution: content.method === "smoothgrad" ? "fails the randomisation check" : null};
  reply({id: content.id, progress: {done: 16, total: 256, text: "16 images of 256"}});
  if (content.method === "relevancy" || window.hasty) say({answer});
  else window.finish = () => say({answer});
} else if (content.ask === "ground") say({answer: {words: CONTRIBUTIONS}});
else if (content.ask === "write" || content.ask === "ask") {
  for (const piece of ["No ", "pneumo", "thorax."]) reply({id: content.id, piece});
  const number = 10 + window.asked.length;
  const kind = content.ask === "ask" ? "answer" : "sample";
  const passage = text(number, kind, content.question ?? "");
  window.finish_text = () => { window.python_state.sides[0].passages.push(passage);
    window.python_state.revision += 1;
    say({answer: {passage, revision: window.python_state.revision}}); };
  if (window.hasty) window.finish_text();
} else if (content.ask === "page") say({answer: {html: "<p>page</p>"}});
else say({failure: "unknown", kind: "OptionError"});
"""


def made_state(*, sides: int = 1, texts: bool = True, **settings) -> dict:
    """Return a state as `Explorer.state` would."""
    return {
        "revision": 0,
        "settings": DEFAULTS | settings,
        "tables": colour_tables(),
        "full": FULL,
        "sides": [_side(f"radiograph {n}" if sides > 1 else "", n, texts) for n in range(sides)],
    }


def _side(name: str, seed: int, texts: bool) -> dict:
    ramp = np.linspace(0, 255, 96 * 64).reshape(96, 64).astype(np.uint8)
    radiograph = Radiograph.from_array(ramp, source=f"radiograph <i>{seed}</i>.png")
    mask = np.zeros((96, 64), bool)
    mask[60:80, 30:50] = True
    return {
        "name": name,
        "closed": "",
        "radiograph": radiograph_of(radiograph),
        "seen": model_view_of(radiograph, radiograph.geometry(64)),
        "truth": outlines_of({"pleural effusion": mask}),
        "methods": method_list("none"),
        "layers": 3,
        "heads": 2,
        "passages": [made_passage(seed)] if texts else [],
        "contributions": {},
    }


def made_passage(seed: int = 0) -> dict:
    """Return a text with a token for each word."""
    spans = [match.span() for match in re.finditer(r"\S+", TEXT)]
    rows = np.random.default_rng(seed).random((len(spans), 4, 4)) ** 4 / 16
    between = np.tril(np.tile(np.arange(1, 1 + len(spans)) / 100, (len(spans), 1)), -1)
    stop = TEXT.index(".") + 1
    return {
        "number": 1,
        "kind": "report",
        "question": "",
        "text": TEXT,
        "offsets": [list(span) for span in spans],
        "words": [{"start": a, "end": b, "probability": 0.4 + 0.06 * n}
                  for n, (a, b) in enumerate(spans)],
        "sentences": [[0, stop], [stop + 1, len(TEXT)]],
        "findings": [
            {"finding": name, "code": code, "side": side, "start": TEXT.index(words),
             "end": TEXT.index(words) + len(words)}
            for name, code, side, words in FINDINGS
        ],
        "warnings": [{"code": "out-of-domain", "message": "not <u>this</u> kind of radiograph"}],
        "origin": "made, greedy, 0.1 s",
        "rows": {"layer": None, "head": None, **grid_of(rows)},
        "between": grid_of(between),
    }  # fmt: skip


def made_python(state: dict) -> str:
    """Return the JavaScript that stands for Python, with what it holds."""
    import json

    from workbench._repr import plain

    signed = np.linspace(-1, 1, 36).reshape(6, 6)
    words = len(TEXT.split())
    held = {
        "STATE": state,
        "GRID": grid_of(signed),
        "CONTRIBUTIONS": np.linspace(-3, 3, words).tolist(),
    }
    code = PYTHON
    for name, value in held.items():
        code = code.replace(name, json.dumps(plain(value)), 1)
    return code


def open_made(bare, *, state: dict | None = None, **options):
    """Open a page with a made-up explorer and wait for its words."""
    state = made_state() if state is None else state
    page = bare(
        script("explorer.js"),
        styles("radiograph.css", "explorer.css"),
        {"title": "Explorer", "notice": "made up, not for clinical use"},
        python=made_python(state),
        **options,
    )
    return page
