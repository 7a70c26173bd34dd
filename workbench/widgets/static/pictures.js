// What is on the radiographs as one picture: PNG by a canvas, SVG with the outlines as lines.
import { drawn, make, put } from "./common.js";
import { scaleOf } from "./maps.js";
import { MIRRORED } from "./radiograph.js";

const SIDE = 900;
const GAP = 24;
const LINE = 26;

function layoutOf(panels, notice) {
  const context = make("canvas").getContext("2d");
  const wrap = (text, font, width) => {
    context.font = font;
    const lines = [""];
    for (const word of String(text).split(/\s+/)) {
      const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
      if (context.measureText(longer).width > width && lines.at(-1)) lines.push(word);
      else lines[lines.length - 1] = longer;
    }
    return lines;
  };
  const [bold, plain] = ["600 20px system-ui, sans-serif", "17px system-ui, sans-serif"];
  const parts = panels.map((panel) => {
    const [left, top, right, bottom] = panel.radiograph.extent();
    const height = Math.round(SIDE * Math.min(1.4, Math.max(0.7, (bottom - top) / (right - left))));
    const lines = [];
    const name = panel.heading.hidden ? panel.facts.radiograph.source : panel.heading.textContent;
    const add = (text, font, colour) => { if (text) for (const line of wrap(text, font, SIDE)) lines.push({ line, font, colour }); };
    add(name, plain, "#565b63");
    if (panel.radiograph.view.flip) add(MIRRORED, plain, "#5c3a00");
    if (panel.map) add(panel.said?.title ?? panel.map.title, bold, "#1b1b1b");
    if (panel.map) add(panel.said?.details, plain, "#565b63");
    if (panel.map) lines.push({ scale: scaleOf(panel.looks().tables, panel.map.signed) });
    if (panel.map && panel.sentence) add(`Sentence: ${panel.sentence}`, plain, "#1b1b1b");
    if (panel.map && panel.said?.caution) add(`\u26a0 ${panel.said.caution}`, plain, "#5c3a00");
    return { panel, height, lines };
  });
  const width = panels.length * SIDE + (panels.length + 1) * GAP;
  const foot = wrap(notice, plain, width - 2 * GAP).map((line) => ({ line, font: plain, colour: "#5c3a00" }));
  const radiographs = Math.max(...parts.map(({ height }) => height));
  const words = Math.max(...parts.map(({ lines }) => lines.length)) * LINE;
  return { parts, foot, width, radiographs, height: GAP + radiographs + words + 16 + foot.length * LINE + GAP, end: GAP + radiographs + words + 16 };
}

export function pictureOf(panels, notice) {
  const { parts, foot, width, height, radiographs, end } = layoutOf(panels, notice);
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, width, height);
  const write = ({ line, font, colour, scale }, x, y) => {
    if (scale) { drawScale(context, scale, x, y); return; }
    context.font = font;
    context.fillStyle = colour;
    context.textBaseline = "top";
    context.fillText(line, x, y);
  };
  parts.forEach(({ panel, height: high, lines }, at) => {
    const x = GAP + at * (SIDE + GAP);
    const inner = make("canvas", { width: SIDE, height: high });
    panel.radiograph.paint(inner.getContext("2d"), SIDE, high, { line: 1.4, font: 16 });
    context.drawImage(inner, x, GAP);
    lines.forEach((line, number) => write(line, x, GAP + radiographs + 8 + number * LINE));
  });
  foot.forEach((line, number) => write(line, GAP, end + number * LINE));
  return canvas;
}

// The scale of a map in one line: colours on black, as over the radiograph, between its words.
const BAR = { left: 76, width: 300, height: 15, top: 2 };

function endsOf({ ends }, x) {
  const { left, width } = BAR;
  const places = [x, x + left + width / 2, x + left + width + 10];
  return ends.length > 2 ? [[ends[0], places[0]], [ends[2], places[2]]] : [[ends[0], x + left - 22], [ends[1], places[2]]];
}

