// One radiograph with one map over it: what is shown, what is said about it, what is being computed.
import { button, followed, make, put, replace } from "./common.js";
import { Radiograph } from "./radiograph.js";
import { largestOf, mapCanvas, scaleBar } from "./maps.js";

export class Panel {
  // looks: {tables, settings} of the explorer, read whenever something is drawn.
  constructor({ side, view, looks, changed }) {
    this.side = side;
    this.looks = looks;
    this.radiograph = new Radiograph({ view, changed, pointed: (x, y) => this.point(x, y) });
    this.heading = make("h3", { class: "wbx-name" });
    this.work = make("div", { class: "wbx-work" });
    this.caption = make("figcaption", { class: "wbx-caption" });
    this.below = make("div", { class: "wbx-below" });
    this.readout = make("span", { class: "wbx-readout" });
    this.radiograph.stage.append(this.work, this.readout);
    this.element = make("figure", { class: "wbx-panel" }, this.heading, this.caption, this.radiograph.element, this.below);
  }

  async open(side, name) {
    this.heading.textContent = name;
    this.heading.hidden = !name;
    this.facts = side;
    this.radiograph.name(`Radiograph ${side.radiograph.source}`);
    await this.radiograph.show(side.radiograph, side.seen);
  }

  close() { this.radiograph.close(); }

  // map: {shape, values, signed}; said: {title, details, caution, share, ...} or null while unknown.
  show(map, said) {
    this.map = map;
    this.said = said;
    this.wait(null);
    this.paint();
    this.write();
  }

  paint() {
    const { settings, tables } = this.looks();
    this.radiograph.opacity = settings.opacity;
    this.radiograph.outlines = settings.truth ? this.facts.truth : [];
    const shown = this.map && settings.overlay
      ? mapCanvas(this.map, { tables, signed: this.map.signed, sign: settings.sign, smooth: settings.smooth }) : null;
    this.radiograph.setMap(shown);
  }

  write() {
    const { map, said } = this;
    const { tables } = this.looks();
    if (!map) return;
    const title = said?.title ?? map.title;
    this.radiograph.name(`Radiograph ${this.facts.radiograph.source} with a map over it. ${title}`);
    replace(this.caption,
      make("div", { class: "wbx-maptitle" }, title),
      said?.caution && make("div", { class: "wb-warning wbx-caution" }, "\u26a0 ", said.caution));
    replace(this.below,
      scaleBar(tables, map.signed),
      said?.details && make("div", { class: "wbx-details" }, said.details, shareText(said)),
      this.map && largestOf(map.values, map.signed) === 0 &&
        make("div", { class: "wbx-details" }, "The map is 0 everywhere."));
  }

  // No map: a hint, or a button that computes one.
  empty(text, act = null) {
    this.map = this.said = null;
    this.wait(null);
    this.radiograph.setMap(null);
    this.radiograph.name(`Radiograph ${this.facts.radiograph.source}`);
    if (this.facts) this.radiograph.outlines = this.looks().settings.truth ? this.facts.truth : [];
    replace(this.caption, make("div", { class: "wbx-hint" }, text), act);
    replace(this.below);
  }

  // Shows that a map is being made, over the radiograph; the old map is taken away, it is of other words.
  follow(asked, label) {
    this.empty(`${label} ...`);
    const row = followed(this.work, asked, label);
    this.wait(row);
    return row;
  }

  wait(row) {
    this.row?.over();
    this.row = row;
  }

  point(x, y) {
    this.linked?.(x, y);
    this.readout.textContent = "";
    const box = this.facts?.seen?.box;
    if (x === null || !box) return;
    const [u, v] = [(x - box[0]) / (box[2] - box[0]), (y - box[1]) / (box[3] - box[1])];
    const inside = u >= 0 && v >= 0 && u < 1 && v < 1;
    if (!inside) {
      const { width, height } = this.facts.radiograph;
      if (x >= 0 && y >= 0 && x < width && y < height) this.readout.textContent = "not seen by the model";
    } else if (this.map) {
      const [rows, columns] = this.map.shape;
      const value = this.map.values[Math.floor(v * rows) * columns + Math.floor(u * columns)];
      this.readout.textContent = numberText(value, this.said?.unit ?? this.map.unit);
    }
  }
}

export function computeButton(act) {
  return button("Compute", act, { class: "wb-button wb-main", title: "Compute this map (Enter)" });
}

function shareText({ share, unit }) {
  if (share === null || share === undefined) return "";
  return ` \u00b7 ${(100 * share).toFixed(0)} % of the ${unit?.includes("attention") ? "attention" : "weight"} went to the image`;
}

function numberText(value, unit = "") {
  if (unit.startsWith("share of")) return `${(100 * value).toPrecision(2)} % of the attention`;
  const sign = value > 0 ? "+" : value < 0 ? "\u2212" : "";
  return `${sign}${Math.abs(value).toPrecision(2)} ${unit}`;
}
