"""What of a page is seen without scrolling: whole boxes, covered and cut off by nothing."""

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


def hidden(page, *selectors: str) -> list[str]:
    """Return what is not wholly seen of the elements, at least one of each selector being there."""
    return page.evaluate(_HIDDEN, list(selectors))


def scrolls(page) -> bool:
    """Return whether the page is longer or wider than the screen."""
    return page.evaluate("""() => { const page = document.documentElement;
        return page.scrollHeight > window.innerHeight || page.scrollWidth > window.innerWidth; }""")


def box(page, selector: str) -> dict:
    """Return the box of the first element."""
    return page.locator(selector).first.bounding_box()
