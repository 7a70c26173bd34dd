// A radiograph on a canvas: window and level, zoom, pan, flip, invert, the model's view, a map over it and
// outlines. Coordinates are pixels of the original file; what the model saw is a box in them.
import { alone, bytesOf, clamp, make } from "./common.js";
import { paintMark, paintNames, paintOutline } from "./outlines.js";
import { swallow, wheelFactor, withoutMenu } from "./pointer.js";

// What several radiographs share: where one looks and how bright it is. Middle in shares of the radiograph.
export function startView() {
  return { zoom: 1, x: 0.5, y: 0.5, centre: 0.5, width: 1, preset: "", flip: false, invert: false, model: false, crop: true, hand: false };
}

// Darkest and brightest grey that a preset shows, in shares of the pixels that are not black. Radiographs
// have no units such as HU: a preset follows the grey levels of each image.
export const PRESETS = { lung: [0.01, 0.72], mediastinum: [0.45, 0.998], bone: [0.25, 0.97] };

export const MIRRORED = "\u26a0 Mirrored: left and right are swapped";

// radiograph.show({png, bits, width, height}, {png, box: [left, top, right, bottom]}) draws a radiograph.
export class Radiograph {
  constructor({ label = "Radiograph", view = startView(), changed = () => {}, pointed = () => {} } = {}) {
    this.view = view;
    this.changed = changed;
    this.pointed = pointed;
    this.overlay = null;
    this.tool = null; // takes drags and keys first: {on, start(point), move(point), end(), key(event)}
    this.opacity = 0.6;
    this.outlines = [];
    this.lit = null; // the name of an outline before the others
    this.marks = []; // lines over the image: [x, y, x, y]
    this.canvas = make("canvas", { class: "wbf-canvas", width: 0, height: 0, tabindex: 0, role: "img", "aria-label": label });
    this.element = make("div", { class: "wbf" }, make("div", { class: "wbf-stage", "data-jp-suppress-context-menu": true }, this.canvas));
    this.stage = this.element.firstChild;
    this.told = make("div", { class: "wbf-told", role: "status" });
    this.stage.append(this.told);
    this.whole = this.element; // what fills the screen
    this.redrawn = () => {}; // for tools that show the state of the view
    this.tables = {};
    this.waiting = false;
    this.listen();
    this.observer = new ResizeObserver(() => this.redraw());
    this.observer.observe(this.stage);
  }

  close() { this.observer.disconnect(); }

  name(label) { this.canvas.setAttribute("aria-label", label); }

  // Until it is decoded nothing is shown; where another was asked for meanwhile, that one is.
  async show(radiograph, seen) {
    this.radiograph = radiograph;
    this.seen = seen;
    this.values = null;
    this.canvas.width = 0;
    this.stage.style.aspectRatio = String(clamp(radiograph.width / radiograph.height, 0.7, 1.4));
    const [values, square] = await Promise.all([radiographValues(radiograph), seen ? radiographValues(seen) : null]);
    if (this.radiograph !== radiograph) return;
    Object.assign(this, { values, square });
    this.redraw(true);
  }

  setMap(overlay) { this.overlay = overlay; this.redraw(); }

