// The explorer: radiographs and maps on the left, texts on the right, one choice of words for both.
import { Front, button, bytesOf, frame, isTyping, keep, make, replace } from "./common.js";
import { controlsOf, nextOf } from "./controls.js";
import { imageTools } from "./imagetools.js";
import { Linked, besideOf } from "./linking.js";
import { IMAGE_KEYS, startView } from "./radiograph.js";
import { MapFinder } from "./mapfinder.js";
import { Panel } from "./panel.js";
import { pictureOf, svgOf } from "./pictures.js";
import { Differences, Texts } from "./texts.js";
import { COLOUR_NAMES } from "./words.js";
import { frozenModel } from "./frozen.js";

const KEYS = [
  ["\u2190  \u2192", "previous, next word; with Shift a phrase"],
  ["\u2191  \u2193", "previous, next sentence"],
  ["a", "the whole text"],
  ["f  F", "next, previous finding"],
  ["Enter", "compute the map of a slow method"],
  ["m  M", "next, previous method"],
  ["c", "colour the words: nothing, image, confidence"],
  ["o  s  t", "map on or off, smooth or patches, truth of a phantom"],
  ["i  v", "invert the image, model's view"],
  ["/", "ask a question"],
  ...IMAGE_KEYS,
];

class ExplorerView {
  constructor(model, el) {
    this.front = new Front(model);
    this.frozen = Boolean(model.get("frozen"));
    this.app = frame(el, { title: model.get("title"), notice: model.get("notice"), keys: KEYS, fit: true });
    this.app.root.classList.add("wbx");
    this.view = startView();
    this.finder = new MapFinder(this);
    this.panels = [];
    this.texts = [];
    this.chosen = [];
    this.writing = 0;
    this.app.root.addEventListener("keydown", (event) => this.key(event));
    this.app.root.addEventListener("wb-resized", () => this.shown().forEach((panel) => panel.radiograph.redraw()));
    this.front.on("written", ({ revision }) => { if (!this.writing && revision > this.revision) this.refresh(); });
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.finder.close();
    this.shown().forEach((panel) => panel.close());
    this.front.close();
    this.app.close();
  }

  async start() {
    replace(this.app.body, make("p", { class: "wbx-hint" }, "Waiting for Python ..."));
    const late = () => this.app.fail(new Error(
      "Python has not answered yet. It may be busy with other cells; if it was restarted, run the cell again."));
    try {
      const state = await this.front.ask("state", {}, { patience: 8000, late });
      this.app.clear();
      await this.open(state);
    } catch (error) { this.app.fail(error); }
  }

  async refresh() {
    try { this.takeTexts(await this.front.ask("texts")); } catch (error) { this.app.fail(error); }
  }

  async open(state) {
    if (this.closed) return;
    this.sides = state.sides;
    this.settings = { ...state.settings };
    this.full = state.full;
    this.lateral = state.lateral;
    this.tables = { one: bytesOf(state.tables.one), two: bytesOf(state.tables.two) };
    Object.assign(this.view, state.settings.view);
    this.contributions = this.sides.map(() => ({}));
    this.build();
    this.takeTexts(state);
    await this.buildPanels();
    const kept = state.settings.chosen ?? [];
    this.sides.forEach((side, at) => {
      const one = kept[at];
      if (one && side.passages.some(({ number }) => number === one.passage)) {
        const { passage, ...choice } = one;
        this.choose(at, passage, choice, false);
      } else if (side.passages.length) this.chooseFirst(at);
      else if (!this.frozen) this.write(at, false);
    });
    if (this.settings.colour === "image") this.recolour();
  }

  // ------------------------------------------------------------------------------ building

