// What reviewer and reader share: a radiograph with its tools, a focus that is not lost, typed text that is kept.
// Does not know what is judged.
import { button, make, put, replace, toggle } from "./common.js";
import { boxTool } from "./boxes.js";
import { imageTools } from "./imagetools.js";
import { Radiograph } from "./radiograph.js";

// A radiograph with buttons and boxes; `show(promise)` fills it, and says why where there is none. `drew`
// is called when boxes change.
export function radiographPane(app, drew) {
  const radiograph = new Radiograph({ label: "Radiograph", changed: (grey) => { radiograph.redraw(grey); marked(); } });
  const invert = toggle("Invert", false, (on) => { radiograph.view.invert = on; radiograph.redraw(true); }, { title: "Black for white (i)" });
  const flip = toggle("Flip", false, () => radiograph.flip(), { title: "Left for right (h)" });
  const hand = toggle("Pan", false, (on) => { radiograph.view.hand = on; }, { title: "Drag moves the image, not its window (m)" });
  const marked = () => { invert.set(radiograph.view.invert); flip.set(radiograph.view.flip); hand.set(radiograph.view.hand); };
  const boxes = radiograph.tool = boxTool(radiograph, drew);
  const words = make("p", { class: "desk-noradiograph" });
  const tools = make("div", { class: "desk-imagetools" }, invert.element, flip.element, hand.element,
    boxes.toggle.element, imageTools(radiograph), boxes.list);
  const element = make("div", { class: "desk-radiograph" }, radiograph.element, words, tools);
  let turn = 0;
  const none = (text) => { words.textContent = text; radiograph.element.hidden = true; tools.hidden = true; };
  app.root.addEventListener("wb-resized", () => radiograph.redraw());
  none("");
  return {
    element, radiograph, invert, hand, boxes,
    // found: a radiograph or {none: text}; `fresh` whether zoom and window start anew
    async show(found, fresh) {
      const own = ++turn;
      try {
        const value = await found;
        if (own !== turn) return;
        if (!value?.png) { none(value?.none ?? "There is no radiograph."); return; }
        words.textContent = "";
        radiograph.element.hidden = false;
        tools.hidden = false;
        if (fresh) radiograph.reset();
        await radiograph.show(value);
      } catch (error) {
        if (own === turn && !error.cancelled) none(`The radiograph cannot be shown: ${error.message}`);
      }
    },
    wait(text) { turn += 1; none(text); },
    close() { turn += 1; radiograph.close(); },
  };
}

// Draws, and puts the focus back into the app where drawing has taken it away.
export function keepingFocus(root, draw) {
  const inside = root.contains(document.activeElement);
  draw();
  const lost = !root.contains(document.activeElement) || document.activeElement.disabled;
  if (inside && lost) root.focus({ preventScroll: true });
}

// Acts one after another, in the order in which they were asked for: what is pressed while something
// is being written waits for its turn. An act that returns false has failed; what was pressed behind
// it was meant for what did not come, and is dropped.
export function inTurn(dropped) {
  let waiting = [];
  let busy = false;
  const run = async () => {
    busy = true;
    while (waiting.length) {
      const failed = await Promise.resolve().then(waiting[0].act).catch(later) === false;
      if (failed && waiting.slice(1).some(({ kind }) => kind)) {
        waiting = waiting.filter(({ kind }, at) => at === 0 || !kind);
        dropped();
      }
      waiting.shift();
    }
    busy = false;
  };
  return {
    // kind: "" for what nobody pressed a key for; next: before all others that wait
    add(act, kind, next = false) {
      if (next && busy) waiting.splice(1, 0, { act, kind }); else waiting.push({ act, kind });
      if (!busy) run();
    },
    // Takes back the last one of a kind that has not begun; returns whether there was one.
    takeBack(kind) {
      const at = waiting.map((one) => one.kind).lastIndexOf(kind);
      return at > 0 && waiting.splice(at, 1).length > 0;
    },
    get busy() { return busy; },
  };
}