  // Draws again at the next frame, however often it is asked.
  redraw(grey = false) {
    this.stale ||= grey;
    this.redrawn();
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    if (!this.values) return;
    if (this.stale) { this.tables = {}; this.stale = false; }
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(this.stage.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.stage.clientHeight * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.tell(Math.abs(this.transform(width, height).scale - 1) < 1e-6);
    this.paint(this.canvas.getContext("2d"), width, height, { line: ratio });
  }

  // What must not be overlooked about the view, over the image.
  tell(whole) {
    const { values, radiograph, view } = this;
    const text = [view.flip && MIRRORED,
      whole && values.width < radiograph.width && `1:1, from a picture of ${values.width} instead of ${radiograph.width} pixels`];
    const told = text.filter(Boolean).join("; ");
    if (this.told.textContent !== told) this.told.textContent = told;
  }

  // The part of the radiograph that is looked at before any zoom.
  extent() {
    const whole = [0, 0, this.radiograph.width, this.radiograph.height];
    return this.view.model && this.seen ? this.seen.box : whole;
  }

  // Radiograph pixels to canvas pixels: canvas = radiograph * scale + shift, sideways by `across`.
  transform(width, height, view = this.view) {
    const [left, top, right, bottom] = this.extent();
    const scale = Math.min(width / (right - left), height / (bottom - top)) * view.zoom;
    const x = left + view.x * (right - left);
    const y = top + view.y * (bottom - top);
    const across = view.flip ? -scale : scale;
    return { scale, across, dx: width / 2 - x * across, dy: height / 2 - y * scale };
  }

  paint(context, width, height, { view = this.view, line = 1, font = 15 } = {}) {
    const { scale, across, dx, dy } = this.transform(width, height, view);
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.setTransform(across, 0, 0, scale, dx, dy);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    const { model } = this.view;
    const box = this.seen?.box;
    if (model && this.square) {
      context.drawImage(this.grey("square"), box[0], box[1], box[2] - box[0], box[3] - box[1]);
    } else context.drawImage(this.grey("values"), 0, 0, this.radiograph.width, this.radiograph.height);
    if (this.overlay && box) {
      context.globalAlpha = this.opacity;
      context.imageSmoothingEnabled = this.overlay.smooth;
      context.drawImage(this.overlay.canvas, box[0], box[1], box[2] - box[0], box[3] - box[1]);
      context.globalAlpha = 1;
    }
    if (!model && this.view.crop) this.paintCrop(context, scale, line);
    for (const outline of this.outlines) paintOutline(context, outline, this.lit, scale, line);
    for (const mark of this.marks) paintMark(context, mark, scale, line);
    context.setTransform(1, 0, 0, 1, 0, 0);
    paintNames(context, this.outlines, { scale, across, dx, dy }, width, height, font * line);
    context.restore();
  }

  // Whether the model did not see a part of the radiograph.
  get cropped() {
    const crop = this.seen?.crop;
    const { width, height } = this.radiograph;
    return Boolean(crop) && (crop[0] > 0.5 || crop[1] > 0.5 || crop[2] < width - 0.5 || crop[3] < height - 0.5);
  }

  paintCrop(context, scale, line) {
    if (!this.cropped) return;
    const { crop } = this.seen;
    const { width, height } = this.radiograph;
    const [left, top, right, bottom] = crop;
    context.fillStyle = "rgba(0, 0, 0, .55)";
    context.fillRect(0, 0, width, top);
    context.fillRect(0, bottom, width, height - bottom);
    context.fillRect(0, top, left, bottom - top);
    context.fillRect(right, top, width - right, bottom - top);
    context.setLineDash([10 * line / scale, 6 * line / scale]);
    context.strokeStyle = "#ffb347";
    context.lineWidth = 2 * line / scale;
    context.strokeRect(left, top, right - left, bottom - top);
    context.setLineDash([]);
  }

  // The radiograph, or what the model sees, as grey at the present window; made once per window.
  grey(which) {
    return this.tables[which] ??= greyCanvas(this[which], { ...this.window(), invert: this.view.invert });
  }

  // Middle and width of the grey levels that are shown: those of the view, or of its preset for this image.
  window() {
    const { centre, width, preset } = this.view;
    if (!PRESETS[preset] || !this.values) return { centre, width };
    const [low, high] = PRESETS[preset].map((share) => greyAt(this.values, share));
    return { centre: (low + high) / 2, width: Math.max(0.02, high - low) };
  }

  // (x, y) of a mouse event in radiograph pixels.
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const { scale, across, dx, dy } = this.transform(box.width, box.height);
    return [(event.clientX - box.left - dx) / across, (event.clientY - box.top - dy) / scale];
  }

