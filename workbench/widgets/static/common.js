// What every page of the workbench shares: questions to Python, elements, the frame around an app.
// Text from outside only ever becomes text nodes; nothing is fetched.

// ---------------------------------------------------------------------------------- elements

// make("button", {class: "wb-button", on: {click}, "aria-label": "Zoom in"}, "+")
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function drawn(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (name === "style") element.style.cssText = value;
    else if (name === "value") element.value = value;
    else if (name === "checked") element.checked = true;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  put(element, ...children);
  return element;
}

// Adds children; whatever is not an element becomes text.
export function put(element, ...children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren();
  return put(element, ...children);
}

export function button(label, act, attributes = {}) {
  const { title, ...rest } = attributes;
  return make("button", { type: "button", class: "wb-button", title, on: { click: act }, ...rest }, label);
}

// A labelled menu; options are texts or {value, label}. A menu that was used with the pointer hands
// the focus back to its app, so that the next letter is a key of the app and picks no other option.
export function menu(label, options, value, act) {
  let byHand = false;
  const select = make("select", { class: "wb-select", on: {
    pointerdown: () => { byHand = true; }, keydown: () => { byHand = false; },
    change: () => { act(select.value); if (byHand) toApp(select); },
  } });
  const set = (offered, chosen) => {
    replace(select, offered.map((option) => {
      const { value: key, label: shown } = typeof option === "object" ? option : { value: option, label: option };
      return make("option", { value: key }, shown);
    }));
    if (chosen !== undefined && chosen !== null) select.value = String(chosen);
  };
  set(options, value);
  const field = make("label", { class: "wb-field" }, make("span", { class: "wb-label" }, label), select);
  return { field, select, set };
}

// Gives the focus to the app around an element.
export function toApp(element) { element.closest(".wb")?.focus({ preventScroll: true }); }

// A labelled slider; act is called while it moves.
export function slider(label, { min, max, step, value, show = String }, act) {
  const output = make("output", { class: "wb-value" }, show(value));
  const input = make("input", { type: "range", min, max, step, value, on: { input: () => {
    output.textContent = show(Number(input.value));
    input.setAttribute("aria-valuetext", show(Number(input.value)));
    act(Number(input.value));
  } } });
  const field = make("label", { class: "wb-field" }, make("span", { class: "wb-label" }, label, " ", output), input);
  const set = (number) => { input.value = number; output.textContent = show(Number(number)); };
  return { field, input, set };
}

// A button that is on or off.
export function toggle(label, on, act, attributes = {}) {
  const element = button(label, () => { set(!value); act(value); }, attributes);
  let value = on;
  function set(next) { value = next; element.setAttribute("aria-pressed", String(next)); }
  set(on);
  return { element, set, get value() { return value; } };
}

// ---------------------------------------------------------------------------------- Python

export class Failure extends Error {
  constructor(message, kind, cancelled = false) {
    super(message);
    this.kind = kind;
    this.cancelled = cancelled;
  }
}

// Questions to Python and what it tells. One for each view.
//   const answer = await front.ask("map", {word: 3}, {piece, progress, patience});
//   const asked = front.ask("slow"); asked.cancel();
//   front.on("changed", (content) => ...);
export class Front {
  constructor(model) {
    this.model = model;
    this.waiting = new Map();
    this.listeners = new Map();
    this.next = Math.floor(Math.random() * 2 ** 31) * 2 ** 20;
    this.receive = (message) => this.take(message);
    model.on("msg:custom", this.receive);
  }

  // patience: milliseconds without any word from Python before it counts as absent; 0 for ever. With
  // late that is called then and the question stays open: a busy kernel answers when it is free.
  ask(name, content = {}, { piece, progress, patience = 0, late = null } = {}) {
    const id = ++this.next;
    const asked = new Promise((resolve, reject) => {
      const entry = { resolve, reject, piece, progress, timer: null };
      if (patience) {
        entry.timer = setTimeout(() => (late ? late() : this.end(id, (own) => own.reject(
          new Failure("Python does not answer. Run the cell again to go on.", "absent")))), patience);
      }
      this.waiting.set(id, entry);
    });
    asked.cancel = () => { if (this.waiting.has(id)) this.model.send({ cancel: id }); };
    asked.id = id;
    this.model.send({ ...content, id, ask: name });
    return asked;
  }

  cancel(id) { this.model.send({ cancel: id }); }

  on(name, act) {
    if (!this.listeners.has(name)) this.listeners.set(name, []);
    this.listeners.get(name).push(act);
  }

  take(message) {
    if (message === null || typeof message !== "object") return;
    if ("tell" in message) {
      for (const act of this.listeners.get(message.tell) ?? []) act(message);
      return;
    }
    const entry = this.waiting.get(message.id);
    if (!entry) return;
    clearTimeout(entry.timer);
    if ("piece" in message) entry.piece?.(message.piece);
    else if ("progress" in message) entry.progress?.(message.progress);
    else if ("answer" in message) this.end(message.id, (own) => own.resolve(message.answer));
    else if ("failure" in message) {
      this.end(message.id, (own) => own.reject(new Failure(message.failure, message.kind)));
    } else if (message.cancelled) {
      this.end(message.id, (own) => own.reject(new Failure("cancelled", "cancelled", true)));
    }
  }