function drawScale(context, scale, x, y) {
  context.fillStyle = "#000000";
  context.fillRect(x + BAR.left, y + BAR.top, BAR.width, BAR.height);
  context.drawImage(scale.canvas, x + BAR.left, y + BAR.top, BAR.width, BAR.height);
  context.font = "17px system-ui, sans-serif";
  context.fillStyle = "#565b63";
  context.textBaseline = "top";
  for (const [text, at] of endsOf(scale, x)) context.fillText(text, at, y);
}

function scaleDrawing(scale, x, y) {
  const place = { x: x + BAR.left, y: y + BAR.top, width: BAR.width, height: BAR.height };
  return drawn("g", { role: "img", "aria-label": `Scale from ${scale.ends.join(" to ")}` },
    drawn("rect", { ...place, fill: "#000" }),
    drawn("image", { href: scale.canvas.toDataURL("image/png"), ...place, preserveAspectRatio: "none" }),
    endsOf(scale, x).map(([text, at]) => drawn("text", { x: at, y: y + 16, fill: "#565b63", "font-family": "system-ui, sans-serif", "font-size": 17 }, text)));
}

export function svgOf(panels, notice) {
  const { parts, foot, width, height, radiographs, end } = layoutOf(panels, notice);
  const root = drawn("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}`, role: "img" },
    drawn("title", {}, parts.map(({ panel }) => panel.said?.title ?? panel.facts.radiograph.source).join("; ")),
    drawn("rect", { width, height, fill: "#ffffff" }));
  const write = ({ line, font, colour, scale }, x, y) => (scale ? scaleDrawing(scale, x, y) : drawn("text", {
    x, y: y + 18, fill: colour, "font-family": "system-ui, sans-serif", "font-size": font.includes("20px") ? 20 : 17,
    "font-weight": font.startsWith("600") ? 600 : 400 }, line));
  parts.forEach(({ panel, height: high, lines }, at) => {
    const x = GAP + at * (SIDE + GAP);
    put(root, radiographDrawing(panel.radiograph, x, high), lines.map((line, number) => write(line, x, GAP + radiographs + 8 + number * LINE)));
  });
  put(root, foot.map((line, number) => write(line, GAP, end + number * LINE)));
  return new XMLSerializer().serializeToString(root);
}

function radiographDrawing(radiograph, x, height) {
  const { scale, across, dx, dy } = radiograph.transform(SIDE, height);
  const { box, crop } = radiograph.seen ?? {};
  const at = (edges) => ({ x: edges[0], y: edges[1], width: edges[2] - edges[0], height: edges[3] - edges[1], preserveAspectRatio: "none" });
  const picture = (canvas, edges, more = {}) => drawn("image", { href: canvas.toDataURL("image/png"), ...at(edges), ...more });
  const { model } = radiograph.view;
  const inside = drawn("g", { transform: `translate(${dx} ${dy}) scale(${across} ${scale})` },
    model ? picture(radiograph.grey("square"), box) : picture(radiograph.grey("values"), [0, 0, radiograph.radiograph.width, radiograph.radiograph.height]),
    radiograph.overlay && picture(radiograph.overlay.canvas, box, { opacity: radiograph.opacity, style: radiograph.overlay.smooth ? "" : "image-rendering: pixelated" }),
    !model && radiograph.view.crop && radiograph.cropped && drawn("rect", { ...at(crop), fill: "none", stroke: "#ffb347", "stroke-width": 2 / scale,
      "stroke-dasharray": `${10 / scale} ${6 / scale}` }),
    radiograph.outlines.map(({ paths, colour, name }) => drawn("g", {}, drawn("title", {}, name), paths.map((path) => drawn("polyline", {
      points: path.join(" "), fill: "none", stroke: colour, "stroke-width": 2.4 / scale })))));
  const names = radiograph.outlines.filter(({ paths }) => paths.length).map(({ paths, colour, name }, number) => drawn("text", {
    x: 10, y: 26 + 24 * number, fill: colour, "font-family": "system-ui, sans-serif", "font-size": 18, "font-weight": 600 }, name));
  return drawn("svg", { x, y: GAP, width: SIDE, height, viewBox: `0 0 ${SIDE} ${height}`, overflow: "hidden" },
    drawn("rect", { width: SIDE, height, fill: "#000" }), inside, names);
}
