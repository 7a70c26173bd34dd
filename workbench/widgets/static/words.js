// A text whose words can be chosen: by click, drag, Shift and arrows; words can be coloured.
import { clamp, make, put, replace } from "./common.js";
import { unpack } from "./maps.js";

let textCount = 0;

const COLOURINGS = {
  none: "nothing",
  image: "what the image contributed",
  confidence: "token confidence (not correctness)",
  attention: "attention between words",
};
export const COLOUR_NAMES = COLOURINGS;

// new WordText(passage, {label, chosen: (choice) => ..., pick: () => "word" | "sentence"})
// A choice is {start, end} in characters, {finding}, or {} for the whole text.
export class WordText {
  constructor(passage, { label, chosen, pick = () => "word" }) {
    this.passage = passage;
    this.chosen = chosen;
    this.pick = pick;
    this.anchor = 0;
    this.cursor = 0;
    this.id = `wbx-text-${textCount += 1}`;
    this.list = make("div", {
      class: "wbx-words", role: "listbox", tabindex: 0, "aria-multiselectable": "true", id: this.id, "aria-label": label,
    });
    this.words = [];
    this.drawWords();
    this.listen();
  }

  drawWords() {
    const { words } = this.passage;
    let at = 0;
    replace(this.list);
    this.words = words.map((word, number) => {
      const between = cut(this.passage, at, word.start);
      at = word.end;
      put(this.list, between);
      const element = make("span", {
        class: "wbx-word", role: "option", id: `${this.id}-${number}`, "aria-selected": "false", "data-word": number,
      }, cut(this.passage, word.start, word.end));
      put(this.list, element);
      return element;
    });
    put(this.list, cut(this.passage, at));
  }

  listen() {
    let from = null;
    const wordAt = (event) => {
      const over = document.elementFromPoint(event.clientX, event.clientY) ?? event.target;
      const element = over.closest?.(".wbx-word");
      return element && this.list.contains(element) ? Number(element.dataset.word) : null;
    };
    this.list.addEventListener("pointerdown", (event) => {
      const word = wordAt(event);
      if (event.button !== 0 || word === null) return;
      event.preventDefault(); // no selection of text: a drag chooses words
      this.list.focus({ preventScroll: true });
      if (event.shiftKey) { this.choose(this.anchor, word); return; }
      from = word;
      this.anchor = word;
      this.choose(word, word);
    });
    this.list.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const word = wordAt(event);
      if (word !== null && word !== this.cursor) this.choose(from, word);
    });
    const end = () => { from = null; };
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) this.list.addEventListener(name, end);
    this.list.addEventListener("dblclick", () => this.chooseSentence(this.sentenceOf(this.cursor)));
    this.list.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.words.length - 1;
    const sentence = this.sentenceOf(this.cursor);
    const go = (word) => {
      const next = clamp(word, 0, last);
      if (!event.shiftKey) this.anchor = next;
      this.choose(this.anchor, next, true);
    };
    const acts = {
      ArrowRight: () => go(this.cursor + 1), ArrowLeft: () => go(this.cursor - 1),
      Home: () => go(0), End: () => go(last),
      ArrowDown: () => this.chooseSentence(sentence + 1), ArrowUp: () => this.chooseSentence(sentence - 1),
      a: () => this.chooseAll(), Enter: () => this.enter(), " ": () => this.enter(),
    };
    if (!acts[event.key] || last < 0) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }

  // From a word to another, in either order; whole sentences where those are picked.
  choose(first, second, exact = false) {
    this.cursor = second;
    let [low, high] = [Math.min(first, second), Math.max(first, second)];
    const { words, sentences } = this.passage;
    if (!words.length) return;
    let [start, end] = [words[low].start, words[high].end];
    if (!exact && this.pick() === "sentence" && sentences.length) {
      start = sentences[this.sentenceOf(low)][0];
      end = sentences[this.sentenceOf(high)][1];
    }
    this.take({ start, end });
  }

  chooseSentence(number) {
    const { sentences, words } = this.passage;
    if (!sentences.length) return;
    const [start, end] = sentences[clamp(number, 0, sentences.length - 1)];
    const first = words.findIndex((word) => word.end > start);
    this.anchor = this.cursor = Math.max(0, first);
    this.take({ start, end });
  }

  chooseAll() { this.take({}); }

  // At once, without waiting for the next key; the word at hand where another text holds the choice.
  enter() {
    if (this.choice) this.chosen(this.choice, true);
    else this.choose(this.cursor, this.cursor, true);
  }

  take(choice) { this.chosen(choice, false); }

  sentenceOf(word) {
    const { sentences, words } = this.passage;
    const start = words[word]?.start ?? 0;
    const found = sentences.findIndex(([, end]) => start < end);
    return found < 0 ? sentences.length - 1 : found;
  }

  // Shows a choice that was made here or elsewhere; null for none.
  show(choice) {
    this.choice = choice;
    const span = choice && spanOf(this.passage, choice);
    const around = choice?.finding && span ? sentenceAround(this.passage, span) : null;
    this.words.forEach((element, number) => {
      const word = this.passage.words[number];
      const inside = (part) => Boolean(part) && word.start < part.end && word.end > part.start;
      element.setAttribute("aria-selected", String(inside(span)));
      element.classList.toggle("wbx-around", inside(around)); // a finding is explained by its whole sentence
      element.classList.remove("wbx-cursor");
    });
    if (span) {
      const first = this.passage.words.findIndex((word) => word.end > span.start && word.start < span.end);
      const here = this.passage.words[this.cursor];
      if (first >= 0 && !(here && here.start < span.end && here.end > span.start)) this.anchor = this.cursor = first;
      this.words.forEach((element, number) => element.classList.toggle("wbx-cursor", number === this.cursor));
      this.list.setAttribute("aria-activedescendant", `${this.id}-${this.cursor}`);
    } else this.list.removeAttribute("aria-activedescendant");
  }

  // Colours words by numbers: tint and line say the same, so that colour is not alone.
  // values: of each word; full: the value that has the full colour. Of attention it is the largest.
  colour(kind, values, full) {
    if (kind === "attention") full = Math.max(0, ...(values ?? [])) || 1;
    this.words.forEach((element, number) => {
      const value = kind === "confidence" ? this.passage.words[number].probability : values?.[number];
      element.classList.remove("wbx-for", "wbx-against", "wbx-unsure");
      element.style.removeProperty("--strength");
      element.removeAttribute("title");
      if (kind === "none" || value === null || value === undefined) return;
      if (kind !== "confidence") {
        const strength = Math.min(1, Math.abs(value) / full);
        element.title = kind === "attention" ? `${(100 * value).toFixed(1)} % of the attention`
          : `${value >= 0 ? "+" : "\u2212"}${Math.abs(value).toFixed(2)} nats`;
        if (strength > 0.08) element.classList.add(value > 0 ? "wbx-for" : "wbx-against");
        element.style.setProperty("--strength", String(strength));
      } else {
        element.title = `token confidence ${value.toFixed(2)}`;
        if (value < 0.95) element.classList.add("wbx-unsure");
        element.style.setProperty("--strength", String(1 - value));
      }
    });
  }
}

