// Boxes that a person draws on a radiograph, by pointer or keys, with a finding or none, in pixels of the
// original. The radiograph asks this tool first for drags and keys while it is on.
import { button, clamp, make, replace, toggle } from "./common.js";

const SHORTEST = 4; // pixels of the page: a shorter drag is a click
const CORNER = 9; // pixels of the page around a corner
const [BOX_COLOUR, BOX_CHOSEN] = ["#ffb347", "#ffffff"];

export const BOX_KEYS = [
  ["x", "draw boxes on the image: drag; a click chooses one, drag it or a corner"],
  ["on the image", "Enter adds a box; arrows move it, with Shift its size; Delete, Ctrl+Z undo, Esc"],
];

// set(text, about, findings, which): shows boxes (JSON as in a manifest) of a thing; new ones are about one of
// the findings, or "". value(): as JSON.
export function boxTool(radiograph, changed) {
  let [boxes, at, findings, own, past, drag, shown] = [[], -1, [], "", [], null, null];
  const list = make("div", { class: "desk-boxes", role: "group", "aria-label": "Boxes" });
  const mode = toggle("Box", false, (on) => { tool.on = on; at = -1; draw(); if (on) radiograph.canvas.focus({ preventScroll: true }); },
    { title: "Draw boxes on the image (x)" });
  const size = () => [radiograph.radiograph?.width ?? 1, radiograph.radiograph?.height ?? 1];
  const page = () => { // pixels of the radiograph for one of the page
    const { width, height } = radiograph.canvas.getBoundingClientRect();
    return radiograph.radiograph && width ? 1 / radiograph.transform(width, height).scale : 0;
  };
  const value = () => (boxes.length ? JSON.stringify(boxes.map(({ finding, height, width, x, y }) => ({ finding, height, width, x, y }))) : "");
  const keep = (before) => { if (before !== value()) { past.push(before); changed(); } };
  const act = (change) => { const before = value(); change(); keep(before); draw(); };
  const undo = () => { if (past.length) { boxes = boxesIn(past.pop()); at = -1; changed(); draw(); } };
  const drop = (n) => act(() => { boxes.splice(n, 1); at = -1; });
  // A box between two corners, cut to the radiograph, to hundredths of a pixel.
  const between = ([x, y], [far, low], finding) => {
    const [width, height] = size();
    const [left, right] = [Math.min(x, far), Math.max(x, far)].map((one) => clamp(one, 0, width));
    const [top, bottom] = [Math.min(y, low), Math.max(y, low)].map((one) => clamp(one, 0, height));
    return { finding, x: hundredths(left), y: hundredths(top), width: hundredths(right - left), height: hundredths(bottom - top) };
  };
  const moved = (box, right, down) => ({ ...box, x: hundredths(clamp(box.x + right, 0, size()[0] - box.width)), y: hundredths(clamp(box.y + down, 0, size()[1] - box.height)) });
  const corners = ({ x, y, width, height }) => [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
  const holds = ({ x, y, width, height }, [px, py]) => px >= x && px <= x + width && py >= y && py <= y + height;

  const draw = () => {
    const reach = page() * 3;
    radiograph.outlines = boxes.map((box, n) => ({ name: box.finding || `box ${n + 1}`, colour: n === at ? BOX_CHOSEN : BOX_COLOUR,
      paths: [closedPath(corners(box)), ...(n === at ? corners(box).map(([x, y]) => closedPath([[x - reach, y - reach], [x + reach, y - reach], [x + reach, y + reach], [x - reach, y + reach]])) : [])] }));
    radiograph.redraw();
    if (drag) return; // the page stays as it is under a drag
    list.hidden = !tool.on && !boxes.length;
    const inside = list.contains(document.activeElement);
    replace(list, past.length > 0 && button("Undo box", undo, { class: "wb-button wb-small", title: "Undo the last change of boxes (Ctrl+Z on the image)" }),
      boxes.length ? boxes.map(row) : "Drag on the image; Enter adds a box.");
    const chip = list.querySelector(".desk-box-on");
    if (chip) list.scrollLeft = chip.offsetLeft + chip.offsetWidth - list.clientWidth;
    if (inside) (list.querySelectorAll("select")[at] ?? radiograph.canvas).focus({ preventScroll: true });
  };
  const row = (box, n) => {
    const select = make("select", { class: "wb-select", "aria-label": `Finding of box ${n + 1}`,
      on: { change: () => act(() => { boxes[n] = { ...box, finding: select.value }; at = n; }) } },
    ["", ...findings].map((name) => make("option", { value: name }, name || "unnamed")));
    select.value = box.finding;
    return make("span", { class: `desk-box${n === at ? " desk-box-on" : ""}` },
      button(`${n + 1}`, () => { at = n; mode.set(true); tool.on = true; draw(); radiograph.canvas.focus({ preventScroll: true }); },
        { class: "wb-button wb-small", "aria-label": `Choose box ${n + 1}`, title: `${Math.round(box.width)} \u00d7 ${Math.round(box.height)} pixels` }), select,
      button("\u00d7", () => drop(n), { class: "wb-button wb-small", "aria-label": `Delete box ${n + 1}` }));
  };

  const tool = {
    on: false, list, toggle: mode, value,
    set(text, about, names, which) {
      if (which === shown && text === value()) return; // what is chosen, and undo, stay
      [boxes, at, own, findings, past, shown] = [boxesIn(text), -1, about, names, [], which];
      draw();
    },
    start(point) {
      const corner = at < 0 ? -1 : corners(boxes[at]).findIndex(([x, y]) => Math.hypot(x - point[0], y - point[1]) < CORNER * page());
      const before = value();
      if (corner >= 0) drag = { before, from: corners(boxes[at])[(corner + 2) % 4], finding: boxes[at].finding };
      else if (at >= 0 && holds(boxes[at], point)) drag = { before, point, box: boxes[at] };
      else { at = -1; drag = { before, from: point, finding: own, fresh: true }; }
    },
    move(point) {
      if (drag.box) boxes[at] = moved(drag.box, point[0] - drag.point[0], point[1] - drag.point[1]);
      else {
        const far = drag.fresh && at < 0 && Math.hypot(point[0] - drag.from[0], point[1] - drag.from[1]) < SHORTEST * page();
        if (far) return;
        if (drag.fresh && at < 0) at = boxes.push({}) - 1;
        boxes[at] = between(drag.from, point, drag.finding);
      }
      draw();
    },
    end() {
      const { before, fresh, from } = drag;
      drag = null;
      if (fresh && at < 0) { // a click chooses the smallest box there
        const hit = boxes.map((box, n) => [box.width * box.height, n]).filter(([, n]) => holds(boxes[n], from)).sort((a, b) => a[0] - b[0])[0];
        at = hit ? hit[1] : -1;
      }
      boxes = boxes.filter(({ width, height }) => width > 0 && height > 0);
      at = Math.min(at, boxes.length - 1);
      keep(before);
      draw();
    },
    // Whether a key on the radiograph was for the boxes.
    key(event) {
      if (!tool.on || !radiograph.values || event.altKey || event.defaultPrevented) return false;
      const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const step = Math.max(1, Math.round(size()[0] / 200));
      if ((event.ctrlKey || event.metaKey) && event.key === "z") undo();
      else if (event.ctrlKey || event.metaKey) return false;
      else if (event.key === "Enter") {
        const { width, height } = radiograph.canvas.getBoundingClientRect();
        const { scale, across, dx, dy } = radiograph.transform(width, height);
        const spot = (share) => [(share * width - dx) / across, (share * height - dy) / scale];
        act(() => { at = boxes.push(between(spot(0.4), spot(0.6), own)) - 1; });
      } else if (at < 0) {
        if (event.key !== "Escape") return false;
        mode.set(false);
        tool.on = false;
      } else if (event.key === "Escape") { at = -1; draw(); }
      else if (event.key === "Delete" || event.key === "Backspace") drop(at);
      else if (ways && event.shiftKey) act(() => { const { x, y, width, height, finding } = boxes[at]; boxes[at] = between([x, y], [Math.max(x + 1, x + width + step * ways[0]), Math.max(y + 1, y + height + step * ways[1])], finding); });
      else if (ways) act(() => { boxes[at] = moved(boxes[at], step * ways[0], step * ways[1]); });
      else return false;
      event.preventDefault();
      event.stopPropagation();
      return true;
    },
  };
  return tool;
}

function boxesIn(text) { return text ? JSON.parse(text) : []; }
function hundredths(number) { return Math.round(number * 100) / 100; }
function closedPath(points) { return [...points, points[0]].flat(); }
