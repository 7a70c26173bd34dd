// Which map each radiograph shows and where it comes from: what was computed before, the attention that is
// here already, or Python. A map is only ever shown over the words it was made for.
import { meanOf, unpack } from "./maps.js";
import { computeButton } from "./panel.js";
import { sentencesWith, tokensOf, wordsOf } from "./words.js";

const MOST_KEPT = 400;
const MOST_ROWS = 40;

export class MapFinder {
  // view: the explorer: {panels, chosen, settings, methodOf, passageOf, front, app, announce}.
  constructor(view) {
    this.view = view;
    this.kept = new Map();
    this.timers = {};
  }

  close() { for (const timer of Object.values(this.timers)) clearTimeout(timer); }

  // Shows the map of what is chosen in every radiograph. now: somebody asked for it, however long it takes.
  update(now = false) {
    this.view.panels.forEach((panel, at) => this.updatePanel(panel, at, now));
  }

  updatePanel(panel, at, now) {
    if (panel.facts?.closed) { panel.empty(panel.facts.closed); return; }
    const chosen = this.view.chosen[panel.side];
    const method = this.view.methodOf(at);
    if (!chosen || !method) { panel.empty("Click a word to see where it came from."); return; }
    const passage = this.view.passageOf(panel.side, chosen.passage);
    if (!passage) { panel.empty("This text is gone; choose another."); return; }
    panel.sentence = sentencesWith(passage, chosen.choice);
    const { layer, head } = this.view.settings;
    const message = { side: panel.side, passage: chosen.passage, choice: chosen.choice, method: method.name,
      layer: method.layers ? layer : null, head: method.heads ? head : null };
    const key = JSON.stringify([message.side, message.passage, message.method, message.layer, message.head, chosen.choice]);
    if (panel.wanted === key && (panel.asked || (panel.map && !now))) return; // there, or on its way
    panel.wanted = key;
    panel.asked?.cancel();
    panel.asked = null;
    clearTimeout(this.timers[at]);
    const kept = this.kept.get(key);
    if (kept) { panel.show(kept.map, kept.said); this.view.announce(kept.said?.title); return; }
    const words = wordsOf(passage, chosen.choice);
    const label = `${method.label}: \u201c${words.length > 40 ? `${words.slice(0, 38)}...` : words}\u201d`;
    if (method.name === "attention") this.lookUp(panel, at, key, message, passage, label);
    else if (method.prompt || now) {
      panel.empty(`${label} ...`);
      this.timers[at] = setTimeout(() => this.compute(panel, key, message, label), now ? 0 : 150);
    } else panel.empty(label, computeButton(() => { panel.wanted = null; this.updatePanel(panel, at, true); }));
  }

  // Recorded attention: from the rows that are here, at once; what is to be said about it follows.
  async lookUp(panel, at, key, message, passage, label) {
    const tokens = tokensOf(passage, message.choice);
    if (!tokens.length) { panel.empty("No token wrote this."); return; }
    try {
      const rows = this.rowsHere(passage, message) ?? await this.fetchRows(passage, message);
      if (panel.wanted !== key || this.view.closed) return;
      const map = { ...meanOf(rows, tokens), signed: false, title: label, unit: "share of attention" };
      panel.show(map, null);
      this.timers[at] = setTimeout(() => this.askAbout(panel, key, message, map), 60);
    } catch (error) { this.complain(panel, key, error); }
  }

  async askAbout(panel, key, message, map) {
    try {
      const said = await this.view.front.ask("look", message);
      this.keepMap(key, { map, said });
      if (panel.wanted === key) { panel.said = said; panel.write(); this.view.announce(said.title); }
    } catch (error) { this.complain(panel, key, error, false); }
  }

  rowsHere(passage, { layer, head }) {
    passage.unpacked ??= new Map([["null/null", unpack(passage.rows)]]);
    return passage.unpacked.get(`${layer}/${head}`);
  }

  async fetchRows(passage, { side, layer, head }) {
    const rows = await this.view.front.ask("rows", { side, passage: passage.number, layer, head });
    const found = unpack(rows);
    passage.unpacked.set(`${layer}/${head}`, found);
    if (passage.unpacked.size > MOST_ROWS) passage.unpacked.delete([...passage.unpacked.keys()][1]);
    return found;
  }

  async compute(panel, key, message, label) {
    let row = null;
    const asked = this.view.front.ask("map", message, { progress: (value) => row?.progress(value) });
    panel.asked = asked;
    row = panel.follow(asked, label);
    try {
      const found = await asked;
      const map = { ...unpack(found.grid), signed: found.signed, title: found.title, unit: found.unit };
      this.keepMap(key, { map, said: found });
      if (panel.asked === asked) panel.asked = null;
      if (panel.wanted === key) { panel.show(map, found); this.view.announce(found.title); }
    } catch (error) {
      if (panel.asked === asked) panel.asked = null;
      this.complain(panel, key, error);
    }
  }

  keepMap(key, entry) {
    this.kept.set(key, entry);
    if (this.kept.size > MOST_KEPT) this.kept.delete(this.kept.keys().next().value);
  }

  complain(panel, key, error, empty = true) {
    if (this.view.closed) return;
    // Of two models one may lack what the other has: that is told in its place.
    const own = this.view.sides.length > 1 && ["InputError", "absent"].includes(error.kind);
    if (!own) this.view.app.fail(error);
    if (!empty || panel.wanted !== key) return;
    panel.wanted = null;
    const again = computeButton(() => this.updatePanel(panel, this.view.panels.indexOf(panel), true));
    panel.empty(error.cancelled ? "Stopped." : own ? `No map: ${error.message}` : "No map.", this.view.frozen || own ? null : again);
  }
}