// Python counts characters, JavaScript halves of some of them.
function lettersOf(passage) { return passage.letters ??= Array.from(passage.text); }

function cut(passage, start, end) { return lettersOf(passage).slice(start, end).join(""); }

// The characters of a choice; those that name a finding, or all of them.
export function spanOf(passage, choice) {
  if (choice.finding) {
    const row = passage.findings.find(({ finding }) => finding === choice.finding);
    return row ? { start: row.start, end: row.end } : null;
  }
  if (choice.start === undefined || choice.start === null) return { start: 0, end: lettersOf(passage).length };
  return choice;
}

function sentenceAround(passage, span) {
  const around = passage.sentences.find(([start, end]) => start <= span.start && span.start < end);
  return around ? { start: around[0], end: around[1] } : null;
}

// The tokens whose rows make up a map of recorded attention: those of the sentence for a finding.
export function tokensOf(passage, choice) {
  let span = spanOf(passage, choice);
  if (!span) return [];
  if (choice.finding) span = sentenceAround(passage, span) ?? span;
  return passage.offsets.flatMap(([first, last], token) => (first < span.end && last > span.start ? [token] : []));
}

// How much of their attention the tokens of a choice paid to each word before them; null where it is not known.
export function sharesOf(passage, choice) {
  const tokens = tokensOf(passage, choice);
  if (!passage.between || !tokens.length) return null;
  const { shape: [, size], values } = passage.betweenHere ??= unpack(passage.between);
  const paid = (key) => tokens.reduce((sum, token) => sum + values[token * size + key], 0) / tokens.length;
  return passage.words.map(({ start, end }) => passage.offsets.reduce(
    (sum, [first, last], key) => (first < end && last > start ? sum + paid(key) : sum), 0));
}

export function wordsOf(passage, choice) {
  const span = spanOf(passage, choice);
  if (!span) return choice.finding ?? "";
  if (choice.start === undefined && !choice.finding) return "the whole text";
  return cut(passage, span.start, span.end).replace(/\s+/g, " ");
}

// The sentences that a choice lies in, as they stand in the text.
export function sentencesWith(passage, choice) {
  const span = spanOf(passage, choice);
  const around = span ? passage.sentences.filter(([start, end]) => start < span.end && end > span.start) : [];
  return around.length ? cut(passage, around[0][0], around.at(-1)[1]).replace(/\s+/g, " ").trim() : "";
}
