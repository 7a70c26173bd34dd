"""How long from a click in the explorer to a drawn map, beside the bare computation?

    OMP_NUM_THREADS=1 python benchmarks/explorer.py --json explorer.json

In the page (Chromium, no Jupyter): from the click on a word to its map on the canvas, the wait for
the next frame included, against averaging, colouring and drawing alone. In Python: from the page's
message to the answer, as it would go over the wire, against the same call of
`wb.saliency.explain`. Attention is recorded in the trace of a report by `mini` about a phantom.
Ratios are medians over rounds, each taken within one round.

Exit code 1 where a click takes 150 ms or more, or a map by relevancy 1.5 times the bare call.

Does not know: how long a notebook server takes to hand a message on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLICK_MS, MAP_RATIO = 150.0, 1.5

BARE = """async ([esm, state]) => {
  const url = URL.createObjectURL(new Blob([esm], {type: "text/javascript"}));
  const {default: parts} = await import(url);
  window.parts = parts;
  window.rows = parts.unpack(state.sides[0].passages[0].rows);
  window.tables = {one: parts.bytesOf(state.tables.one), two: parts.bytesOf(state.tables.two)};
}"""

ROUND = """async (number) => {
  const words = document.querySelectorAll(".wbx-word");
  const word = words[number % words.length];
  word.scrollIntoView({block: "nearest"});
  await new Promise((done) => setTimeout(done, 120));
  const box = word.getBoundingClientRect();
  const at = {bubbles: true, button: 0, clientX: box.left + 3, clientY: box.top + box.height / 2};
  const began = performance.now();
  word.dispatchEvent(new PointerEvent("pointerdown", at));
  await new Promise((done) => requestAnimationFrame(done));
  const radiograph = document.querySelector(".wbf-canvas");
  radiograph.getContext("2d").getImageData(0, 0, 1, 1);
  const click = performance.now() - began;
  word.dispatchEvent(new PointerEvent("pointerup", at));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, {width: radiograph.width, height: radiograph.height});
  const start = performance.now();
  const map = window.parts.meanOf(window.rows, [number % window.rows.shape[0]]);
  const shown = window.parts.mapCanvas(map, {tables: window.tables, signed: false});
  canvas.getContext("2d").drawImage(radiograph, 0, 0);
  canvas.getContext("2d").drawImage(shown.canvas, 0, 0, radiograph.width, radiograph.height);
  canvas.getContext("2d").getImageData(0, 0, 1, 1);
  return {click_ms: click, bare_ms: performance.now() - start};
}"""


def main() -> int:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import workbench as wb

    case = wb.phantom(seed=7, findings=["pleural effusion"])
    widget = wb.explore(wb.load_model("mini"), case)
    widget.sides[0].ensure_report()
    result = {"rounds": options.rounds, "python": python_side(widget, options.rounds)}
    result["page"] = page_side(widget, options.rounds)
    page, relevancy = result["page"], result["python"]["relevancy"]
    result["ok"] = (page is None or page["click_ms"] < CLICK_MS) and relevancy["ratio"] < MAP_RATIO
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if result["ok"] else 1


def python_side(widget, rounds: int) -> dict:
    """Time questions to a widget and the bare calls in turn."""
    import workbench as wb

    trace = widget.sides[0].passages[0].trace
    sent: list = []
    widget.send = lambda content, buffers=None: sent.append(json.dumps(content))

    def answered(name: str, method: str, choice: dict) -> float:
        widget._maps.clear()
        began = time.perf_counter()
        widget._receive(
            {"id": 1, "ask": name, "method": method, "passage": 1, "choice": choice, "side": 0}
        )
        widget.worker.wait()
        return time.perf_counter() - began

    def bare(method: str, **choice) -> float:
        began = time.perf_counter()
        wb.saliency.explain(trace, method=method, **choice)
        return time.perf_counter() - began

    finding = "pleural effusion"
    found = {}
    for name, method in (("look", "attention"), ("map", "relevancy"), ("map", "input_x_gradient")):
        bare(method, finding=finding)
        pairs = [
            (answered(name, method, {"finding": finding}), bare(method, finding=finding))
            for _ in range(rounds)
        ]
        found[method] = summary([(1000 * a, 1000 * b) for a, b in pairs], "answer_ms")
        found[method]["answer_bytes"] = len(sent[-1])
    return found


def page_side(widget, rounds: int) -> dict | None:
    """Time clicks in a bare page; None without playwright or Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        return None
    from tests.widgets.conftest import Bare
    from workbench._repr import plain

    esm = str(widget._esm).replace(
        "export default { render };", "export default { meanOf, mapCanvas, unpack, bytesOf };"
    )
    state = plain(widget.state())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = Bare(browser).live(widget)
        page.wait_for_selector(".wbx-maptitle", timeout=60_000)
        page.evaluate(BARE, [esm, state])
        rows = [page.evaluate(ROUND, number) for number in range(rounds + 2)][2:]
        browser.close()
    return summary([(row["click_ms"], row["bare_ms"]) for row in rows], "click_ms")


def summary(pairs: list[tuple[float, float]], name: str) -> dict:
    """Return medians, and the median of the ratios of each round."""
    return {
        name: round(statistics.median(first for first, _ in pairs), 2),
        "bare_ms": round(statistics.median(second for _, second in pairs), 2),
        "ratio": round(statistics.median(first / second for first, second in pairs), 3),
        "slowest_ms": round(max(first for first, _ in pairs), 2),
    }


if __name__ == "__main__":
    sys.exit(main())
