// The texts of one side: report, answers, findings to choose, and a line to ask from.
import { button, followed, make, put, replace } from "./common.js";
import { WordText, sharesOf } from "./words.js";

const KINDS = { report: "Report", sample: "Report, written again", answer: "Answer" };
const CODES = { present: "+ present", absent: "\u2212 absent", uncertain: "? uncertain" }; // no tick, no cross: they judge

export class Texts {
  // acts: {chosen(side, passage, choice, now), ask(side, question), write(side, again), pick()}
  constructor({ side, name, facts, acts, frozen }) {
    this.side = side;
    this.acts = acts;
    this.shown = new Map();
    this.frozen = frozen;
    this.items = make("div", { class: "wbx-items" });
    this.coming = make("div", { class: "wbx-coming" });
    this.work = make("div", {});
    this.legend = make("p", { class: "wbx-legend" });
    this.element = make("section", { class: "wbx-texts", "aria-label": name ? `Texts of ${name}` : "Texts" },
      name && name !== facts.radiograph.source && make("h3", { class: "wbx-name" }, name), this.warnings(facts), this.items, this.coming, this.work, this.legend,
      frozen ? null : this.form());
  }

  warnings({ radiograph, closed }) {
    this.told = new Set(radiograph.warnings.map(({ code }) => code));
    const rows = radiograph.warnings.map(warningBox);
    return make("details", { class: "wbx-image-facts" },
      make("summary", {}, radiograph.facts[0], radiograph.warnings.length ? ` \u2013 \u26a0 ${radiograph.warnings.length}` : ""),
      make("div", { class: "wbx-details" }, radiograph.facts.slice(1).join(" \u00b7 ")), rows,
      closed && make("div", { class: "wbx-details" }, closed));
  }

  form() {
    this.question = make("input", {
      type: "text", placeholder: "Ask about the image ...", "aria-label": "Question about the image", maxlength: 500,
      on: { keydown: (event) => { if (event.key === "Enter") { event.preventDefault(); this.send(); } } },
    });
    return make("div", { class: "wbx-ask" }, this.question,
      button("Ask", () => this.send(), { class: "wb-button wb-main" }),
      button("Write again", () => this.acts.write(this.side, true),
        { title: "Another report, with temperature 0.2 and top-p 0.8 as published" }));
  }

  send() {
    const question = this.question.value.trim();
    if (!question || this.busy) return;
    this.question.value = "";
    this.acts.ask(this.side, question);
  }

  // Draws texts that are not there yet and drops those that are gone.
  update(passages) {
    const numbers = new Set(passages.map(({ number }) => number));
    for (const [number, shown] of this.shown) {
      if (!numbers.has(number)) { shown.element.remove(); this.shown.delete(number); }
    }
    for (const passage of passages) if (!this.shown.has(passage.number)) this.add(passage);
  }

  add(passage) {
    const label = KINDS[passage.kind] ?? passage.kind;
    const text = new WordText(passage, {
      label: `${label}: words`,
      pick: this.acts.pick,
      chosen: (choice, now) => this.acts.chosen(this.side, passage.number, choice, now),
    });
    const chips = passage.findings.map((row) => {
      const chip = button([make("span", { class: "wbx-code" }, CODES[row.code] ?? row.code),
        ` ${row.finding}${row.side ? `, ${row.side}` : ""}`],
      () => this.acts.chosen(this.side, passage.number, { finding: row.finding }, false),
      { class: `wb-button wbx-chip wbx-${row.code}`, "aria-pressed": "false" });
      chip.dataset.finding = row.finding;
      return chip;
    });
    const element = make("article", { class: `wbx-passage wbx-kind-${passage.kind}` },
      passage.question && make("p", { class: "wbx-question" }, make("b", {}, "You: "), passage.question),
      make("div", { class: "wbx-passage-head" }, make("b", {}, label), make("span", { class: "wbx-origin" }, passage.origin)),
      passage.warnings.filter(({ code }) => !this.told.has(code) || code === "out-of-domain").map(warningBox),
      text.list,
      make("div", { class: "wbx-chips", role: "group", "aria-label": "Findings" }, chips,
        button("Whole text", () => this.acts.chosen(this.side, passage.number, {}, false),
          { class: "wb-button wbx-chip", "aria-pressed": "false" })));
    this.shown.set(passage.number, { element, text, passage, chips: [...element.querySelectorAll(".wbx-chip")] });
    put(this.items, element);
  }