  build() {
    const { menus, toggles, opacity } = controlsOf(this);
    Object.assign(this, { menus, toggles });
    const group = (label, ...parts) => make("div", { class: "wbx-group", role: "group", "aria-label": label }, parts);
    this.zooming = make("div", { class: "wbx-zoom", role: "toolbar", "aria-label": "View" });
    this.radiographs = make("div", { class: "wbx-radiographs" });
    this.textColumn = make("div", { class: "wbx-text-column" });
    this.grid = make("div", { class: "wbx-grid" }, this.radiographs, this.textColumn);
    replace(this.app.tools, group("Export", make("span", { class: "wb-label" }, "Save as"),
      button("PNG", () => this.savePicture(), { title: "Save the images and maps as PNG" }),
      button("SVG", () => this.saveDrawing(), { title: "Save the images and maps as SVG" }),
      !this.frozen && button("HTML", () => this.savePage(), { title: "Save a page that needs no Python" })));
    replace(this.app.body,
      make("div", { class: "wbx-bars" },
        make("div", { class: "wbx-bar-row", role: "toolbar", "aria-label": "Map" },
          group("Method", menus.method.field, menus.layer.field, menus.head.field, menus.sign.field, opacity.field,
            this.sides.length === 1 && menus.second.field)),
        make("div", { class: "wbx-bar-row", role: "toolbar", "aria-label": "Image" },
          group("Image", Object.values(toggles).map(({ element }) => element)))),
      this.grid);
    this.texts = this.sides.map((side, at) => new Texts({
      side: at, name: side.name, facts: side, frozen: this.frozen,
      acts: {
        chosen: (number, passage, choice, now) => this.choose(number, passage, choice, true, now),
        ask: (number, question) => this.ask(number, question),
        write: (number, again) => this.write(number, again),
        pick: () => this.settings.pick,
      },
    }));
    this.differences = this.sides.length > 1 && new Differences(this.sides.map(({ name }) => name),
      (at, passage, choice) => this.choose(at, passage, choice));
    replace(this.textColumn, make("div", { class: "wbx-words-row" }, group("Words", menus.colour.field, menus.pick.field)),
      this.differences && this.differences.element, this.texts.map(({ element }) => element));
  }

  methods() {
    return (this.sides.find(({ closed }) => !closed) ?? this.sides[0]).methods;
  }

  // Every radiograph on the page: those with maps, and the view from the side.
  shown() { return this.beside ? [...this.panels, this.beside] : this.panels; }

  async showLateral(on) {
    this.set({ lateral: on, ...(on ? { second: "", truth: true } : {}) }, false, false);
    try {
      if (on && !this.lateral.lines) {
        const asked = this.front.ask("lateral");
        this.app.follow(asked, "Projecting the chest from the side");
        this.lateral = await asked;
      }
      if (this.closed) return;
      await this.buildPanels();
      this.update();
    } catch (error) { this.set({ lateral: false }, false, false); this.app.fail(error); }
  }

  // One radiograph, or two: two sides, two methods of one side, or two views of one chest.
  async buildPanels() {
    const { settings } = this;
    const linked = settings.lateral && this.lateral?.lines;
    const wanted = this.sides.length > 1 ? [0, 1] : settings.second ? [0, 0] : [0];
    this.shown().forEach((panel) => panel.close());
    const panel = (side, view) => new Panel({
      side, view, looks: () => ({ tables: this.tables, settings: this.settings }), changed: (grey) => this.viewChanged(grey),
    });
    this.panels = wanted.map((side) => panel(side, this.view));
    this.beside = linked ? panel(0, besideOf(this.view)) : null;
    replace(this.radiographs, this.zooming, this.shown().map(({ element }) => element));
    for (const { radiograph } of this.shown()) radiograph.whole = this.app.root;
    replace(this.zooming, imageTools(this.panels[0].radiograph));
    this.grid.dataset.radiographs = String(this.shown().length);
    this.grid.dataset.sides = String(this.sides.length);
    const opened = this.panels.map((one) => one.open(this.sides[one.side], linked ? "Frontal" : this.sides[one.side].name));
    if (linked) opened.push(this.beside.open(this.lateral, "Lateral"));
    await Promise.all(opened);
    this.link = linked ? new Linked(this.shown(), this.lateral.lines) : null;
    this.paintAll();
  }

  takeTexts(state) {
    if (this.closed) return;
    this.revision = state.revision;
    state.sides.forEach((side, at) => {
      const before = new Map((this.sides[at].passages ?? []).map((passage) => [passage.number, passage]));
      this.sides[at].passages = side.passages.map((passage) => before.get(passage.number) ?? passage);
      this.sides[at].heads = side.heads;
      Object.assign(this.contributions[at], side.contributions);
      this.texts[at].update(this.sides[at].passages);
      this.texts[at].colour(this.settings.colour, this.contributions[at], this.full);
    });
    this.compare();
    this.fillLayers();
  }

  compare() { if (this.differences) this.differences.update(this.sides); }

