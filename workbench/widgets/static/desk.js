// What reviewer and reader share: a film with its tools, a focus that is not lost, typed text that is kept.
// Does not know what is judged.
import { button, make, put, replace, toggle } from "./common.js";
import { Film } from "./film.js";

// A film with buttons; `show(promise)` fills it, and says why where there is none.
export function filmPane(app) {
  const film = new Film({ label: "Radiograph", changed: (grey) => film.redraw(grey) });
  const invert = toggle("Invert", false, (on) => { film.view.invert = on; film.redraw(true); }, { title: "Black for white (i)" });
  const hand = toggle("Move", false, (on) => { film.view.hand = on; }, { title: "Drag moves the film, not its window (m)" });
  const words = make("p", { class: "desk-nofilm" });
  const tools = make("div", { class: "desk-filmtools" }, film.buttons(), invert.element, hand.element);
  const element = make("div", { class: "desk-film" }, film.element, words, tools);
  let turn = 0;
  const none = (text) => { words.textContent = text; film.element.hidden = true; tools.hidden = true; };
  app.root.addEventListener("wb-resized", () => film.redraw());
  none("");
  return {
    element, film, invert, hand,
    // found: a film or {none: text}; `fresh` whether zoom and window start anew
    async show(found, fresh) {
      const own = ++turn;
      try {
        const value = await found;
        if (own !== turn) return;
        if (!value?.png) { none(value?.none ?? "There is no film."); return; }
        words.textContent = "";
        film.element.hidden = false;
        tools.hidden = false;
        if (fresh) Object.assign(film.view, { zoom: 1, x: 0.5, y: 0.5, centre: 0.5, width: 1 });
        await film.show(value);
      } catch (error) {
        if (own === turn && !error.cancelled) none(`The film cannot be shown: ${error.message}`);
      }
    },
    wait(text) { turn += 1; none(text); },
    close() { turn += 1; film.close(); },
  };
}

// Draws, and puts the focus back into the app where drawing has taken it away.
export function keepingFocus(root, draw) {
  const inside = root.contains(document.activeElement);
  draw();
  if (inside && !root.contains(document.activeElement)) root.focus({ preventScroll: true });
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
