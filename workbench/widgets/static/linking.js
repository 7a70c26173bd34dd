// A chest from two sides: a place of one view is a line in the other, and a lesion lights up in both.
import { clamp, make, replace, toggle } from "./common.js";
import { boxOf } from "./outlines.js";

// panels: frontal and lateral; lines: from each to the other, matrices (3, 3) that take (x, y, 1) to
// the line a x + b y + c = 0.
export class Linked {
  constructor(panels, lines) {
    this.panels = panels;
    this.lines = lines;
    this.kept = null; // the lesion that was clicked
    this.chips = [];
    panels[1].empty("Not read by the model. A place of one view lies on the line in the other.");
    panels.forEach((panel, at) => {
      panel.linked = (x, y) => this.point(at, x, y);
      let down = [0, 0]; // a drag that ends on a lesion is no click
      panel.radiograph.canvas.addEventListener("pointerdown", (event) => { down = [event.clientX, event.clientY]; });
      panel.radiograph.canvas.addEventListener("click", (event) => {
        if (Math.hypot(event.clientX - down[0], event.clientY - down[1]) < 4) this.keep(this.under);
      });
    });
  }

  // Buttons of the lesions, for those who do not point.
  write(truth) {
    this.truth = truth;
    if (!truth) this.kept = null;
    const names = truth ? [...new Set(this.panels.flatMap(({ facts }) => facts.truth.map(({ name }) => name)))] : [];
    this.chips = names.map((name) => ({ name, ...toggle(name, false, (on) => this.keep(on ? name : null), {
      class: "wb-button wbx-chip", title: "Light this lesion in both views" }) }));
    replace(this.panels[1].below, names.length
      ? [make("span", { class: "wb-label" }, "Truth, in both views"), this.chips.map(({ element }) => element)]
      : make("span", { class: "wbx-details" }, "Truth outlines what is there, in both views."));
    this.light();
  }

  keep(name) {
    this.kept = name === this.kept ? null : name ?? null;
    const named = ({ facts }) => facts.truth.find((one) => one.name === this.kept);
    const from = this.panels.findIndex(named);
    if (!this.under) this.cross(from, ...(from < 0 ? [] : middleOf(named(this.panels[from]))));
    this.light();
  }

  // What the pointer is at; null beside the image.
  point(at, x, y) {
    const { width, height } = this.panels[at].facts.radiograph;
    const inside = x !== null && x >= 0 && y >= 0 && x < width && y < height;
    this.under = inside && this.truth ? lesionAt(this.panels[at].facts.truth, x, y) : null;
    this.cross(inside ? at : -1, x, y);
    this.light();
  }

  // A cross where one points, and in the other view the line on which the same place is seen.
  cross(from, x, y) {
    this.panels.forEach(({ radiograph, facts }, at) => {
      const arm = facts.radiograph.width / 40;
      radiograph.marks = from < 0 ? [] : at === from ? [[x - arm, y, x + arm, y], [x, y - arm, x, y + arm]]
        : [acrossOf(this.lines[from], x, y, facts.radiograph.width)];
      radiograph.redraw();
    });
  }

  light() {
    const lit = this.under ?? this.kept;
    for (const { radiograph } of this.panels) { radiograph.lit = lit; radiograph.redraw(); }
    for (const { name, set } of this.chips) set(name === lit);
  }
}

// The line of a point across an image of a width: [x, y, x, y].
function acrossOf(lines, x, y, width) {
  const [a, b, c] = lines.map((row) => row[0] * x + row[1] * y + row[2]);
  return [0, -c / b, width, -(a * width + c) / b];
}

// The smallest lesion around a point; null for none.
function lesionAt(truth, x, y) {
  const found = truth.filter(({ paths }) => paths.filter((path) => around(path, x, y)).length % 2);
  const area = ({ paths }) => { const [left, top, right, bottom] = boxOf(paths); return (right - left) * (bottom - top); };
  return found.sort((one, other) => area(one) - area(other))[0]?.name ?? null;
}

function around(path, x, y) {
  let inside = false;
  for (let at = 0, last = path.length - 2; at < path.length; last = at, at += 2) {
    const [u, v, p, q] = [path[at], path[at + 1], path[last], path[last + 1]];
    if ((v > y) !== (q > y) && x < ((p - u) * (y - v)) / (q - v) + u) inside = !inside;
  }
  return inside;
}

function middleOf({ paths }) {
  const [left, top, right, bottom] = boxOf(paths);
  return [(left + right) / 2, (top + bottom) / 2];
}

// The view of the second image: the same zoom, height and window, its own place sideways.
export function besideOf(view) {
  let x = 0.5;
  const margin = () => Math.min(0.5, 0.5 / view.zoom);
  return new Proxy(view, {
    get: (shared, name) => (name === "x" ? clamp(x, margin(), 1 - margin()) : name === "model" ? false : shared[name]),
    set: (shared, name, value) => {
      if (name === "x") x = value; else shared[name] = value;
      if (name === "zoom") shared.x = clamp(shared.x, margin(), 1 - margin());
      return true;
    },
  });
}
