// What is drawn over a radiograph: outlines with their names, and lines.
import { clamp } from "./common.js";

export function paintMark(context, [left, top, right, bottom], scale, line) {
  for (const [style, width] of [["rgba(0, 0, 0, .7)", 3], ["#ffffff", 1.2]]) {
    context.strokeStyle = style;
    context.lineWidth = width * line / scale;
    context.beginPath();
    context.moveTo(left, top);
    context.lineTo(right, bottom);
    context.stroke();
  }
}

// lit: the name of the outline that stands out; null for none.
export function paintOutline(context, { paths, colour, name }, lit, scale, line) {
  const first = Boolean(lit) && name === lit;
  context.globalAlpha = lit && !first ? 0.45 : 1;
  if (first) {
    context.fillStyle = `${colour}55`;
    context.beginPath();
    for (const path of paths) {
      context.moveTo(path[0], path[1]);
      for (let at = 2; at < path.length; at += 2) context.lineTo(path[at], path[at + 1]);
    }
    context.fill("evenodd");
  }
  for (const [style, width] of [["rgba(0, 0, 0, .7)", first ? 7 : 4.4], [colour, first ? 4 : 2.2]]) {
    context.strokeStyle = style;
    context.lineWidth = width * line / scale;
    context.lineJoin = "round";
    for (const path of paths) {
      context.beginPath();
      for (let at = 0; at < path.length; at += 2) context.lineTo(path[at], path[at + 1]);
      context.stroke();
    }
  }
  context.globalAlpha = 1;
}

// Writes the name of each outline beside it: above or below, where it covers no other.
export function paintNames(context, outlines, shown, width, height, size) {
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "top";
  const boxes = outlines.map(({ paths }) => boxOf(paths, shown));
  const taken = [];
  outlines.forEach(({ colour, name }, at) => {
    const box = boxes[at];
    if (!box) return;
    const [wide, high] = [context.measureText(name).width + 8, size * 1.4];
    const places = [[box[0], box[1] - high - 4], [box[0], box[3] + 4], [box[0] - wide - 4, box[1]], [box[2] + 4, box[1]]]
      .map(([x, y]) => [clamp(x, 0, Math.max(0, width - wide)), clamp(y, 0, Math.max(0, height - high))])
      .map(([x, y]) => [x, y, x + wide, y + high]);
    const others = boxes.filter((other, number) => other && number !== at);
    const free = (place) => ![...others, ...taken].some((other) => overlap(place, other));
    const place = places.find(free) ?? places.find((one) => !taken.some((other) => overlap(one, other))) ?? places[0];
    taken.push(place);
    context.fillStyle = "rgba(0, 0, 0, .7)";
    context.fillRect(place[0], place[1], wide, high);
    context.fillStyle = colour;
    context.fillText(name, place[0] + 4, place[1] + 0.2 * size);
  });
}

// [left, top, right, bottom] of paths, on the canvas where a transform is given; null for none.
export function boxOf(paths, { scale, across, dx, dy } = { scale: 1, across: 1, dx: 0, dy: 0 }) {
  const xs = paths.flatMap((path) => path.filter((_, at) => at % 2 === 0)).map((x) => x * across + dx);
  const ys = paths.flatMap((path) => path.filter((_, at) => at % 2 === 1)).map((y) => y * scale + dy);
  return xs.length ? [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)] : null;
}

function overlap([left, top, right, bottom], [x, y, far, low]) {
  return left < far && x < right && top < low && y < bottom;
}