  // Layers and heads that every model has which shows its inside.
  fillLayers() {
    const open = this.sides.filter(({ closed }) => !closed);
    const [layers, heads] = ["layers", "heads"].map((name) => Math.min(...open.map((side) => side[name])));
    if (!open.length) return;
    const numbers = (count, mean) => [{ value: "", label: mean },
      ...Array.from({ length: count }, (_, at) => ({ value: at, label: String(at) }))];
    this.menus.layer.set(numbers(layers, "mean"), this.settings.layer ?? "");
    this.menus.head.set(numbers(heads, "mean"), this.settings.head ?? "");
    const method = this.methodOf(0);
    this.menus.layer.field.hidden = !method?.layers;
    this.menus.head.field.hidden = !method?.heads || !heads;
    this.menus.sign.field.hidden = !this.panels.some((panel, at) => this.methodOf(at)?.signed) && !method?.signed;
  }

  // ------------------------------------------------------------------------------ choosing

  methodOf(panel) {
    const name = panel === 1 && this.sides.length === 1 ? this.settings.second : this.settings.method;
    return this.methods().find((method) => method.name === name);
  }

  set(changes, now = false, update = true) {
    Object.assign(this.settings, changes);
    for (const [name, value] of Object.entries(changes)) {
      this.toggles[name]?.set(value);
      if (this.menus[name]) this.menus[name].select.value = value ?? "";
    }
    this.remember();
    if (!update) return;
    if ("colour" in changes) { this.recolour(); return; }
    if ("method" in changes || "layer" in changes || "head" in changes) { this.fillLayers(); this.update(now); return; }
    this.paintAll();
  }

  paintAll() {
    this.shown().forEach((panel) => panel.paint());
    this.link?.write(this.settings.truth);
  }

  viewChanged(grey) {
    for (const panel of this.shown()) panel.radiograph.redraw(grey);
    for (const name of ["model", "invert", "flip", "hand"]) this.toggles[name].set(this.view[name]);
    this.remember();
  }

