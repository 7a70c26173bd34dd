"""When a page has nothing left to draw, and what of it is then seen without scrolling."""

from __future__ import annotations

#: The screens of a small laptop, a usual one and a projector.
SCREENS = [(1280, 720), (1440, 900), (1920, 1080)]

#: For each selector the elements that are not wholly seen, with their boxes; those that are not
#: there at all are named too.
_HIDDEN = """(selectors) => selectors.flatMap((selector) => {
  const found = [...document.querySelectorAll(selector)].filter((e) => e.getClientRects().length);
  if (!found.length) return [selector + " is not there"];
  return found.filter((element) => {
    const box = element.getBoundingClientRect();
    let [left, top, right, bottom] = [0, 0, window.innerWidth, window.innerHeight];
    for (let around = element.parentElement; around; around = around.parentElement) {
      if (getComputedStyle(around).overflowY === "visible") continue;
      const frame = around.getBoundingClientRect();
      [left, top] = [Math.max(left, frame.left), Math.max(top, frame.top)];
      [right, bottom] = [Math.min(right, frame.right), Math.min(bottom, frame.bottom)];
    }
    const inside = box.left >= left - 1 && box.top >= top - 1 && box.right <= right + 1 &&
      box.bottom <= bottom + 1;
    const over = document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2);
    return !inside || !(element.contains(over) || over?.contains(element));
  }).map((element) => selector + " " + JSON.stringify(element.getBoundingClientRect()));
})"""

#: Resolves once fonts are there, animations are over, Python owes no answer, no picture is being
#: decoded, and words, layout and pixels have been the same for a while and several frames; says
#: what still changes after `limit`.
_SETTLED = """({calm, frames, limit}) => new Promise((done, fail) => {
  const pixels = (canvas) => {
    if (!canvas.width || !canvas.height) return 0;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let sum = 0;
    for (const value of new Uint32Array(data.buffer)) sum = (Math.imul(sum, 31) + value) | 0;
    return sum;
  };
  const ends = (one) => one.playState === "running" &&
    Number.isFinite(one.effect?.getComputedTiming().endTime);
  const looks = () => ({
    fonts: document.fonts.status,
    moving: document.getAnimations().filter(ends).length,
    owed: (window.owed?.size ?? 0) + (window.decoding ?? 0),
    words: document.body.innerHTML,
    layout: [...document.querySelectorAll("body, canvas, button, p")].map((one) => {
      const {x, y, width, height} = one.getBoundingClientRect();
      return [x, y, width, height].join();
    }).join(" "),
    pixels: [...document.querySelectorAll("canvas.wbf-canvas")].map(pixels).join(),
  });
  const begun = performance.now();
  let [last, since, alike] = [null, begun, 0];
  const look = () => {
    const [now, seen] = [performance.now(), looks()];
    const other = Object.keys(seen).filter((name) => last === null || seen[name] !== last[name]);
    const busy = seen.fonts !== "loaded" || seen.moving || seen.owed;
    if (busy || other.length) [since, alike] = [now, 0]; else alike += 1;
    last = seen;
    if (alike >= frames && now - since >= calm) done();
    else if (now - begun > limit) fail(new Error(`still changes: ${other}; owed: ${seen.owed}`));
    else requestAnimationFrame(look);
  };
  look();
})"""


def settled(page, *, calm: int = 100, frames: int = 4, limit: int = 30_000) -> None:
    """Wait until a page has nothing left to draw.

    Args:
        page: of Playwright.
        calm: milliseconds for which nothing may have changed.
        frames: and as many frames.
        limit: milliseconds after which a page that still changes is an error.
    """
    page.evaluate(_SETTLED, {"calm": calm, "frames": frames, "limit": limit})


def at_each(page, screens=SCREENS):
    """Give a page the size of one screen after another, and yield each size."""
    for width, height in screens:
        page.set_viewport_size({"width": width, "height": height})
        yield width, height


def hidden(page, *selectors: str) -> list[str]:
    """Return what is not wholly seen of the elements, at least one of each selector being there."""
    settled(page)
    return page.evaluate(_HIDDEN, list(selectors))


def scrolls(page) -> bool:
    """Return whether a settled page is longer or wider than the screen."""
    return page.evaluate("""() => { const page = document.documentElement;
        return page.scrollHeight > window.innerHeight || page.scrollWidth > window.innerWidth; }""")


def box(page, selector: str) -> dict:
    """Return the box of the first element of a settled page."""
    return page.locator(selector).first.bounding_box()