  zoomBy(factor, x = null, y = null) {
    const { view } = this;
    const next = clamp(view.zoom * factor, Math.min(1, view.zoom), 24);
    if (x !== null) { // what is under the pointer stays there
      const [left, top, right, bottom] = this.extent();
      const [u, v] = [(x - left) / (right - left), (y - top) / (bottom - top)];
      view.x = u + (view.x - u) * (view.zoom / next);
      view.y = v + (view.y - v) * (view.zoom / next);
    }
    view.zoom = next;
    this.move(0, 0);
  }

  // Moves by canvas pixels of the page; the middle stays on the radiograph.
  move(right, down) {
    const box = this.canvas.getBoundingClientRect();
    const { scale, across } = this.transform(Math.max(1, box.width), Math.max(1, box.height));
    const [left, top, far, bottom] = this.extent();
    const margin = Math.min(0.5, 0.5 / this.view.zoom);
    this.view.x = clamp(this.view.x - right / across / (far - left), margin, 1 - margin);
    this.view.y = clamp(this.view.y - down / scale / (bottom - top), margin, 1 - margin);
    this.changed(false);
  }

  brighten(centre, width) {
    this.view.centre = clamp(centre, -0.5, 1.5);
    this.view.width = clamp(width, 0.02, 3);
    this.view.preset = "";
    this.changed(true);
  }

  preset(name) { Object.assign(this.view, { centre: 0.5, width: 1, preset: name }); this.changed(true); }

  nextPreset(step) {
    const names = ["", ...Object.keys(PRESETS)];
    this.preset(names[(names.indexOf(this.view.preset) + step + names.length) % names.length]);
  }

  flip() { this.view.flip = !this.view.flip; this.changed(false); }

  fit() { Object.assign(this.view, { zoom: 1, x: 0.5, y: 0.5 }); this.changed(false); }

  // One pixel of the image on one of the screen; once more fits it again.
  pixels() {
    const { width, height } = this.canvas;
    const { scale } = this.transform(width, height);
    if (Math.abs(scale - 1) < 1e-6) { this.fit(); return; }
    this.view.zoom = this.view.zoom / scale;
    this.move(0, 0);
  }

  // Fills the screen; once more, or Esc, ends it. A page that may not do so stays as it is.
  fill() {
    const asked = document.fullscreenElement ? document.exitFullscreen() : this.whole.requestFullscreen();
    asked.catch(() => {});
  }

  // Everything that tools change: zoom, place, window, level, flip, invert, the model's view, what a drag does.
  reset() {
    Object.assign(this.view, startView(), { crop: this.view.crop });
    this.changed(true);
  }