  end(id, act) {
    const entry = this.waiting.get(id);
    this.waiting.delete(id);
    clearTimeout(entry?.timer);
    if (entry) act(entry);
  }

  close() {
    this.model.off?.("msg:custom", this.receive);
    for (const id of [...this.waiting.keys()]) {
      this.cancel(id);
      this.end(id, (own) => own.reject(new Failure("closed", "cancelled", true)));
    }
  }
}

// ---------------------------------------------------------------------------------- preferences

function remembered(name) {
  try { return window.localStorage.getItem(`wb-${name}`); } catch { return null; }
}

function remember(name, value) {
  try {
    if (value === null) window.localStorage.removeItem(`wb-${name}`);
    else window.localStorage.setItem(`wb-${name}`, value);
  } catch { /* a page without storage forgets */ }
}

// "light" or "dark", as the page around is.
function surroundings() {
  const lab = document.body?.getAttribute("data-jp-theme-light");
  if (lab) return lab === "true" ? "light" : "dark";
  return window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

// ---------------------------------------------------------------------------------- the frame

// Whether an app has its page to itself (a page of `workbench app`, a saved page), so that it may take
// keys and wheel without having been clicked. In a notebook it is one cell among others.
export function alone() { return document.body?.hasAttribute("data-workbench-page") && window.parent === window; }

// The frame around an app: heading, theme and size, keys, one line of news, failures, progress. With
// `fit` the app is as tall as what is seen of its page, and its parts scroll instead of the page.
//   const app = frame(el, {title, notice, keys: [["←  →", "previous, next word"], ...], fit: true});
//   app.body, app.tools, app.say(text), app.fail(error), app.follow(asked, "Occlusion"), app.close()
export function frame(el, { title, notice, keys = [], fit = false }) {
  const root = make("section", { class: "wb", "aria-label": title, tabindex: -1 });
  const tools = make("div", { class: "wb-tools" });
  const news = make("div", { class: "wb-news", role: "status", "aria-live": "polite" });
  const trouble = make("div", { class: "wb-trouble", role: "alert" });
  const works = make("div", { class: "wb-works" });
  const body = make("div", { class: "wb-body" });
  const help = keysDialog(title, keys);
  const look = lookButtons(root);
  const head = make("header", { class: "wb-head" },
    make("div", { class: "wb-heading" },
      make("h2", { class: "wb-title" }, title),
      notice && make("p", { class: "wb-notice" }, make("span", { "aria-hidden": "true" }, "\u26a0 "), notice)),
    tools, make("div", { class: "wb-look" }, look.buttons,
      button("?", () => help.showModal(), { title: "Keys (?)", "aria-label": "Show the keys" })));
  put(root, head, trouble, body, make("footer", { class: "wb-foot" }, works, news), help);
  replace(el, root);
  root.addEventListener("keydown", (event) => { // while the list of keys is read, they do nothing
    if (help.open) event.stopImmediatePropagation();
  });
  root.addEventListener("keydown", (event) => {
    if (event.key === "?" && !isTyping(event.target)) { event.preventDefault(); help.showModal(); }
    // Keys meant for the app are not for the notebook around it; Ctrl+S and the like are.
    if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
  });
  const parts = [look, fit && fitted(root), alone() && listening(root)].filter(Boolean);
  return {
    root, head, body, tools, help,
    say(text) { news.textContent = text; },
    fail(error) { if (!error?.cancelled) showTrouble(trouble, error); },
    clear() { trouble.replaceChildren(); },
    follow: (asked, label) => followed(works, asked, label),
    close() { for (const part of parts) part.close(); root.remove(); },
  };
}

// Keys that nobody on the page has are the app's: after loading, and after a click beside everything.
function listening(root) {
  root.classList.add("wb-alone");
  const take = (event) => {
    if (![document.body, document.documentElement].includes(event.target)) return;
    const { key, code, shiftKey, ctrlKey, altKey, metaKey, repeat } = event;
    root.focus({ preventScroll: true });
    const own = new KeyboardEvent("keydown", { key, code, shiftKey, ctrlKey, altKey, metaKey, repeat, cancelable: true });
    if (!root.dispatchEvent(own)) event.preventDefault();
  };
  document.addEventListener("keydown", take);
  if ([document.body, null].includes(document.activeElement)) requestAnimationFrame(() => {
    if ([document.body, null].includes(document.activeElement)) root.focus({ preventScroll: true });
  });
  return { close() { document.removeEventListener("keydown", take); } };
}

// Widths and heights, in letters, from which an app fits what is seen of its page.
const FIT_WIDTH = 46;
const FIT_HEIGHT = 33;

function fitted(root) {
  const show = () => {
    if (!root.isConnected) return;
    const letter = parseFloat(getComputedStyle(root).fontSize);
    const room = roomOf(root);
    const fits = root.clientWidth >= FIT_WIDTH * letter && room >= FIT_HEIGHT * letter;
    root.classList.toggle("wb-fit", fits);
    root.style.height = fits ? `${room}px` : "";
    const over = document.documentElement.scrollHeight - window.innerHeight; // the page's margin below
    if (fits && over > 0 && over < 3 * letter) root.style.height = `${room - over}px`;
  };
  const later = () => requestAnimationFrame(show);
  const sized = new ResizeObserver(later);
  for (const element of [document.body, root]) sized.observe(element);
  window.addEventListener("resize", later);
  root.addEventListener("wb-resized", later);
  return { close() { sized.disconnect(); window.removeEventListener("resize", later); } };
}

// Pixels in height that are there for an app; 0 where only its own content decides, as in a frame
// that grows with it.
function roomOf(root) {
  if (document.fullscreenElement === root) return window.innerHeight;
  const lab = root.closest(".jp-WindowedPanel-outer");
  if (lab) return lab.clientHeight - 24;
  if (window.parent !== window) return 0;
  return window.innerHeight - Math.max(0, root.getBoundingClientRect().top + window.scrollY) - 4;
}

export function isTyping(element) {
  return element instanceof HTMLTextAreaElement || element instanceof HTMLSelectElement ||
    (element instanceof HTMLInputElement && !["checkbox", "radio", "range", "button"].includes(element.type)) ||
    element?.isContentEditable === true;
}

function showTrouble(place, error) {
  const text = error?.message ?? String(error);
  const box = make("div", { class: "wb-failure" },
    make("span", {}, make("b", {}, "\u26a0 "), text),
    button("\u00d7", () => box.remove(), { "aria-label": "Close this message", class: "wb-button wb-small" }));
  replace(place, box);
}

// Shows that something is being done, how far it is, and a way to stop it; gone when it is over.
export function followed(place, asked, label) {
  const bar = make("progress", { class: "wb-progress", max: 1, "aria-label": label });
  const words = make("span", { class: "wb-work-text" }, label);
  const row = make("div", { class: "wb-work" },
    make("span", { class: "wb-spinner", "aria-hidden": "true" }), words, bar,
    asked.cancel && button("Cancel", () => { words.textContent = `${label}: stopping`; asked.cancel(); },
      { class: "wb-button wb-cancel", "aria-label": `Cancel ${label}` }));
  const timer = setTimeout(() => put(place, row), 120); // what is quick does not flicker
  const over = () => { clearTimeout(timer); row.remove(); };
  asked.then(over, over);
  return {
    progress({ done, total, text }) {
      if (total) bar.value = Math.min(1, done / total); else bar.removeAttribute("value");
      words.textContent = text ? `${label}: ${text}` : label;
    },
    over,
  };
}

function keysDialog(title, keys) {
  const rows = [...keys, ["?", "this list"], ["Esc", "close"]].map(([key, what]) =>
    make("tr", {}, make("td", {}, String(key).split("  ").map((one) => [make("kbd", {}, one), " "])), make("td", {}, what)));
  const dialog = make("dialog", { class: "wb-dialog", "aria-label": `Keys of ${title}` },
    make("h3", { tabindex: -1, autofocus: true }, "Keys"), make("table", {}, make("tbody", {}, rows)),
    make("form", { method: "dialog" }, make("button", { class: "wb-button" }, "Close")));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  return dialog;
}

// Theme and size: as the page around, until somebody chooses; the choice is this browser's.
function lookButtons(root) {
  const show = () => {
    root.dataset.theme = remembered("theme") ?? surroundings();
    root.dataset.size = remembered("size") ?? "desk";
    theme.setAttribute("aria-pressed", String(root.dataset.theme === "dark"));
    size.setAttribute("aria-pressed", String(root.dataset.size === "hall"));
  };
  const theme = button("\u25d0", () => {
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    remember("theme", next === surroundings() ? null : next);
    show();
  }, { title: "Dark or light", "aria-label": "Dark colours" });
  const size = button("A\u2191", () => {
    remember("size", root.dataset.size === "hall" ? null : "hall");
    show();
    root.dispatchEvent(new CustomEvent("wb-resized"));
  }, { title: "Large, for a projector", "aria-label": "Large, for a projector" });
  const media = window.matchMedia("(prefers-color-scheme: dark)");
  const watch = new MutationObserver(show);
  if (document.body) watch.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  media.addEventListener("change", show);
  show();
  return { buttons: [size, theme], close() { watch.disconnect(); media.removeEventListener("change", show); } };
}

// ---------------------------------------------------------------------------------- numbers

export function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return bytes;
}

export function clamp(value, low, high) { return Math.min(high, Math.max(low, value)); }

// Offers a file to keep; made in the page, never fetched.
export function keep(name, content, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const url = URL.createObjectURL(blob);
  const link = make("a", { href: url, download: name, style: "display:none" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