  // Shows what is chosen; {passage, choice} or null.
  select(chosen) {
    this.chosen = chosen;
    if (this.coloured?.[0] === "attention") this.colour(...this.coloured);
    for (const [number, { text, chips }] of this.shown) {
      const own = chosen?.passage === number ? chosen.choice : null;
      text.show(own);
      const whole = own && !own.finding && (own.start === undefined || own.start === null);
      for (const chip of chips) {
        const on = own && (chip.dataset.finding ? chip.dataset.finding === own.finding : whole);
        chip.setAttribute("aria-pressed", String(Boolean(on)));
      }
    }
  }

  // By attention, the words of the text in which something is chosen.
  colour(kind, contributions, full) {
    this.coloured = [kind, contributions, full];
    for (const [number, { text, passage }] of this.shown) {
      const own = kind === "attention" && this.chosen?.passage === number ? sharesOf(passage, this.chosen.choice) : null;
      text.colour(kind, kind === "image" ? contributions[number] : own, full);
    }
    replace(this.legend, legendOf(kind));
  }

  // A text that is being written; returns {piece, over}.
  stream(asked, label, question) {
    const words = make("div", { class: "wbx-words wbx-streaming", "aria-busy": "true" });
    const work = make("div", { class: "wbx-stream-work" });
    replace(this.coming, make("article", { class: "wbx-passage" },
      question && make("p", { class: "wbx-question" }, make("b", {}, "You: "), question),
      make("div", { class: "wbx-passage-head" }, make("b", {}, label)), words, work));
    followed(work, asked, label);
    this.busy = true;
    const over = () => { this.busy = false; replace(this.coming); };
    asked.then(over, over);
    return { piece: (text) => put(words, text) };
  }

  // A key for the words of a text, pressed where no text has the focus; the newest text's where none is named.
  key(event, number) { (this.shown.get(number) ?? [...this.shown.values()].at(-1))?.text.key(event); }

  follow(asked, label) { followed(this.work, asked, label); }
}

// What the newest reports of two sides state, finding by finding, and where they differ.
export class Differences {
  constructor(names, chosen) {
    this.names = names;
    this.chosen = chosen;
    this.title = make("summary", {});
    this.table = make("div", { class: "wbx-stated" });
    this.element = make("details", { class: "wbx-differences" }, this.title, this.table);
    this.element.open = window.innerHeight > 850; // the texts come first where there is little room
  }

  update(sides) {
    const reports = sides.map(({ passages }) => passages.filter(({ kind }) => kind !== "answer").at(-1));
    this.element.hidden = !reports.every(Boolean);
    if (this.element.hidden) return;
    const stated = reports.map(({ findings }) => new Map(findings.map((row) => [row.finding, row])));
    const names = [...new Set(stated.flatMap((rows) => [...rows.keys()]))];
    const rows = names.map((name) => {
      const found = stated.map((of) => of.get(name));
      const differ = found[0]?.code !== found[1]?.code || found[0]?.side !== found[1]?.side;
      return { name, found, differ };
    });
    const count = rows.filter(({ differ }) => differ).length;
    this.title.textContent = names.length ? `Findings: ${names.length} stated, ${count} differ`
      : "Neither report states a finding";
    replace(this.table, names.length > 0 && make("table", {},
      make("thead", {}, make("tr", {}, ["Finding", ...this.names].map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, rows.map((row) => this.row(row, reports)))));
  }

  row({ name, found, differ }, reports) {
    const at = found.findIndex(Boolean);
    const choose = button(differ ? `\u2260 ${name}` : name, () => this.chosen(at, reports[at].number, { finding: name }),
      { class: "wb-button wbx-chip", title: differ ? "The reports differ" : "The reports say the same" });
    const cells = found.map((row) => make("td", {}, row ? `${CODES[row.code] ?? row.code}${row.side ? `, ${row.side}` : ""}` : "not mentioned"));
    return make("tr", { class: differ ? "wbx-differ" : "" }, make("th", { scope: "row" }, choose), cells);
  }
}

function warningBox({ code, message }) {
  return make("div", { class: "wb-warning" }, make("b", {}, `\u26a0 ${code}: `), message);
}

function legendOf(kind) {
  if (kind === "image") {
    return [make("span", { class: "wbx-for", style: "--strength: 1" }, "solid line"), " the image spoke for the word, ",
      make("span", { class: "wbx-against", style: "--strength: 1" }, "dashed line"), " against it, no line: without this ",
      "image the model would have written the same. How much the image was used, not whether it is true."];
  }
  if (kind === "attention") {
    return [make("span", { class: "wbx-for", style: "--strength: 1" }, "line"), " what the chosen words paid attention to ",
      "among the words before them: mean of all layers and heads, darkest for the largest. Where it looked, not why."];
  }
  if (kind === "confidence") {
    return [make("span", { class: "wbx-unsure", style: "--strength: 1" }, "dotted line"), " the model was less sure of the word: ",
      "token confidence (not correctness)."];
  }
  return "";
}