  listen() {
    const { canvas, stage, view } = this;
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button > 2) return;
      event.preventDefault();
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture?.(event.pointerId);
      const hand = view.hand || event.shiftKey || event.button === 1 || event.button === 2;
      if (event.button === 2) withoutMenu();
      if (!hand && this.values && this.tool?.on) { this.tool.start(this.point(event)); drag = { tool: true }; return; }
      drag = { x: event.clientX, y: event.clientY, hand, ...this.window() };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.values) return;
      if (!drag) { this.pointed(...this.point(event)); return; }
      if (drag.tool) { this.tool.move(this.point(event)); return; }
      const [right, down] = [event.clientX - drag.x, event.clientY - drag.y];
      if (drag.hand) { this.move(right, down); [drag.x, drag.y] = [event.clientX, event.clientY]; }
      else {
        const size = Math.max(200, canvas.clientWidth);
        this.brighten(drag.centre + down / size, drag.width * Math.exp(2 * right / size));
      }
    });
    const end = () => { if (drag?.tool) this.tool.end(); drag = null; };
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) canvas.addEventListener(name, end);
    canvas.addEventListener("pointerleave", () => this.pointed(null, null));
    stage.addEventListener("contextmenu", swallow);
    canvas.addEventListener("dblclick", () => { if (!this.tool?.on) this.fit(); });
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => { if (!this.tool?.key(event)) this.key(event); });
  }

  // Zooms about the pointer. Where an app has the page to itself, at once; in a notebook, which has to
  // go on scrolling past a radiograph, with Ctrl or once the radiograph was clicked.
  wheel(event) {
    const own = event.ctrlKey || alone() || document.activeElement === this.canvas;
    const factor = wheelFactor(event);
    if (!this.values || !own || (factor < 1 && this.view.zoom <= 1 && !event.ctrlKey)) return;
    event.preventDefault();
    this.zoomBy(factor, ...this.point(event));
  }

  key(event) {
    const step = 40;
    const { centre, width } = this.window();
    const acts = {
      "+": () => this.zoomBy(1.25), "=": () => this.zoomBy(1.25), "-": () => this.zoomBy(0.8), "0": () => this.reset(),
      ArrowLeft: () => this.move(step, 0), ArrowRight: () => this.move(-step, 0),
      ArrowUp: () => this.move(0, step), ArrowDown: () => this.move(0, -step),
      "[": () => this.brighten(centre, width * 0.85),
      "]": () => this.brighten(centre, width / 0.85),
      ",": () => this.brighten(centre + 0.04, width),
      ".": () => this.brighten(centre - 0.04, width),
      w: () => this.nextPreset(1), W: () => this.nextPreset(-1),
      h: () => this.flip(), p: () => this.pixels(), l: () => this.fill(),
    };
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !acts[event.key] || !this.values) return;
    event.preventDefault();
    acts[event.key]();
  }

  // Keys that mean the radiograph wherever they are pressed: all but the arrows.
  shortcut(event) { if (!event.key.startsWith("Arrow")) this.key(event); }
}

export const IMAGE_KEYS = [
  ["+  \u2212  0", "zoom in, out; reset everything about the image"],
  ["\u2190  \u2191  \u2192  \u2193", "on the image: move it"],
  ["[  ]  ,  .", "narrower or wider window, brighter, darker"],
  ["drag", "window (sideways) and level (up and down); with Shift, Pan or the right button, move"],
  ["wheel", "zoom about the pointer; in a notebook with Ctrl, or once the image has been clicked"],
  ["double click", "fit the image, its window stays"],
  ["w  W", "next, previous window: full, lung, mediastinum, bone"],
  ["h  p  l", "flip left and right; pixels 1:1 and back; full screen"],
];

// PNG to grey levels in [0, 1 .. top]: 8 bit, or 16 bit as high byte (red) and low byte (green).
async function radiographValues({ png, bits }) {
  const picture = await createImageBitmap(new Blob([bytesOf(png)], { type: "image/png" }),
    { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = make("canvas", { width: picture.width, height: picture.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, picture.width, picture.height);
  const levels = new Uint16Array(data.length / 4);
  for (let at = 0; at < levels.length; at += 1) {
    levels[at] = bits > 8 ? data[4 * at] * 256 + data[4 * at + 1] : data[4 * at];
  }
  return { levels, width: picture.width, height: picture.height, top: bits > 8 ? 65535 : 255 };
}

// The grey level, 0 to 1, below which a share of the pixels lies that are not black.
function greyAt(values, share) {
  const { levels, top } = values;
  if (!values.below) {
    const counts = new Float64Array(top + 1);
    for (const level of levels) counts[level] += 1;
    counts[0] = 0;
    for (let level = 1; level <= top; level += 1) counts[level] += counts[level - 1];
    values.below = counts;
  }
  const wanted = share * values.below[top];
  return values.below.findIndex((count) => count >= wanted) / top;
}

function greyCanvas({ levels, width, height, top }, { centre, width: window_, invert }) {
  const table = new Uint8ClampedArray(top + 1);
  for (let level = 0; level <= top; level += 1) {
    const shown = (level / top - centre) / window_ + 0.5;
    table[level] = 255 * clamp(invert ? 1 - shown : shown, 0, 1);
  }
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let at = 0; at < levels.length; at += 1) {
    pixels[at] = 0xff000000 | (table[levels[at]] * 0x010101); // little-endian ABGR, as on every browser today
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}
