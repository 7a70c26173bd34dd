// Maps as colours: packed grids to numbers, numbers to a picture over what the model saw.
// Colours come from Python, the same as in every figure of the workbench.
import { bytesOf, make } from "./common.js";

// {shape, scale, data} to Float32Array.
export function unpack({ shape, scale, data }) {
  const whole = new Int16Array(bytesOf(data).buffer);
  return { shape, values: Float32Array.from(whole, (one) => one * scale) };
}

// Mean of the rows of some tokens: (tokens, rows, columns) to (rows, columns).
export function meanOf({ shape, values }, tokens) {
  const [, rows, columns] = shape;
  const size = rows * columns;
  const sum = new Float32Array(size);
  for (const token of tokens) {
    for (let at = 0; at < size; at += 1) sum[at] += values[token * size + at] / tokens.length;
  }
  return { shape: [rows, columns], values: sum };
}

export function largestOf(values, signed) {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, signed ? Math.abs(value) : value);
  return largest;
}

const FINE = 384;

// A picture of a map. sign: "both", "for" or "against"; smooth interpolates between cells' middles.
export function mapCanvas({ shape, values }, { tables, signed, sign = "both", smooth = true }) {
  const [rows, columns] = shape;
  const table = signed ? tables.two : tables.one;
  const largest = largestOf(values, signed) || 1;
  const middle = signed ? (table.length / 4 - 1) / 2 : 0;
  const span = signed ? middle : table.length / 4 - 1;
  const colour = (value) => {
    let share = value / largest;
    if (signed && ((sign === "for" && share < 0) || (sign === "against" && share > 0))) share = 0;
    return 4 * Math.round(middle + span * Math.min(1, Math.max(signed ? -1 : 0, share)));
  };
  const [height, width] = smooth ? [FINE, FINE] : [rows, columns];
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const across = places(width, columns);
  const down = places(height, rows);
  for (let y = 0, at = 0; y < height; y += 1) {
    const [top, bottom, v] = [down.low[y] * columns, down.high[y] * columns, down.part[y]];
    for (let x = 0; x < width; x += 1, at += 4) {
      const [left, right, u] = [across.low[x], across.high[x], across.part[x]];
      const above = values[top + left] * (1 - u) + values[top + right] * u;
      const below = values[bottom + left] * (1 - u) + values[bottom + right] * u;
      const from = colour(above * (1 - v) + below * v);
      for (let part = 0; part < 4; part += 1) picture.data[at + part] = table[from + part];
    }
  }
  context.putImageData(picture, 0, 0);
  return { canvas, smooth };
}

// For each fine place the cells around it and how far it is from the first to the second.
function places(fine, cells) {
  const [low, high, part] = [new Int32Array(fine), new Int32Array(fine), new Float32Array(fine)];
  for (let at = 0; at < fine; at += 1) {
    const place = Math.min(cells - 1, Math.max(0, (at + 0.5) * cells / fine - 0.5));
    low[at] = Math.floor(place);
    high[at] = Math.min(cells - 1, low[at] + 1);
    part[at] = place - low[at];
  }
  return { low, high, part };
}

// The colours of a scale, one for each place, and the words along it.
export function scaleOf(tables, signed) {
  const table = signed ? tables.two : tables.one;
  const count = table.length / 4;
  const canvas = make("canvas", { width: count, height: 1, class: "wbx-bar", "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(count, 1);
  picture.data.set(table);
  context.putImageData(picture, 0, 0);
  return { canvas, ends: signed ? ["against", "0", "for"] : ["0", "most"] };
}

// The scale beside a map, as an element: colours on black, with words at its ends.
export function scaleBar(tables, signed) {
  const { canvas, ends } = scaleOf(tables, signed);
  return make("div", { class: "wbx-scale", role: "img", "aria-label": `Scale from ${ends.join(" to ")}` },
    make("span", {}, ends[0]), canvas, make("span", {}, ends[ends.length - 1]));
}
