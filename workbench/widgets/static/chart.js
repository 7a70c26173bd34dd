// Curves over steps as SVG, with axes, a cursor for mouse and keys, and marks that are not colours.
// Does not know what is drawn.
import { drawn, put } from "./common.js";

const CHART = { left: 78, right: 30, top: 30, bottom: 16, axis: 30 }; // at letters of 17 px

// Round numbers between two ends, about `wanted` of them.
export function ticksBetween(low, high, wanted) {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) found.push(at * step || 0);
  return found;
}

// Powers of ten between two ends, with 2 and 5 where there are few.
function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const one of [1, 2, 5]) {
      const value = one * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  }
  return found.length > 7 ? found.filter((value) => Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-9) : found;
}

export function numberText(value, digits = 3) {
  if (value === null || value === undefined) return "unknown";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(size < 1e-3 ? 1 : 2).replace("e+", "e");
  return String(Number(value.toPrecision(digits + (size >= 100 ? 1 : 0))));
}

// Points under an exponential moving average (weight of what came before: 0 to below 1), which the first
// points do not pull to 0: divided by the weights that they have so far, as TensorBoard does.
export function smoothed(points, weight) {
  let [mean, left] = [0, 1];
  return points.map(([x, y]) => {
    mean = weight * mean + (1 - weight) * y;
    left *= weight;
    return [x, mean / (1 - left)];
  });
}

// One chart. lines: [{points: [[x, y]], label, second, faint}], second ones dashed; dots, log, range, best: {x, y, text}.
//   span: [first, last] x; cursor: x or null; axis: whether x is written below; letters: their size in px.
export function chart({ name, lines, span, width, height, dots, log, range, best, cursor, axis, label, letters = 17 }) {
  const big = letters / 17;
  const room = Object.fromEntries(Object.entries(CHART).map(([side, value]) => [side, value * big]));
  const bottom = axis ? room.bottom + room.axis : room.bottom;
  height *= big;
  const inner = { width: width - room.left - room.right, height: height - room.top - bottom };
  const values = lines.flatMap(({ points }) => points.map(([, y]) => y));
  let [low, high] = range ?? (values.length ? [Math.min(...values), Math.max(...values)] : [0, 1]);
  if (log) { low = low * 0.93; high = high * 1.07; } else if (!range) {
    const more = (high - low || Math.abs(high) || 1) * 0.08;
    low -= more; high += more;
  }
  const over = (x) => room.left + inner.width * (span[1] > span[0] ? (x - span[0]) / (span[1] - span[0]) : 0.5);
  const up = (y) => {
    const part = log ? (Math.log(y) - Math.log(low)) / (Math.log(high) - Math.log(low)) : (y - low) / (high - low);
    return room.top + inner.height * (1 - part);
  };
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "mon-chart", role: "img", "aria-label": label });
  put(svg, drawn("text", { x: 4, y: 19 * big, class: "mon-name" }, log ? `${name} (logarithmic)` : name));
  for (const y of log ? logTicks(low, high) : ticksBetween(low, high, Math.max(2, inner.height / (44 * big)))) {
    put(svg, drawn("line", { x1: room.left, x2: width - room.right, y1: up(y), y2: up(y), class: "mon-grid" }),
      drawn("text", { x: room.left - 8, y: up(y) + 5 * big, class: "mon-tick", "text-anchor": "end" }, numberText(y)));
  }
  if (axis) putAxis(svg, { span, over, inner, room, big });
  put(svg, drawn("line", { x1: room.left, x2: width - room.right, y1: room.top + inner.height, y2: room.top + inner.height, class: "mon-base" }));
  lines.forEach(({ points, second, faint }) => {
    const kind = ["mon-line", second && "mon-second", faint && "mon-faint"].filter(Boolean).join(" ");
    if (points.length > 1) put(svg, drawn("polyline", { class: kind, points: points.map(([x, y]) => `${over(x).toFixed(1)},${up(y).toFixed(1)}`).join(" ") }));
    if (dots || points.length === 1) for (const [x, y] of points) put(svg, drawn("circle", { cx: over(x), cy: up(y), r: 4.5, class: "mon-dot" }));
  });
  if (lines.length > 1) putKey(svg, { lines: lines.filter(({ faint }) => !faint), width, room, big });
  if (best) putBest(svg, { best, over, up, width, big });
  if (cursor !== null && cursor !== undefined) putCursor(svg, { lines, cursor, over, up, inner, room, width, big });
  return { svg, stepAt: (pixel) => span[0] + ((pixel - room.left) / inner.width) * (span[1] - span[0]) };
}

function putAxis(svg, { span, over, inner, room, big }) {
  const y = room.top + inner.height;
  const marks = ticksBetween(span[0], span[1], Math.max(2, inner.width / (110 * big))).filter(Number.isInteger);
  for (const x of marks) {
    put(svg, drawn("line", { x1: over(x), x2: over(x), y1: y, y2: y + 6, class: "mon-base" }),
      drawn("text", { x: over(x), y: y + 23 * big, class: "mon-tick", "text-anchor": "middle" }, x.toLocaleString("en")));
  }
  put(svg, drawn("text", { x: room.left - 16, y: y + 23 * big, class: "mon-axis", "text-anchor": "end" }, "step"));
}

// What each line is, to the right of the name.
function putKey(svg, { lines, width, room, big }) {
  let x = width - room.right;
  [...lines].reverse().forEach(({ label, second }) => {
    x -= label.length * 8.2 * big;
    put(svg, drawn("text", { x, y: 19 * big, class: "mon-key" }, label),
      drawn("line", { x1: x - 34 * big, x2: x - 8 * big, y1: 14 * big, y2: 14 * big, class: second ? "mon-line mon-second" : "mon-line" }));
    x -= 56 * big;
  });
}

// The values at the cursor stand beside it, left of it where there is no room to the right.
function putCursor(svg, { lines, cursor, over, up, inner, room, width, big }) {
  const x = over(cursor);
  put(svg, drawn("line", { x1: x, x2: x, y1: room.top, y2: room.top + inner.height, class: "mon-cursor" }));
  const found = lines.map(({ points, label }) => ({ label, value: points.find(([step]) => step === cursor)?.[1] })).filter(({ value }) => value !== undefined);
  for (const { value } of found) put(svg, drawn("circle", { cx: x, cy: up(value), r: 7, class: "mon-at" }));
  const texts = [`step ${cursor.toLocaleString("en")}`, ...found.map(({ label, value }) => (lines.length > 1 ? `${label} ${numberText(value)}` : numberText(value)))];
  const wide = Math.max(...texts.map((text) => text.length)) * 8.4 * big + 16 * big;
  const left = x + 14 * big + wide > width ? x - 14 * big - wide : x + 14 * big;
  const top = room.top + 4 * big;
  put(svg, drawn("rect", { x: left, y: top, width: wide, height: (texts.length * 20 + 8) * big, rx: 4, class: "mon-tip" }),
    texts.map((text, at) => drawn("text", { x: left + 8 * big, y: top + (19 + 20 * at) * big, class: "mon-tip-text" }, text)));
}

// The best value is a ring with words, left of it where there is no room to the right.
function putBest(svg, { best, over, up, width, big }) {
  const x = over(best.x);
  const right = x < width - 190 * big;
  put(svg, drawn("circle", { cx: x, cy: up(best.y), r: 9, class: "mon-best" }),
    drawn("text", { x: x + (right ? 15 : -15) * big, y: up(best.y) + (up(best.y) < 60 * big ? 22 : -10) * big, class: "mon-best-text",
      "text-anchor": right ? "start" : "end" }, best.text));
}