  // Python keeps what is chosen, for reloaded pages and second views.
  remember() {
    if (this.frozen) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const settings = { ...this.settings, view: { ...this.view },
        chosen: this.chosen.map((one) => (one ? { passage: one.passage, ...one.choice } : null)) };
      this.front.ask("keep", { settings }).catch((error) => this.app.fail(error));
    }, 300);
  }

  chooseFirst(side) {
    const passage = this.sides[side].passages.at(-1);
    const row = passage.findings.find(({ code }) => code === "present") ??
      (passage.kind === "answer" ? passage.findings[0] : null);
    this.choose(side, passage.number, row ? { finding: row.finding } : {}, false);
  }

  choose(side, passage, choice, together = true, now = false) {
    this.app.clear();
    this.chosen[side] = { passage, choice };
    this.texts[side].select(this.chosen[side]);
    if (together && choice.finding) this.chooseAlike(side, choice.finding);
    this.remember();
    this.update(now);
  }

  // The same finding on the other side, where its newest text speaks of it.
  chooseAlike(side, finding) {
    const other = 1 - side;
    const texts = this.sides[other]?.passages ?? [];
    const passage = [...texts].reverse().find(({ findings }) => findings.some((row) => row.finding === finding));
    if (!passage) return;
    this.chosen[other] = { passage: passage.number, choice: { finding } };
    this.texts[other].select(this.chosen[other]);
  }

  passageOf(side, number) { return this.sides[side].passages.find((passage) => passage.number === number); }

  update(now = false) { this.finder.update(now); }

  announce(text) { if (text) this.app.say(text); }

  // ------------------------------------------------------------------------------ texts

  write(side, again) {
    return this.stream(side, again ? "Writing again" : "Writing the report", "write", { again });
  }

  ask(side, question) { return this.stream(side, "Answering", "ask", { question }, question); }

  async stream(side, label, name, content, question = "") {
    const texts = this.texts[side];
    if (texts.busy) return;
    let coming = null;
    const before = this.chosen[side];
    const asked = this.front.ask(name, { side, ...content }, { piece: (text) => coming?.piece(text) });
    coming = texts.stream(asked, label, question);
    this.writing += 1;
    try {
      const { passage, revision } = await asked;
      this.revision = Math.max(this.revision, revision);
      if (this.closed) return;
      const { passages } = this.sides[side];
      if (!passages.some(({ number }) => number === passage.number)) passages.push(passage);
      texts.update(passages);
      this.compare();
      texts.colour(this.settings.colour, this.contributions[side], this.full);
      if (this.chosen[side] === before) this.chooseFirst(side); // what was clicked meanwhile stays chosen
      this.app.say(`${label}: done. ${passage.text}`);
      if (this.settings.colour === "image") this.recolour();
      this.refresh();
    } catch (error) { if (!this.closed) this.app.fail(error); } finally { this.writing -= 1; }
  }

  async recolour() {
    const { colour } = this.settings;
    this.texts.forEach((texts, at) => texts.colour(colour, this.contributions[at], this.full));
    if (colour !== "image") return;
    for (const [at, side] of this.sides.entries()) {
      for (const passage of [...side.passages].reverse()) {
        if (this.contributions[at][passage.number] || this.settings.colour !== "image") continue;
        if (this.frozen || side.closed) continue;
        const asked = this.front.ask("ground", { side: at, passage: passage.number });
        this.texts[at].follow(asked, "Reading the text without its image");
        try {
          this.contributions[at][passage.number] = (await asked).words;
        } catch (error) {
          if (!this.closed) { this.app.fail(error); if (error.cancelled) this.set({ colour: "none" }); }
          return;
        }
        if (this.closed) return;
        this.texts[at].colour(this.settings.colour, this.contributions[at], this.full);
      }
    }
  }

  // ------------------------------------------------------------------------------ keys and files

  key(event) {
    if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey || !this.toggles) return;
    const { settings, view } = this;
    const flip = (name) => () => { if (!this.toggles[name].element.hidden) this.set({ [name]: !settings[name] }); };
    const flipView = (name) => () => { view[name] = !view[name]; this.viewChanged(true); };
    const acts = {
      o: flip("overlay"), s: flip("smooth"), t: flip("truth"), i: flipView("invert"), v: flipView("model"),
      m: () => this.nextMethod(1), M: () => this.nextMethod(-1), f: () => this.nextFinding(1), F: () => this.nextFinding(-1),
      c: () => this.set({ colour: nextOf(Object.keys(COLOUR_NAMES), settings.colour, 1) }),
      "/": () => this.texts[0].question?.focus(),
    };
    if (event.defaultPrevented) return;
    if (!acts[event.key]) { this.keyElsewhere(event); return; }
    event.preventDefault();
    acts[event.key]();
  }

  // Keys of the text that is chosen, where nothing else has the focus, and those of the image.
  keyElsewhere(event) {
    const at = Math.max(0, this.chosen.findIndex(Boolean));
    if (event.target === this.app.root) this.texts[at]?.key(event, this.chosen[at]?.passage);
    if (!event.defaultPrevented) this.panels[0]?.radiograph.shortcut(event);
  }

  nextMethod(step) {
    const names = this.methods().map(({ name }) => name);
    this.set({ method: nextOf(names, this.settings.method, step), layer: null, head: null });
  }

  nextFinding(step) {
    const side = 0;
    const passage = this.passageOf(side, this.chosen[side]?.passage) ?? this.sides[side].passages[0];
    const names = passage?.findings.map(({ finding }) => finding) ?? [];
    if (!names.length) return;
    this.choose(side, passage.number, { finding: nextOf(names, this.chosen[side]?.choice.finding, step) });
  }

  fileName(ending) {
    const source = this.sides[0].radiograph.source.replace(/\.\w+$/, "").replace(/[^\w-]+/g, "_").slice(0, 60) || "radiograph";
    return `explorer_${source}.${ending}`;
  }

  async savePicture() {
    const canvas = pictureOf(this.shown(), this.app.root.querySelector(".wb-notice")?.textContent ?? "");
    canvas.toBlob((blob) => blob && keep(this.fileName("png"), blob, "image/png"), "image/png");
  }

  saveDrawing() {
    keep(this.fileName("svg"), svgOf(this.shown(), this.app.root.querySelector(".wb-notice")?.textContent ?? ""), "image/svg+xml");
  }

  async savePage() {
    const asked = this.front.ask("page");
    this.app.follow(asked, "Writing the page");
    try { keep(this.fileName("html"), (await asked).html, "text/html"); } catch (error) { this.app.fail(error); }
  }
}

export function render({ model, el }) {
  const view = new ExplorerView(model, el);
  view.start();
  return () => view.close();
}