// An error of the page itself is the browser's to report; the turn of the others comes.
function later(error) { setTimeout(() => { throw error; }); return false; }

const GLANCE = 700;
const REACTION = 250; // milliseconds after which a key can be about what has just been shown

// A verdict that was pressed before its report was there: shown on its button for a moment, beside
// the report that it will be about, and only then given. seen() is false where it was taken back.
export function pressedAhead(say) {
  let wanted = null;
  return {
    seen(element) {
      element.classList.add("desk-ahead");
      say("Pressed ahead: written in a moment; z takes it back, another key replaces it.");
      return new Promise((done) => {
        const over = (stands) => { clearTimeout(timer); element.classList.remove("desk-ahead"); wanted = null; done(stands); };
        const timer = setTimeout(over, GLANCE, true);
        wanted = { over, from: performance.now() };
      });
    },
    // Whether there was one to take back.
    takeBack() { const there = wanted !== null; wanted?.over(false); return there; },
    // The same for another verdict, unless that was pressed too soon to be about what is shown.
    replace() { return wanted !== null && performance.now() - wanted.from > REACTION && this.takeBack(); },
  };
}

// The key that opens a note, and the letters behind it while the note has to wait for its turn.
export function noteKeys(turns, area, typed) {
  let held = null;
  return {
    open() {
      if (!turns.busy) { area.focus(); return; }
      held = "";
      turns.add(() => {
        area.focus();
        if (held) { area.value += held; typed(); }
        held = null;
      }, "note");
    },
    // Whether a key was a letter of the note.
    take({ key }) {
      if (held === null) return false;
      if (key === "Backspace") held = held.slice(0, -1);
      else if (key === "Enter") held += "\n";
      else if (key.length === 1) held += key;
      return true;
    },
    drop() { held = null; },
  };
}

// Keeps what is typed a moment after the last key, and at once when asked: later(), now().
export function keeper(keep, wait = 700) {
  let timer = null;
  const now = () => { if (timer !== null) { clearTimeout(timer); timer = null; return keep(); } return null; };
  return {
    later() { clearTimeout(timer); timer = setTimeout(() => { timer = null; keep(); }, wait); },
    now,
    drop() { clearTimeout(timer); timer = null; },
    get waiting() { return timer !== null; },
  };
}

// A bar with its numbers in words.
export function progressBar(label) {
  const words = make("span", { class: "desk-count" });
  const done = make("div", { class: "desk-done" });
  const bar = make("div", { class: "desk-bar", role: "progressbar", "aria-label": label, "aria-valuemin": 0 }, done);
  const element = make("div", { class: "desk-progress" }, words, bar);
  const set = (part, whole, text) => {
    words.textContent = text;
    bar.setAttribute("aria-valuemax", whole);
    bar.setAttribute("aria-valuenow", part);
    bar.setAttribute("aria-valuetext", text);
    done.style.width = `${whole ? (100 * part) / whole : 0}%`;
  };
  return { element, set };
}

// A button of the first rank: its key, its name and what it means.
export function verdictButton(key, name, means, act) {
  const mark = make("span", { class: "desk-chosen" });
  const element = button([make("kbd", {}, key.toUpperCase()), make("span", { class: "desk-verdict-name" }, name), mark,
    make("span", { class: "desk-means" }, means)], act, { class: "wb-button desk-verdict", "aria-pressed": "false", title: means || null });
  const set = (chosen) => {
    element.setAttribute("aria-pressed", String(chosen));
    replace(mark, chosen ? ["\u2713", make("span", { class: "wb-hidden" }, " yours")] : "");
  };
  return { element, set };
}

// Which act a key event asks for; none while somebody types, holds a key down or uses a shortcut.
export function plainKey(event, typing) {
  if (event.defaultPrevented || event.repeat || event.ctrlKey || event.metaKey || event.altKey || typing) return null;
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
}

export function paragraph(pieces, empty) {
  return pieces === null || pieces === undefined
    ? make("p", { class: "desk-none" }, empty) : put(make("p", { class: "desk-text" }), pieces);
}
