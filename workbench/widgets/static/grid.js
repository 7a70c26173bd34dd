// A list as a grid of small radiographs, through which arrows walk.
import { clamp, make } from "./common.js";

const KEPT_THUMBNAILS = 600;

// Small radiographs, asked for one by one and kept; stop() takes back what has not come.
export function thumbnailsOf(front) {
  const kept = new Map();
  const fetched = ({ n, source, id }) => {
    const key = JSON.stringify([source, id]);
    if (!kept.has(key)) {
      const asked = front.ask("thumbnail", { n });
      const own = { asked, answer: asked.finally(() => { own.asked = null; }) };
      own.answer.catch(() => kept.delete(key));
      kept.set(key, own);
      if (kept.size > KEPT_THUMBNAILS) kept.delete(kept.keys().next().value);
    }
    return kept.get(key).answer;
  };
  return {
    element(row) {
      const image = make("img", { class: "rev-small", alt: `Radiograph ${row.id}` });
      fetched(row).then((answer) => {
        if (answer.none) image.replaceWith(make("span", { class: "rev-small" }, "no image"));
        else image.src = `data:image/png;base64,${answer.radiograph.png}`;
      }, () => {});
      return image;
    },
    stop() { for (const { asked } of kept.values()) asked?.cancel(); },
  };
}

// Moves the focus among the entries of the list by an arrow, Home, End, or "Here": to the one that is
// shown. Returns whether it is such a key.
export function walk(list, key) {
  const items = [...list.querySelectorAll(".rev-item")];
  const across = items.filter((one) => one.offsetTop === items[0].offsetTop).length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -items.length, End: items.length, Here: 0 }[key];
  if (by === undefined || !items.length) return false;
  const at = items.indexOf(document.activeElement);
  const here = Math.max(0, items.findIndex((one) => one.hasAttribute("aria-current")));
  items[at < 0 ? here : clamp(at + by, 0, items.length - 1)].focus();
  return true;
}
